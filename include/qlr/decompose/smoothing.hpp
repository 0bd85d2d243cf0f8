// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/decompose/decomposer.hpp>
#include <qlr/decompose/iterate_parts.hpp>
#include <qlr/decompose/metric.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/quant/formats.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace qlr {

namespace detail {

/// lambda_j = |x_j|^alpha / |W_j|^(1 - alpha) for the largest magnitudes of input j and of column j of W,
/// divided by their geometric mean; 1 where either is zero.
[[nodiscard]] inline std::vector<float> smoothing_scales(const std::vector<float>& largest_input,
                                                         const std::vector<float>& largest_weight,
                                                         double alpha) {
  std::vector<double> logs(largest_input.size());
  double sum = 0;
  index_t count = 0;
  for (std::size_t j = 0; j < logs.size(); ++j) {
    if (!(largest_input[j] > 0) || !(largest_weight[j] > 0)) continue;
    logs[j] = alpha * std::log(static_cast<double>(largest_input[j])) -
              (1.0 - alpha) * std::log(static_cast<double>(largest_weight[j]));
    sum += logs[j];
    ++count;
  }
  const double mean = count > 0 ? sum / static_cast<double>(count) : 0.0;
  std::vector<float> scales(logs.size(), 1.0F);
  for (std::size_t j = 0; j < logs.size(); ++j) {
    if (!(largest_input[j] > 0) || !(largest_weight[j] > 0)) continue;
    // Neither W times a scale nor x divided by it may leave the range of float.
    scales[j] = static_cast<float>(std::exp(std::clamp(logs[j] - mean, -20.0, 20.0)));
  }
  return scales;
}

/// The covariance of x / lambda, with a root of it.
[[nodiscard]] inline std::shared_ptr<const input_covariance> smoothed_covariance(
    const input_covariance& h, const std::vector<float>& scales) {
  auto result = std::make_shared<input_covariance>(h);
  for (index_t i = 0; i < h.values.rows(); ++i) {
    const double row = 1.0 / static_cast<double>(scales[static_cast<std::size_t>(i)]);
    for (index_t j = 0; j < h.values.cols(); ++j)
      result->values(i, j) *= row / static_cast<double>(scales[static_cast<std::size_t>(j)]);
    for (index_t j = 0; j < h.root.cols(); ++j)
      result->root(i, j) = static_cast<float>(row * static_cast<double>(h.root(i, j)));
  }
  return result;
}

/// Judges iterates with inputs that are quantized too: || X W^T - q(X') Q^T - X' R^T L^T || / || X W^T || for
/// X' = X diag(1 / lambda), on at most 1024 tokens at equal distances.
template <decompose_backend_policy Backend>
class quantized_input_judge {
public:
  using matrix_type = typename Backend::matrix_type;

  /// @param smoothed  W diag(lambda); must outlive the judge, as must the backend
  quantized_input_judge(const Backend& backend, const matrix_type& smoothed, const smoothing_options& options,
                        const std::vector<float>& scales)
      : backend_(backend), smoothed_(smoothed),
        inputs_(backend.from_host(divided_inputs(options.activations, scales))),
        rounded_(copy_of(backend, inputs_)), outputs_(backend.allocate(inputs_.rows(), smoothed.rows())) {
    const auto rounding = make_integer_quantizer(
        options.activation_bits, std::min(options.activation_group, inputs_.cols()), scale_type::fp32);
    backend.extrapolate(backend.quantize(rounding, inputs_, {}), 0.0F, rounded_); // nothing but q(X') is left
    backend.gemm(transpose::yes, 1.0F, inputs_, smoothed, 0.0F, outputs_);        // (t,n) (n,m)
    norm_ = backend.dot(outputs_, outputs_);
  }

  /// @param left, right  L transposed (r,m), R (r,n) for X'
  [[nodiscard]] double operator()(const typename Backend::quantized_type& q, const matrix_type& left,
                                  const matrix_type& right) const {
    matrix_type error = copy_of(backend_, outputs_);
    {
      matrix_type dense = copy_of(backend_, smoothed_);
      backend_.extrapolate(q, 0.0F, dense);
      backend_.gemm(transpose::yes, -1.0F, rounded_, dense, 1.0F, error); // (t,n) (n,m)
    }
    if (left.rows() > 0) {
      matrix_type inner = backend_.allocate(inputs_.rows(), right.rows());
      backend_.gemm(transpose::yes, 1.0F, inputs_, right, 0.0F, inner); // (t,n) (n,r)
      backend_.gemm(transpose::no, -1.0F, inner, left, 1.0F, error);    // (t,r) (r,m)
    }
    return norm_ > 0 ? std::sqrt(backend_.dot(error, error) / norm_) : 0.0;
  }

private:
  [[nodiscard]] static matrix<float> divided_inputs(matrix_view<const float> x,
                                                    const std::vector<float>& scales) {
    constexpr index_t most_tokens = 1024;
    const index_t step = (x.rows() + most_tokens - 1) / most_tokens;
    matrix<float> inputs((x.rows() + step - 1) / step, x.cols());
    for (index_t t = 0; t < inputs.rows(); ++t) {
      for (index_t j = 0; j < x.cols(); ++j)
        inputs(t, j) = x(t * step, j) / scales[static_cast<std::size_t>(j)];
    }
    return inputs;
  }

