// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/adapter.hpp>
#include <qlr/host/detail/adapter_als.hpp>
#include <qlr/host/detail/adapter_sgd.hpp>
#include <qlr/host/detail/adapter_svd.hpp>
#include <qlr/host/eigen_maps.hpp>

#include <chrono>
#include <cmath>
#include <concepts>
#include <limits>
#include <utility>

namespace qlr {

namespace host::detail {

/// Runs the steps of quantize_adapter on vectors in rows.
template <std::same_as<float> Scalar>
class adapter_quantizer {
public:
  /// @param left, right  L transposed (r,m) and R (r,n)
  adapter_quantizer(const matrix<Scalar>& left, const matrix<Scalar>& right, const adapter_options& options,
                    const executor& run)
      : original_left_(left), original_right_(right), options_(options), run_(run),
        low_(make_low_quantizer(options)), high_(make_high_quantizer(options, options.range)) {}

  adapter_result run(float scale) {
    const auto start = clock::now();
    if (options_.basis == adapter_basis::given) {
      pairs_ = {original_left_, original_right_, {}};
      split_rank_ = original_left_.rows();
    } else {
      pairs_ = singular_pairs(original_left_, original_right_, run_);
      split_rank_ = split_rank_of(pairs_.values, options_.ratio, options_.split);
    }
    adapter_result result;
    result.seconds_svd = seconds_since(start);
    result.adapter = encode(pairs_.left, pairs_.right, high_);
    result.adapter.scale = scale;
    const product_distance distance = distance_of(result.adapter);
    result.norm = distance.norm;
    result.relative_error = result.relative_error_rounded = distance.relative_error;
    const auto rounded = clock::now();
    if (options_.refinement == adapter_refinement::sgd) refine_by_descent(result);
    if (options_.refinement == adapter_refinement::als) refine_by_fitting(result);
    result.seconds_refine = seconds_since(rounded);
    result.seconds_total = seconds_since(start);
    return result;
  }

private:
  using clock = std::chrono::steady_clock;

  static double seconds_since(clock::time_point start) {
    return std::chrono::duration<double>(clock::now() - start).count();
  }

  [[nodiscard]] quantized_vectors encode(const matrix<float>& vectors, const any_quantizer& high) const {
    const index_t rest = vectors.rows() - split_rank_;
    return {high.quantize(vectors.view().middle_rows(0, split_rank_), {}, run_),
            low_.quantize(vectors.view().middle_rows(split_rank_, rest), {}, run_)};
  }

  [[nodiscard]] quantized_adapter encode(const matrix<float>& left, const matrix<float>& right,
                                         const any_quantizer& high) const {
    return {encode(left, high), encode(right, high), 1.0F};
  }

  [[nodiscard]] product_distance distance_of(const quantized_adapter& adapter) const {
    return compare_products(original_left_, original_right_, left_vectors(adapter),
                            dequantize_right(adapter, run_), run_);
  }

  [[nodiscard]] matrix<float> left_vectors(const quantized_adapter& adapter) const {
    matrix<float> vectors(adapter.rank(), adapter.rows());
    const index_t h = adapter.split_rank();
    dequantize(adapter.left.high.view(), vectors.view().middle_rows(0, h), run_);
    dequantize(adapter.left.low.view(), vectors.view().middle_rows(h, adapter.rank() - h), run_);
    return vectors;
  }

  /// Replaces the adapter of the result by a better one.
  void offer(quantized_adapter&& candidate, adapter_result& result) const {
    const double error = distance_of(candidate).relative_error;
    if (!(error < result.relative_error)) return;
    candidate.scale = result.adapter.scale;
    result.adapter = std::move(candidate);
    result.relative_error = error;
  }

