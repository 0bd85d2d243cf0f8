// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/backend.hpp>
#include <qlr/decompose/detail/stopwatch.hpp>
#include <qlr/decompose/iterate_parts.hpp>
#include <qlr/decompose/low_rank_step.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/decompose/rank_split.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/decompose/validation.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <utility>

namespace qlr {

/// The alternating loop behind every method: minimises || D (W - Q - L R) S ||_F by turns over Q and L R.
///
/// @tparam Backend    memory and arithmetic
/// @tparam Quantizer  codes and scales
/// @tparam T          element type of W
template <decompose_backend_policy Backend, quantizer_policy Quantizer, weight_scalar T>
class decomposer {
public:
  using matrix_type = typename Backend::matrix_type;
  using quantized_type = typename Backend::quantized_type;

  using weight_view = matrix_view<const T, typename Backend::memory_space>;

  /// A relative error of Q, L transposed (r,m) and R (r,n) in the backend's memory.
  using judge_function = std::function<double(const quantized_type&, const matrix_type&, const matrix_type&)>;

  /// All arguments must outlive the decomposer.
  decomposer(const Backend& backend, matrix_view<const T, typename Backend::memory_space> weight,
             const Quantizer& quantizer, const metric& weights, const decompose_options& options)
      : backend_(backend), weight_(weight), quantizer_(quantizer), metric_(weights), options_(options),
        work_(backend.allocate(weight.rows(), weight.cols())), left_(backend.allocate(0, weight.rows())),
        right_(backend.allocate(0, weight.cols())), low_rank_(backend, metric_, options) {}

  /// Judges iterates instead of options.judge, without a copy to the host.
  void judge_by(judge_function judge) { judge_ = std::move(judge); }

  /// Runs the schedule; once.
  [[nodiscard]] search_result<Backend> run() {
    {
      const detail::stopwatch total(result_.seconds_total);
      norms_ = backend_.weight_energies(weight_, metric_);
      if (options_.form == decomposition_form::fixed_q) {
        fit_to_given();
      } else {
        if (options_.steps.compares_plain) consider_plain();
        if (result_.reason != stop_reason::exact) iterate();
      }
    }
    result_.best_iteration = best_.iteration;
    result_.relative_error = best_.relative_error;
    result_.weighted_error = best_.weighted_error;
    quantized_.reset(); // it may be the best one
    return {std::move(result_),
            {std::move(*best_quantized_), {std::move(best_left_), std::move(best_right_)}}};
  }

private:
  /// One outlier channel for this many ranks (ODLRI: 16 for rank 256).
  static constexpr index_t outlier_ranks = 16;

  void iterate() {
    begin();
    const schedule& steps = options_.steps;
    for (int t = 0; t < steps.iterations; ++t) {
      if (steps.first == half_step::quantize) {
        quantize(t);
        if (judges_half_steps()) finish_iteration(t + 1);
        fit_low_rank();
      } else {
        fit_low_rank();
        if (judges_half_steps() && t > 0) finish_iteration(t + 1);
        quantize(t);
      }
      finish_iteration(t + 1);
      if (should_stop(t)) break;
    }
    polish();
  }

  void finish_iteration(int iteration) {
    load_residual();
    record(iteration);
    result_.iterations_run = iteration;
  }

  /// L R before the first half-step.
  void begin() {
    if (!options_.steps.has_low_rank || options_.rank == 0) return;
    switch (options_.steps.start) {
    case low_rank_start::zero:
      return;
    case low_rank_start::weight:
      return fit_low_rank();
    case low_rank_start::eigenvectors:
      return start_from_eigenvectors();
    case low_rank_start::outliers:
      return start_from_outliers();
    case low_rank_start::preserved:
      return preserve();
    }
  }

  /// R = the leading eigenvectors of H, those of its root; L = 0.
  void start_from_eigenvectors() {
    if (!metric_.has_covariance()) return;
    const detail::stopwatch time(result_.seconds_svd);
    const matrix_type& root = backend_.root_of(*metric_.covariance);
    randomized_svd<Backend> solver(options_.sketch);
    right_ = solver.solve(backend_, root, std::min(options_.rank, root.cols())).left;
    left_ = backend_.from_host(matrix<float>(right_.rows(), weight_.rows(), 0.0F));
  }

  /// R selects the input channels of largest variance, L holds those columns of W.
  void start_from_outliers() {
    const index_t count = std::max<index_t>(1, options_.rank / outlier_ranks);
    const std::vector<index_t> columns = detail::largest_variances(metric_, weight_.cols(), count);
    if (columns.empty()) return;
    matrix<float> selection(static_cast<index_t>(columns.size()), weight_.cols(), 0.0F);
    for (index_t k = 0; k < selection.rows(); ++k) selection(k, columns[static_cast<std::size_t>(k)]) = 1.0F;
    right_ = backend_.from_host(std::move(selection));
    load_residual();
    left_ = backend_.allocate(right_.rows(), weight_.rows());
    backend_.gemm(transpose::yes, 1.0F, right_, work_, 0.0F, left_); // (k,n) (n,m)
    holds_residual_ = false;
  }

