// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/decompose/metric.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/quant/quantizer.hpp>

#include <algorithm>
#include <optional>

namespace qlr {

namespace detail {

/// Whether the steps of a quantizer can be called one by one; any_quantizer knows only at run time.
template <quantizer_policy Quantizer>
[[nodiscard]] bool is_stepwise(const Quantizer& quantizer) {
  if constexpr (requires { quantizer.is_stepwise(); }) {
    return quantizer.is_stepwise();
  } else {
    return stepwise_quantizer_policy<Quantizer>;
  }
}

inline void check_metric(const metric& weights, index_t rows, index_t cols) {
  constexpr auto refused = zero_weights::refused;
  check_weights(weights.row_weights, "metric row weights", rows, refused);
  check_weights(weights.col_weights, "metric column weights", cols, refused);
  require(weights.elements.is_empty() || (weights.elements.rows() == rows && weights.elements.cols() == cols),
          status_code::shape_mismatch, "metric elements are ", weights.elements.rows(), " x ",
          weights.elements.cols(), ", the weight matrix is ", rows, " x ", cols);
  require(weights.elements.is_empty() || weights.elements.has_contiguous_rows(), status_code::unsupported,
          "metric elements must have contiguous rows");
  if (!weights.has_covariance()) return;
  const input_covariance& h = *weights.covariance;
  require(h.values.rows() == cols && h.values.cols() == cols && h.root.rows() == cols,
          status_code::shape_mismatch, "covariance is ", h.values.rows(), " x ", h.values.cols(),
          ", the weight matrix has ", cols, " columns");
  require(weights.row_weights.empty() && weights.col_weights.empty() && weights.elements.is_empty(),
          status_code::unsupported, "metric has a covariance and weights, allowed is one of them");
}

inline void check_given(const decompose_options& options, index_t rows, index_t cols) {
  if (options.given == nullptr) return;
  require(options.form == decomposition_form::fixed_q, status_code::invalid_argument,
          "given is set, but the form is joint; allowed with fixed_q");
  require(options.given->rows() == rows && options.given->cols() == cols, status_code::shape_mismatch,
          "given Q is ", options.given->rows(), " x ", options.given->cols(), ", the weight matrix is ", rows,
          " x ", cols);
}

/// Checks all but the elements of a weight matrix (rows, cols).
template <quantizer_policy Quantizer>
void check_arguments(index_t rows, index_t cols, const Quantizer& quantizer, const metric& weights,
                     const decompose_options& options) {
  require(rows > 0 && cols > 0, status_code::invalid_argument, "weight is ", rows, " x ", cols,
          ", it must not be empty");
  const index_t largest = std::min(rows, cols);
  require(options.rank >= 0 && options.rank <= largest, status_code::invalid_argument, "rank is ",
          options.rank, ", allowed for a ", rows, " x ", cols, " matrix are 0 to ", largest);
  require(options.steps.iterations >= 1, status_code::invalid_argument, "iterations is ",
          options.steps.iterations, ", allowed are 1 and above");
  require(options.sketch.oversampling >= 0, status_code::invalid_argument, "oversampling is ",
          options.sketch.oversampling, ", allowed are 0 and above");
  require(options.steps.polish_rounds >= 0 && options.steps.feedback.descents >= 0 &&
              options.steps.factor_refits >= 0,
          status_code::invalid_argument, "polish_rounds, descents or factor_refits is below 0");
  require(options.steps.feedback.damping >= 0 && is_finite(options.steps.feedback.damping),
          status_code::invalid_argument, "damping is ", options.steps.feedback.damping,
          ", allowed are 0 and above");
  const std::optional<index_t> kept = options.steps.preserved_rank;
  require(!kept || (*kept >= 0 && *kept <= options.rank), status_code::invalid_argument, "preserved_rank is ",
          kept.value_or(0), ", allowed are 0 to the rank, ", options.rank);
  check_metric(weights, rows, cols);
  check_given(options, rows, cols);
  const bool needs_steps = weights.has_covariance() &&
                           (options.steps.step == quantize_step::feedback || options.steps.polish_rounds > 0);
  require(!needs_steps || is_stepwise(quantizer), status_code::unsupported, "quantizer ", quantizer.name(),
          " has no fit_scales, round and assemble, which error feedback and coordinate descent need");
  (void)quantizer.layout(rows, cols);
}

} // namespace detail

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
  detail::check_arguments(weight.rows(), weight.cols(), quantizer, weights, options);
  require_finite(weight, "weight", run);
}

} // namespace qlr
