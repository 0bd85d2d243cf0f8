// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>
#include <qlr/decompose/factor_storage.hpp>
#include <qlr/decompose/metric.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/quant/quantizer.hpp>

#include <concepts>
#include <utility>
#include <vector>

namespace qlr {

/// backend_policy plus the steps of the decomposer; X (m,n) is the one work matrix, L is kept as left (r,m).
///
/// W is a view of the backend's memory_space. A backend may keep what it made of a metric, which must outlive
/// it; a copy of a backend starts without.
/// - subtract_product(W, left, right, X): X = W - L R
/// - subtract_from(left, right, X): X = X - L R
/// - subtract_quantized(W, Q, X): X = W - Q
/// - extrapolate(Q, factor, X): X = Q + factor (X - Q)
/// - apply_metric(metric, X): X = D X S
/// - scale_cols(x, weights, invert): columns of x times (or divided by) weights; empty weights do nothing
/// - row_norms(x): Euclidean norms of the rows (1, rows); 1 for a row of zeros
/// - dot(a, b): sum of a_ij b_ij in double
/// - solve_gram(basis, rhs): rhs = (basis basis^T)^+ rhs for basis (r,k) and rhs (r,c), r small
/// - root_of(covariance): B (n,k) in the backend's memory
/// - from_host(x): a small host matrix, or a quantized one, in the backend's memory; to_host(x): the reverse,
///   a reference where nothing needs to be copied
/// - largest_of_columns(W): the largest magnitude of each column (n), on the host
/// - weight_energies(W, metric): squared norms of W
/// - residual_energies(X, Q, metric): squared norms of X - Q
/// - quantize(quantizer, X, hints): codes and scales of X
/// - couple(covariance, right, feedback, use): how the errors of columns act on one another, see
/// feedback_options;
///   right may have no rows
/// - quantize_coupled(quantizer, X, coupling, hints, descents): Q by error feedback, then coordinate descent
/// - descend(quantizer, Q, X, coupling, passes): coordinate descent from Q on its own scales
/// - store_factor(factor, storage): replaces a factor by what its storage decodes to
template <class Backend>
concept decompose_backend_policy = backend_policy<Backend> &&
    requires(const Backend backend, matrix_view<const float, typename Backend::memory_space> weight,
             typename Backend::matrix_type& x, const quantized_matrix& given,
             const typename Backend::matrix_type& factor, const typename Backend::quantized_type& q,
             const metric& weights, const std::vector<float>& values, const any_quantizer& quantizer,
             const quantize_hints& hints, const input_covariance& covariance,
             const feedback_options& feedback, const typename Backend::coupling_type& coupling) {
  backend.subtract_product(weight, factor, factor, x);
  backend.subtract_from(factor, factor, x);
  backend.subtract_quantized(weight, q, x);
  backend.extrapolate(q, 1.0F, x);
  backend.apply_metric(weights, x);
  backend.scale_cols(x, values, true);
  { backend.row_norms(factor) } -> std::same_as<typename Backend::matrix_type>;
  { backend.dot(factor, factor) } -> std::same_as<double>;
  backend.solve_gram(factor, x);
  { backend.root_of(covariance) } -> std::convertible_to<const typename Backend::matrix_type&>;
  { backend.from_host(matrix<float>()) } -> std::same_as<typename Backend::matrix_type>;
  { backend.from_host(given) } -> std::same_as<typename Backend::quantized_type>;
  { backend.to_host(std::move(x)) } -> std::same_as<matrix<float>>;
  { backend.to_host(q) } -> std::convertible_to<const quantized_matrix&>;
  { backend.largest_of_columns(weight) } -> std::same_as<std::vector<float>>;
  { backend.weight_energies(weight, weights) } -> std::same_as<energies>;
  { backend.residual_energies(factor, q, weights) } -> std::same_as<energies>;
  { backend.quantize(quantizer, factor, hints) } -> std::same_as<typename Backend::quantized_type>;
  {
    backend.couple(covariance, factor, feedback, coupling_use::feedback)
    } -> std::same_as<typename Backend::coupling_type>;
  {
    backend.quantize_coupled(quantizer, factor, coupling, hints, 1)
    } -> std::same_as<typename Backend::quantized_type>;
  { backend.descend(quantizer, q, factor, coupling, 1) } -> std::same_as<typename Backend::quantized_type>;
  backend.store_factor(x, factor_storage::fp16);
};

} // namespace qlr