  const Backend& backend_;
  const matrix_type& smoothed_;
  matrix_type inputs_;  // X' (t,n)
  matrix_type rounded_; // q(X') (t,n)
  matrix_type outputs_; // (t,m)
  double norm_ = 0;
};

/// Runs the schedule for W diag(lambda) at one exponent.
template <decompose_backend_policy Backend, quantizer_policy Quantizer, weight_scalar T>
class smoothed_decomposer {
public:
  using matrix_type = typename Backend::matrix_type;

  smoothed_decomposer(const Backend& backend, matrix_view<const T, typename Backend::memory_space> weight,
                      const Quantizer& quantizer, const metric& weights, const decompose_options& options)
      : backend_(backend), weight_(weight), quantizer_(quantizer), metric_(weights), options_(options),
        largest_input_(largest_inputs()), largest_weight_(backend.largest_of_columns(weight)) {}

  /// The exponent whose first iterate has the lowest output error; the smallest of equals.
  [[nodiscard]] double find_exponent() const {
    decompose_options once = options_;
    once.steps.iterations = 1;
    once.on_iteration = {};
    double best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (int step = 0; step <= options_.smoothing.grid_steps; ++step) {
      const double alpha = static_cast<double>(step) / static_cast<double>(options_.smoothing.grid_steps);
      const double error = run(alpha, once).summary.weighted_error;
      if (error >= least) continue;
      least = error;
      best = alpha;
    }
    return best;
  }

  /// The decomposition of W itself: R on unsmoothed inputs, Q on smoothed ones.
  [[nodiscard]] search_result<Backend> run(double alpha, const decompose_options& options) const {
    const std::vector<float> scales = smoothing_scales(largest_input_, largest_weight_, alpha);
    metric weights;
    weights.covariance = smoothed_covariance(*metric_.covariance, scales);
    const Backend backend(backend_); // what it keeps of a metric belongs to this exponent
    matrix_type smoothed = backend.allocate(weight_.rows(), weight_.cols());
    backend.subtract_product(weight_, backend.allocate(0, weight_.rows()),
                             backend.allocate(0, weight_.cols()), smoothed);
    backend.scale_cols(smoothed, scales, false);
    std::optional<quantized_input_judge<Backend>> judge;
    if (options.smoothing.activation_bits < 16) judge.emplace(backend, smoothed, options.smoothing, scales);
    decomposer search(backend, std::as_const(smoothed).view(), quantizer_, weights, options);
    if (judge) search.judge_by(std::cref(*judge));
    search_result<Backend> found = search.run();
    found.best.input_scales = scales;
    finish(found, smoothed, judge ? &*judge : nullptr);
    return found;
  }

private:
  /// R for inputs as they are, as it is stored, and the errors that this leaves; overwrites W diag(lambda).
  void finish(search_result<Backend>& found, matrix_type& smoothed,
              const quantized_input_judge<Backend>* judge) const {
    iterate_parts<Backend>& parts = found.best;
    const std::vector<float>& scales = parts.input_scales;
    matrix_type& right = parts.factors.right;
    backend_.scale_cols(right, scales, true);
    backend_.store_factor(right, options_.factors);
    if (judge != nullptr || options_.judge) {
      matrix_type divided = copy_of(backend_, right);
      backend_.scale_cols(divided, scales, false);
      found.summary.weighted_error =
          judge != nullptr ? (*judge)(parts.quantized, parts.factors.left, divided)
                           : options_.judge(backend_.to_host(parts.quantized),
                                            backend_.to_host(copy_of(backend_, parts.factors.left)),
                                            backend_.to_host(std::move(divided)));
    }
    matrix_type& error = smoothed; // W - Q diag(1 / lambda) - L R
    backend_.subtract_quantized(std::as_const(smoothed).view(), parts.quantized, error);
    backend_.scale_cols(error, scales, true);
    backend_.subtract_from(parts.factors.left, right, error);
    const energies left_over = backend_.weight_energies(std::as_const(error).view(), metric_);
    const energies norms = backend_.weight_energies(weight_, metric_);
    const auto relative = [](double energy, double norm) {
      return norm > 0 ? std::sqrt(energy / norm) : 0.0;
    };
    found.summary.relative_error = relative(left_over.frobenius, norms.frobenius);
    if (judge == nullptr && !options_.judge)
      found.summary.weighted_error = relative(left_over.weighted, norms.weighted);
  }