  void refine_by_descent(adapter_result& result) {
    // The gradient is that of a range, so a search for the scale has no place in the loop.
    const any_quantizer high = make_high_quantizer(
        options_, options_.range == adapter_range::searched ? adapter_range::extended : options_.range);
    matrix<float> left(pairs_.left);
    matrix<float> right(pairs_.right);
    for_each_range(run_, split_rank_, 1, [&](index_t k, index_t) {
      descend_pair(left.view().row(k), left.cols(), right.view().row(k), right.cols(), high, options_);
    });
    offer(encode(left, right, high), result);
  }

  void refine_by_fitting(adapter_result& result) {
    // Elements of order one, so that float products of vectors stay in range; powers of two are exact.
    const int left_exponent = unit_exponent(pairs_.left);
    const int right_exponent = unit_exponent(pairs_.right);
    const any_quantizer high = make_high_quantizer(options_, adapter_range::searched);
    adapter_fit<float> fit(scaled(pairs_.left, left_exponent), scaled(pairs_.right, right_exponent),
                           split_rank_, high, low_);
    fit.start();
    double last = std::numeric_limits<double>::infinity();
    while (true) {
      const double error =
          compare_products(fit.left().exact, fit.right().exact, fit.left().rounded, fit.right().rounded, run_)
              .relative_error;
      if (error < result.relative_error) {
        offer(encode(scaled(fit.left().target, -left_exponent), scaled(fit.right().target, -right_exponent),
                     high),
              result);
      }
      if (!(error < last * (1.0 - options_.als_tolerance)) || result.sweeps_run == options_.als_sweeps)
        return;
      last = error;
      fit.sweep();
      ++result.sweeps_run;
    }
  }

  static matrix<float> scaled(const matrix<float>& x, int exponent) {
    matrix<float> result(x);
    map(result) *= std::ldexp(1.0F, exponent);
    return result;
  }

  const matrix<Scalar>& original_left_;
  const matrix<Scalar>& original_right_;
  const adapter_options& options_;
  const executor& run_;
  any_quantizer low_;
  any_quantizer high_;
  vector_pairs pairs_;
  index_t split_rank_ = 0;
};

} // namespace host::detail

/// Quantizes a LoRA adapter s L R in mixed precision: leading singular pairs at 2 or 3 bits, the others at 1.
///
/// @param[in] left     L (m,r), `lora_B`: float or double, any strides; not modified
/// @param[in] right    R (r,n), `lora_A`
/// @param     options  bits, split, grouping, refinement; see adapter_options
/// @param     scale    s, stored as it is
/// @param     run      threads
/// @returns the best of rounding to nearest and the refinement, with its error
/// @throws qlr::error invalid_argument, shape_mismatch, non_finite: see validate(); before any work starts
/// @throws qlr::error unsupported: a scale beyond the range of its format
/// @memory O(r (m + n)); L R is never formed
/// @complexity O(r^2 (m + n)), with als for each sweep
/// @determinism the same bits on any number of threads
/// @see LoRAQuant, arXiv 2510.26690; als is this library's own
template <weight_scalar T>
[[nodiscard]] adapter_result quantize_adapter(matrix_view<const T> left, matrix_view<const T> right,
                                              const adapter_options& options = {}, float scale = 1.0F,
                                              const executor& run = {}) {
  validate(left, right, scale, options, run);
  const matrix<float> left_vectors = to_row_major(left.transposed()); // (r,m)
  const matrix<float> right_vectors = to_row_major(right);            // (r,n)
  return host::detail::adapter_quantizer<float>(left_vectors, right_vectors, options, run).run(scale);
}

/// @copydoc quantize_adapter
///
/// Takes Eigen matrices, maps and blocks.
template <class Left, class Right>
  requires weight_scalar<typename Left::Scalar> && std::same_as<typename Left::Scalar, typename Right::Scalar>
[[nodiscard]] adapter_result quantize_adapter(const Eigen::DenseBase<Left>& left,
                                              const Eigen::DenseBase<Right>& right,
                                              const adapter_options& options = {}, float scale = 1.0F,
                                              const executor& run = {}) {
  return quantize_adapter(host::view_of(left), host::view_of(right), options, scale, run);
}

} // namespace qlr