  /// L R = the k leading directions of W, k from detail::preserved_rank; they stay.
  void preserve() {
    if (options_.steps.preserved_rank) {
      num_preserved_ = *options_.steps.preserved_rank;
    } else {
      const detail::stopwatch time(result_.seconds_svd);
      load_residual();
      // A warm start belongs to one matrix, so each spectrum has a step of its own.
      const matrix<float> signal = low_rank_step<Backend>(backend_, metric_, options_).spectrum(work_);
      // Noise of the shape of a quantization error: independent, uniform; its size cancels.
      backend_.fill_random(work_, 0, options_.sketch.seed);
      holds_residual_ = false;
      const matrix<float> noise = low_rank_step<Backend>(backend_, metric_, options_).spectrum(work_);
      num_preserved_ = detail::preserved_rank(signal, noise, options_.rank);
    }
    if (num_preserved_ == 0) return;
    const index_t kept = std::exchange(num_preserved_, 0);
    fit_low_rank(kept);
    num_preserved_ = left_.rows();
    preserved_ = {detail::copy_of(backend_, left_), detail::copy_of(backend_, right_)};
  }

  /// Iterate 0: quantization of W as the quantizer is configured, without a low-rank part.
  void consider_plain() {
    load_residual();
    quantized_ = quantize_nearest({});
    record(0);
    if (best_.weighted_error == 0.0) result_.reason = stop_reason::exact;
    quantized_.reset();
  }

  /// L R for a given Q.
  void fit_to_given() {
    if (options_.given != nullptr) {
      quantized_ = std::make_shared<quantized_type>(backend_.from_host(*options_.given));
    } else {
      load_residual();
      quantized_ = quantize_nearest({});
    }
    fit_low_rank();
    finish_iteration(1);
  }

  /// work = W - L R.
  void load_residual() {
    if (!holds_residual_) backend_.subtract_product(weight_, left_, right_, work_);
    holds_residual_ = true;
  }

  /// work = what the low-rank step approximates: W - Q, without the directions that stay; W while there is no
  /// Q.
  void load_quantization_error() {
    holds_residual_ = false;
    if (!quantized_) {
      backend_.subtract_product(weight_, backend_.allocate(0, weight_.rows()),
                                backend_.allocate(0, weight_.cols()), work_);
      return;
    }
    backend_.subtract_quantized(weight_, *quantized_, work_);
    if (num_preserved_ > 0) backend_.subtract_from(preserved_.left, preserved_.right, work_);
  }

  [[nodiscard]] bool uses_feedback() const {
    return options_.steps.step == quantize_step::feedback && metric_.has_covariance();
  }

  /// Coarse factors leave errors that only a Q found after them makes up for.
  [[nodiscard]] bool judges_half_steps() const {
    return options_.steps.judges_half_steps || (uses_feedback() && is_quantized(options_.factors));
  }

  /// Q for W - L R, relaxed in the early iterations.
  void quantize(int t) {
    load_residual();
    if (uses_feedback()) return quantize_with_feedback();
    const float w = relaxation_factor(t);
    if (quantized_ && w != 1.0F) {
      backend_.extrapolate(*quantized_, w, work_);
      holds_residual_ = false;
    }
    quantize_hints hints;
    if (options_.steps.searches_scales) {
      hints.search = scale_search_mode::on;
      if (!metric_.col_weights.empty()) hints.column_weights = squared_col_weights();
    }
    quantized_ = quantize_nearest(hints);
  }

  [[nodiscard]] std::shared_ptr<quantized_type> quantize_nearest(const quantize_hints& hints) {
    const detail::stopwatch time(result_.seconds_quantize);
    return std::make_shared<quantized_type>(backend_.quantize(quantizer_, work_, hints));
  }

  void quantize_with_feedback() {
    const detail::stopwatch time(result_.seconds_quantize);
    const auto coupling = couple(coupling_use::feedback);
    quantize_hints hints;
    if (options_.steps.searches_scales) hints.search = scale_search_mode::on;
    hints.column_weights = coupling.importance.data();
    quantized_ = std::make_shared<quantized_type>(
        backend_.quantize_coupled(quantizer_, work_, coupling, hints, options_.steps.feedback.descents));
  }

  [[nodiscard]] typename Backend::coupling_type couple(coupling_use use) const {
    feedback_options feedback = options_.steps.feedback;
    feedback.factor_noise = rounding_noise(options_.factors);
    // What is rounded coarsely is not what a refit would make up for.
    const bool is_coarse = options_.factors == factor_storage::int4 ||
                           (is_quantized(options_.factors) && use == coupling_use::descent);
    if (feedback.knows_low_rank && !is_coarse)
      return backend_.couple(*metric_.covariance, right_, feedback, use);
    return backend_.couple(*metric_.covariance, backend_.allocate(0, weight_.cols()), feedback, use);
  }

