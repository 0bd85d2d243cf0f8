// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/error_metrics.hpp>
#include <qlr/core/finite.hpp>
#include <qlr/decompose/decomposer.hpp>
#include <qlr/decompose/metric.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/decompose/reconstruct.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/host/backend.hpp>
#include <qlr/host/output_error.hpp>
#include <qlr/quant/formats.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

namespace qlr::host {

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
template <std::same_as<float> Scalar>
class quantized_input_judge {
public:
  quantized_input_judge(const matrix<Scalar>& smoothed_weight, const smoothing_options& options,
                        const std::vector<float>& scales, const executor& run)
      : run_(run) {
    constexpr index_t most_tokens = 1024;
    const matrix_view<const float> x = options.activations;
    const index_t step = (x.rows() + most_tokens - 1) / most_tokens;
    inputs_ = matrix<float>((x.rows() + step - 1) / step, x.cols());
    for (index_t t = 0; t < inputs_.rows(); ++t) {
      for (index_t j = 0; j < x.cols(); ++j)
        inputs_(t, j) = x(t * step, j) / scales[static_cast<std::size_t>(j)];
    }
    const any_quantizer rounding =
        make_quantizer(sentence("int", options.activation_bits),
                       {.group_size = std::min(options.activation_group, x.cols()),
                        .scales = scale_format{scale_coding::plain, scale_type::fp32}});
    rounded_ = dequantize(rounding.quantize(std::as_const(inputs_).view(), {}, run), run);
    outputs_ = matrix<float>(inputs_.rows(), smoothed_weight.rows());
    basic_eigen_backend<Scalar>(run).gemm(transpose::yes, 1.0F, inputs_, smoothed_weight, 0.0F, outputs_);
    norm_ = basic_eigen_backend<Scalar>::dot(outputs_, outputs_);
  }

  [[nodiscard]] double operator()(const quantized_matrix& q, const matrix<float>& left,
                                  const matrix<float>& right) const {
    const basic_eigen_backend<Scalar> backend(run_);
    matrix<float> error(outputs_);
    const matrix<float> dense = dequantize(q, run_);
    backend.gemm(transpose::yes, -1.0F, rounded_, dense, 1.0F, error); // (t,n) (n,m)
    if (left.rows() > 0) {
      matrix<float> inner(inputs_.rows(), right.rows());
      backend.gemm(transpose::yes, 1.0F, inputs_, right, 0.0F, inner); // (t,n) (n,r)
      backend.gemm(transpose::no, -1.0F, inner, left, 1.0F, error);    // (t,r) (r,m)
    }
    return norm_ > 0 ? std::sqrt(backend.dot(error, error) / norm_) : 0.0;
  }

private:
  const executor& run_;
  matrix<float> inputs_;  // X' (t,n)
  matrix<float> rounded_; // q(X') (t,n)
  matrix<float> outputs_; // (t,m)
  double norm_ = 0;
};

/// Runs the schedule for W diag(lambda) at one exponent.
template <weight_scalar T, quantizer_policy Quantizer>
class smoothed_decomposer {
public:
  smoothed_decomposer(matrix_view<const T> weight, const Quantizer& quantizer, const metric& weights,
                      const decompose_options& options, const executor& run)
      : weight_(weight), quantizer_(quantizer), metric_(weights), options_(options), run_(run),
        largest_input_(largest_inputs()), largest_weight_(static_cast<std::size_t>(weight.cols())) {
    for (index_t i = 0; i < weight.rows(); ++i) {
      for (index_t j = 0; j < weight.cols(); ++j) {
        float& largest = largest_weight_[static_cast<std::size_t>(j)];
        largest = std::max(largest, std::fabs(static_cast<float>(weight(i, j))));
      }
    }
  }

  /// The exponent whose first iterate has the lowest output error; the smallest of equals.
  [[nodiscard]] double find_exponent() const {
    decompose_options once = options_;
    once.steps.iterations = 1;
    once.on_iteration = {};
    double best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (int step = 0; step <= options_.smoothing.grid_steps; ++step) {
      const double alpha = static_cast<double>(step) / static_cast<double>(options_.smoothing.grid_steps);
      const double error = run(alpha, once).weighted_error;
      if (error >= least) continue;
      least = error;
      best = alpha;
    }
    return best;
  }

