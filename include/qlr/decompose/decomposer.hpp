// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/backend.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/lowrank/randomized_svd.hpp>
#include <qlr/lowrank/truncated_svd.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

namespace qlr {

namespace detail {

/// Adds the time until it is destroyed to a counter.
class stopwatch {
public:
  explicit stopwatch(double& seconds) : seconds_(seconds), start_(clock::now()) {}
  stopwatch(const stopwatch&) = delete;
  stopwatch& operator=(const stopwatch&) = delete;
  ~stopwatch() { seconds_ += std::chrono::duration<double>(clock::now() - start_).count(); }

private:
  using clock = std::chrono::steady_clock;
  double& seconds_;
  clock::time_point start_;
};

} // namespace detail

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

  /// All arguments must outlive the decomposer.
  decomposer(const Backend& backend, matrix_view<const T> weight, const Quantizer& quantizer,
             const metric& weights, const decompose_options& options)
      : backend_(backend), weight_(weight), quantizer_(quantizer), metric_(weights), options_(options),
        work_(backend.allocate(weight.rows(), weight.cols())), left_(backend.allocate(0, weight.rows())),
        right_(backend.allocate(0, weight.cols())), sketch_(options.sketch) {}

  [[nodiscard]] decompose_result run() {
    {
      const detail::stopwatch total(result_.seconds_total);
      norms_ = backend_.weight_energies(weight_, metric_);
      if (options_.steps.compares_plain) consider_plain();
      if (result_.reason != stop_reason::exact) iterate();
    }
    return finish();
  }

private:
  void iterate() {
    const schedule& steps = options_.steps;
    if (steps.starts_from_weight && steps.has_low_rank) {
      load_residual();
      fit_low_rank();
    }
    for (int t = 0; t < steps.iterations; ++t) {
      if (steps.first == half_step::quantize) {
        quantize(t);
        if (steps.has_low_rank) {
          load_quantization_error();
          fit_low_rank();
        }
      } else {
        load_quantization_error();
        if (steps.has_low_rank) fit_low_rank();
        quantize(t);
      }
      load_residual();
      record(t + 1);
      result_.iterations_run = t + 1;
      if (should_stop(t)) return;
    }
  }

  /// Iterate 0: quantization of W as the quantizer is configured, without a low-rank part.
  void consider_plain() {
    load_residual();
    {
      const detail::stopwatch time(result_.seconds_quantize);
      quantized_ = std::make_shared<quantized_type>(backend_.quantize(quantizer_, work_, quantize_hints{}));
    }
    record(0);
    if (best_.weighted_error == 0.0) result_.reason = stop_reason::exact;
    quantized_.reset();
  }

  /// work = W - L R.
  void load_residual() {
    if (!holds_residual_) backend_.subtract_product(weight_, left_, right_, work_);
    holds_residual_ = true;
  }

  /// work = W - Q, or W while there is no Q (then L R is still 0).
  void load_quantization_error() {
    if (!quantized_) return load_residual();
    backend_.subtract_quantized(weight_, *quantized_, work_);
    holds_residual_ = false;
  }