  /// From the best iterate: Q descends on its own scales, L R follows; no round can raise the error but for
  /// the rounding of the factors.
  void polish() {
    if (options_.steps.polish_rounds == 0 || !metric_.has_covariance()) return;
    if (best_.weighted_error == 0.0) return;
    quantized_ = best_quantized_;
    left_ = detail::copy_of(backend_, best_left_);
    right_ = detail::copy_of(backend_, best_right_);
    holds_residual_ = false;
    for (int round = 0; round < options_.steps.polish_rounds; ++round) {
      const double before = best_.weighted_error;
      load_residual();
      {
        const detail::stopwatch time(result_.seconds_quantize);
        constexpr int passes = 2;
        quantized_ = std::make_shared<quantized_type>(
            backend_.descend(quantizer_, *quantized_, work_, couple(coupling_use::descent), passes));
      }
      if (judges_half_steps()) finish_iteration(result_.iterations_run + 1);
      fit_low_rank();
      finish_iteration(result_.iterations_run + 1);
      if (best_.weighted_error > (1.0 - options_.steps.tolerance_rel) * before) return;
    }
  }

  [[nodiscard]] float relaxation_factor(int t) const {
    const schedule& steps = options_.steps;
    if (t >= steps.relaxed_iterations) return 1.0F;
    return 1.0F +
           steps.relaxation * (1.0F - static_cast<float>(t) / static_cast<float>(steps.relaxed_iterations));
  }

  const float* squared_col_weights() {
    if (squared_weights_.empty()) {
      squared_weights_ = metric_.col_weights;
      for (float& weight : squared_weights_) weight *= weight;
    }
    return squared_weights_.data();
  }

  void fit_low_rank() { fit_low_rank(options_.rank - num_preserved_); }

  /// L R for W - Q: `rank` vectors, after those that stay.
  void fit_low_rank(index_t rank) {
    if (!options_.steps.has_low_rank) return;
    load_quantization_error();
    const detail::stopwatch time(result_.seconds_svd);
    factor_pair<matrix_type> found = low_rank_.fit(work_, rank);
    left_ =
        num_preserved_ == 0 ? std::move(found.left) : detail::stacked(backend_, preserved_.left, found.left);
    right_ = num_preserved_ == 0 ? std::move(found.right)
                                 : detail::stacked(backend_, preserved_.right, found.right);
  }

  /// Measures the current iterate (work = W - L R) and keeps it if it is the best.
  void record(int iteration) {
    const energies error = backend_.residual_energies(work_, *quantized_, metric_);
    const auto relative = [](double energy, double norm) {
      return norm > 0 ? std::sqrt(energy / norm) : 0.0;
    };
    iteration_report report{iteration, relative(error.frobenius, norms_.frobenius),
                            relative(error.weighted, norms_.weighted), false};
    if (judge_) {
      report.weighted_error = judge_(*quantized_, left_, right_);
    } else if (options_.judge) {
      report.weighted_error =
          options_.judge(backend_.to_host(*quantized_), backend_.to_host(detail::copy_of(backend_, left_)),
                         backend_.to_host(detail::copy_of(backend_, right_)));
    }
    report.is_best = best_quantized_ == nullptr || report.weighted_error < best_.weighted_error;
    if (report.is_best) {
      best_ = report;
      best_quantized_ = quantized_;
      best_left_ = detail::copy_of(backend_, left_);
      best_right_ = detail::copy_of(backend_, right_);
    }
    result_.history.push_back(report);
    if (options_.on_iteration) options_.on_iteration(report);
  }

  [[nodiscard]] bool should_stop(int t) {
    const auto& history = result_.history;
    const double current = history.back().weighted_error;
    const auto stop = [&](stop_reason reason) {
      result_.reason = reason;
      return true;
    };
    if (current == 0.0) return stop(stop_reason::exact);
    if (t == 0) return false;
    if (options_.steps.stop == stop_rule::error_rises &&
        history.back().iteration - best_.iteration >= options_.steps.patience) {
      return stop(stop_reason::error_rose);
    }
    if (options_.steps.stop == stop_rule::stalls && t > options_.steps.relaxed_iterations + 2 &&
        current > (1.0 - options_.steps.tolerance_rel) * history[history.size() - 3].weighted_error) {
      return stop(stop_reason::stalled);
    }
    return false;
  }

  const Backend& backend_;
  weight_view weight_;
  const Quantizer& quantizer_;
  const metric& metric_;
  const decompose_options& options_;

  energies norms_;
  matrix_type work_;            // (m,n)
  bool holds_residual_ = false; // work = W - L R
  matrix_type left_;            // (r,m), 0 rows while L R = 0
  matrix_type right_;           // (r,n)
  std::shared_ptr<quantized_type> quantized_;
  low_rank_step<Backend> low_rank_;
  index_t num_preserved_ = 0; // leading vectors of L R that are never refitted
  factor_pair<matrix_type> preserved_{backend_.allocate(0, 0), backend_.allocate(0, 0)};
  std::vector<float> squared_weights_;
  judge_function judge_;

  iteration_report best_;
  std::shared_ptr<quantized_type> best_quantized_;
  matrix_type best_left_ = backend_.allocate(0, 0);
  matrix_type best_right_ = backend_.allocate(0, 0);
  decompose_result result_;
};

} // namespace qlr