  /// The decomposition of W itself: R on unsmoothed inputs, Q on smoothed ones.
  [[nodiscard]] decompose_result run(double alpha, decompose_options options) const {
    const std::vector<float> scales = smoothing_scales(largest_input_, largest_weight_, alpha);
    matrix<float> smoothed(weight_.rows(), weight_.cols());
    for (index_t i = 0; i < weight_.rows(); ++i) {
      for (index_t j = 0; j < weight_.cols(); ++j)
        smoothed(i, j) = static_cast<float>(weight_(i, j)) * scales[static_cast<std::size_t>(j)];
    }
    metric weights;
    weights.covariance = smoothed_covariance(*metric_.covariance, scales);
    if (options.smoothing.activation_bits < 16) {
      auto judge = std::make_shared<quantized_input_judge<float>>(smoothed, options.smoothing, scales, run_);
      options.judge = [judge](const quantized_matrix& q, const matrix<float>& left,
                              const matrix<float>& right) { return (*judge)(q, left, right); };
    }
    const basic_eigen_backend<float> backend(run_);
    const matrix_view<const float> view = std::as_const(smoothed).view();
    decompose_result result = decomposer(backend, view, quantizer_, weights, options).run();
    finish(result, scales, options);
    return result;
  }

private:
  /// R for inputs as they are, as it is stored, and the errors that this leaves.
  void finish(decompose_result& result, const std::vector<float>& scales,
              const decompose_options& options) const {
    decomposition& parts = result.best;
    for (index_t k = 0; k < parts.rank(); ++k) {
      for (index_t j = 0; j < parts.cols(); ++j) parts.right(k, j) /= scales[static_cast<std::size_t>(j)];
    }
    round_factor(parts.right, options.factors, run_);
    parts.input_scales = scales;
    const matrix<float> exact = to_row_major(weight_);
    const matrix<float> dense = reconstruct(parts, run_);
    result.relative_error = qlr::compare(exact.view(), dense.view()).relative_error;
    if (!options.judge) {
      result.weighted_error =
          relative_output_error(exact.view(), dense.view(), metric_.covariance->values, run_);
      return;
    }
    matrix<float> right(parts.right);
    for (index_t k = 0; k < parts.rank(); ++k) {
      for (index_t j = 0; j < parts.cols(); ++j) right(k, j) *= scales[static_cast<std::size_t>(j)];
    }
    const matrix<float> left = to_row_major(std::as_const(parts.left).view().transposed());
    result.weighted_error = options.judge(parts.quantized, left, right);
  }

  [[nodiscard]] std::vector<float> largest_inputs() const {
    if (!options_.smoothing.largest.empty()) return options_.smoothing.largest;
    std::vector<float> result;
    const matrix<double>& h = metric_.covariance->values;
    for (index_t j = 0; j < h.rows(); ++j)
      result.push_back(static_cast<float>(std::sqrt(std::max(0.0, h(j, j)))));
    return result;
  }

  matrix_view<const T> weight_;
  const Quantizer& quantizer_;
  const metric& metric_;
  const decompose_options& options_;
  const executor& run_;
  std::vector<float> largest_input_;
  std::vector<float> largest_weight_;
};

inline void check_smoothing(const smoothing_options& options, index_t cols) {
  qlr::detail::check_weights(options.largest, "largest inputs", cols, qlr::detail::zero_weights::allowed);
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
template <weight_scalar T, quantizer_policy Quantizer>
[[nodiscard]] decompose_result decompose_smoothed(matrix_view<const T> weight, const Quantizer& quantizer,
                                                  const decompose_options& options, const metric& weights,
                                                  const executor& run) {
  detail::check_smoothing(options.smoothing, weight.cols());
  const detail::smoothed_decomposer<T, Quantizer> smoothed(weight, quantizer, weights, options, run);
  return smoothed.run(smoothed.find_exponent(), options);
}

} // namespace qlr::host