  [[nodiscard]] std::vector<float> largest_inputs() const {
    if (!options_.smoothing.largest.empty()) return options_.smoothing.largest;
    std::vector<float> result;
    const matrix<double>& h = metric_.covariance->values;
    for (index_t j = 0; j < h.rows(); ++j)
      result.push_back(static_cast<float>(std::sqrt(std::max(0.0, h(j, j)))));
    return result;
  }

  const Backend& backend_;
  matrix_view<const T, typename Backend::memory_space> weight_;
  const Quantizer& quantizer_;
  const metric& metric_;
  const decompose_options& options_;
  std::vector<float> largest_input_;
  std::vector<float> largest_weight_;
};

inline void check_smoothing(const smoothing_options& options, index_t cols) {
  check_weights(options.largest, "largest inputs", cols, zero_weights::allowed);
  require(options.grid_steps >= 1, status_code::invalid_argument, "grid_steps is ", options.grid_steps,
          ", allowed are 1 and above");
  const bool is_quantized = options.activation_bits >= 2 && options.activation_bits <= 8;
  require(is_quantized || options.activation_bits == 16, status_code::invalid_argument, "activation_bits is ",
          options.activation_bits, ", allowed are 2 to 8 and 16");
  require(options.activation_group >= 1, status_code::invalid_argument, "activation_group is ",
          options.activation_group, ", allowed are 1 and above");
  if (!is_quantized) return;
  require(options.activations.rows() > 0 && options.activations.cols() == cols, status_code::shape_mismatch,
          "activations are ", options.activations.rows(), " x ", options.activations.cols(),
          ", activation_bits below 16 needs X with ", cols, " columns");
  require_finite(options.activations, "activations");
}

} // namespace detail

/// SVDQuant: W ~= Q diag(1 / lambda) + L R with lambda from a search over its exponent.
///
/// lambda_j = |x_j|^alpha / |W_j|^(1 - alpha), magnitudes being largest ones; every exponent of the grid is
/// judged by the output error of its first iterate, the best one runs the whole schedule. Q is found for W
/// diag(lambda) and multiplies x / lambda, L R multiplies x as it is.
/// @pre the metric has a covariance; validate() has passed
/// @throws qlr::error invalid_argument, shape_mismatch, non_finite: the smoothing options
/// @memory besides the decomposer's, W diag(lambda) and the covariance once more
/// @complexity grid_steps + 1 first iterations, then the schedule
/// @see Li et al., SVDQuant, arXiv 2411.05007, section 4; Xiao et al., SmoothQuant, arXiv 2211.10438,
/// equation 4
template <decompose_backend_policy Backend, quantizer_policy Quantizer, weight_scalar T>
[[nodiscard]] search_result<Backend> search_smoothed(
    const Backend& backend, matrix_view<const T, typename Backend::memory_space> weight,
    const Quantizer& quantizer, const metric& weights, const decompose_options& options) {
  detail::check_smoothing(options.smoothing, weight.cols());
  const detail::smoothed_decomposer<Backend, Quantizer, T> smoothed(backend, weight, quantizer, weights,
                                                                    options);
  return smoothed.run(smoothed.find_exponent(), options);
}

/// The search behind decompose(), in the backend's memory; a schedule that smooths inputs does so where the
/// metric has a covariance.
///
/// @pre validate() has passed
/// @throws qlr::error unsupported: a scale or factor beyond the range of its storage
/// @throws qlr::error invalid_argument, shape_mismatch, non_finite: the smoothing options
template <decompose_backend_policy Backend, quantizer_policy Quantizer, weight_scalar T>
[[nodiscard]] search_result<Backend> search_decomposition(
    const Backend& backend, matrix_view<const T, typename Backend::memory_space> weight,
    const Quantizer& quantizer, const metric& weights, const decompose_options& options) {
  const bool is_joint = options.form == decomposition_form::joint;
  if (options.steps.smooths_inputs && weights.has_covariance() && is_joint)
    return search_smoothed(backend, weight, quantizer, weights, options);
  return decomposer(backend, weight, quantizer, weights, options).run();
}

} // namespace qlr