  /// Q for W - L R, relaxed in the early iterations.
  void quantize(int t) {
    load_residual();
    const detail::stopwatch time(result_.seconds_quantize);
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
    quantized_ = std::make_shared<quantized_type>(backend_.quantize(quantizer_, work_, hints));
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

  /// L R = D^-1 SVD_r(D work S) S^-1; overwrites work.
  void fit_low_rank() {
    const detail::stopwatch time(result_.seconds_svd);
    holds_residual_ = false;
    backend_.apply_metric(metric_, work_);
    singular_triplets<matrix_type> triplets = options_.svd == svd_method::exact
                                                  ? truncated_svd{}.solve(backend_, work_, options_.rank)
                                                  : sketch_.solve(backend_, work_, options_.rank);
    const bool is_balanced = options_.steps.split == sigma_split::balanced;
    backend_.scale_rows(triplets.left, triplets.values, is_balanced ? 0.5F : 1.0F);
    if (is_balanced) backend_.scale_rows(triplets.right, triplets.values, 0.5F);
    backend_.scale_cols(triplets.left, metric_.row_weights, true);
    backend_.scale_cols(triplets.right, metric_.col_weights, true);
    backend_.store_factor(triplets.left, options_.factors);
    backend_.store_factor(triplets.right, options_.factors);
    left_ = std::move(triplets.left);
    right_ = std::move(triplets.right);
  }

  /// Measures the current iterate (work = W - L R) and keeps it if it is the best.
  void record(int iteration) {
    const energies error = backend_.residual_energies(work_, *quantized_, metric_);
    const auto relative = [](double energy, double norm) {
      return norm > 0 ? std::sqrt(energy / norm) : 0.0;
    };
    iteration_report report{iteration, relative(error.frobenius, norms_.frobenius),
                            relative(error.weighted, norms_.weighted), false};
    report.is_best = best_quantized_ == nullptr || report.weighted_error < best_.weighted_error;
    if (report.is_best) {
      best_ = report;
      best_quantized_ = quantized_;
      best_left_ = copy_of(left_);
      best_right_ = copy_of(right_);
    }
    result_.history.push_back(report);
    if (options_.on_iteration) options_.on_iteration(report);
  }

  [[nodiscard]] matrix_type copy_of(const matrix_type& x) const {
    matrix_type copy = backend_.allocate(x.rows(), x.cols());
    backend_.copy(x, copy);
    return copy;
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

  [[nodiscard]] decompose_result finish() {
    result_.best_iteration = best_.iteration;
    result_.relative_error = best_.relative_error;
    result_.weighted_error = best_.weighted_error;
    quantized_.reset();
    result_.best.quantized = std::move(*best_quantized_);
    result_.best.factors = options_.factors;
    const matrix<float> left = backend_.to_host(std::move(best_left_)); // (r,m)
    result_.best.left = to_row_major(left.view().transposed());         // (m,r)
    result_.best.right = backend_.to_host(std::move(best_right_));
    return std::move(result_);
  }

  const Backend& backend_;
  matrix_view<const T> weight_;
  const Quantizer& quantizer_;
  const metric& metric_;
  const decompose_options& options_;

  energies norms_;
  matrix_type work_;            // (m,n)
  bool holds_residual_ = false; // work = W - L R
  matrix_type left_;            // (r,m), 0 rows while L R = 0
  matrix_type right_;           // (r,n)
  std::shared_ptr<quantized_type> quantized_;
  randomized_svd<Backend> sketch_;
  std::vector<float> squared_weights_;

  iteration_report best_;
  std::shared_ptr<quantized_type> best_quantized_;
  matrix_type best_left_ = backend_.allocate(0, 0);
  matrix_type best_right_ = backend_.allocate(0, 0);
  decompose_result result_;
};

/// Checks what decompose() is given before any work starts.
///
/// @throws qlr::error invalid_argument: empty matrix, rank, iterations or oversampling out of range, a metric
/// weight that is not positive
/// @throws qlr::error shape_mismatch: the metric does not fit
/// @throws qlr::error unsupported: metric elements without contiguous rows
/// @throws qlr::error non_finite: an element of the weight is NaN or infinite in float
template <weight_scalar T, quantizer_policy Quantizer>
void validate(matrix_view<const T> weight, const Quantizer& quantizer, const metric& weights,
              const decompose_options& options, const executor& run) {
  require(!weight.is_empty(), status_code::invalid_argument, "weight is ", weight.rows(), " x ",
          weight.cols(), ", it must not be empty");
  const index_t largest = std::min(weight.rows(), weight.cols());
  require(options.rank >= 0 && options.rank <= largest, status_code::invalid_argument, "rank is ",
          options.rank, ", allowed for a ", weight.rows(), " x ", weight.cols(), " matrix are 0 to ",
          largest);
  require(options.steps.iterations >= 1, status_code::invalid_argument, "iterations is ",
          options.steps.iterations, ", allowed are 1 and above");
  require(options.sketch.oversampling >= 0, status_code::invalid_argument, "oversampling is ",
          options.sketch.oversampling, ", allowed are 0 and above");
  constexpr auto refused = detail::zero_weights::refused;
  detail::check_weights(weights.row_weights, "metric row weights", weight.rows(), refused);
  detail::check_weights(weights.col_weights, "metric column weights", weight.cols(), refused);
  require(weights.elements.is_empty() ||
              (weights.elements.rows() == weight.rows() && weights.elements.cols() == weight.cols()),
          status_code::shape_mismatch, "metric elements are ", weights.elements.rows(), " x ",
          weights.elements.cols(), ", the weight matrix is ", weight.rows(), " x ", weight.cols());
  require(weights.elements.is_empty() || weights.elements.has_contiguous_rows(), status_code::unsupported,
          "metric elements must have contiguous rows");
  (void)quantizer.layout(weight.rows(), weight.cols());
  require_finite(weight, "weight", run);
}

} // namespace qlr
