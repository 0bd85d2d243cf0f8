// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/backend.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/lowrank/randomized_svd.hpp>
#include <qlr/lowrank/truncated_svd.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

namespace qlr {

/// L transposed (r,m) and R (r,n).
template <class Matrix>
struct factor_pair {
  Matrix left;
  Matrix right;
};

namespace detail {

template <backend_policy Backend>
[[nodiscard]] typename Backend::matrix_type copy_of(const Backend& backend,
                                                    const typename Backend::matrix_type& x) {
  typename Backend::matrix_type copy = backend.allocate(x.rows(), x.cols());
  backend.copy(x, copy);
  return copy;
}

/// The rows of one matrix, then those of another.
template <backend_policy Backend>
[[nodiscard]] typename Backend::matrix_type stacked(const Backend& backend,
                                                    const typename Backend::matrix_type& above,
                                                    const typename Backend::matrix_type& below) {
  typename Backend::matrix_type both = backend.allocate(above.rows() + below.rows(), above.cols());
  backend.copy_rows(above, 0, both, 0);
  backend.copy_rows(below, 0, both, above.rows());
  return both;
}

} // namespace detail

/// The low-rank half-step: L R ~= E in the metric, as the factors are stored.
///
/// With D E S = U diag(sigma) V^T the best product is D^-1 U_r U_r^T D E: for a covariance R is this
/// projection of E, so that no root of it is inverted and directions that the data never excites, where every
/// R is equally good, are approximated too (the limit of vanishing damping). Only the product is determined;
/// how its size is split between the factors does not depend on the unit of the metric.
/// @tparam Backend  memory and arithmetic
template <decompose_backend_policy Backend>
class low_rank_step {
public:
  using matrix_type = typename Backend::matrix_type;
  using pair = factor_pair<matrix_type>;

  /// All arguments must outlive the step.
  low_rank_step(const Backend& backend, const metric& weights, const decompose_options& options)
      : backend_(backend), metric_(options.steps.ignores_metric ? identity_ : weights), options_(options),
        sketch_(options.sketch), projected_(backend.allocate(0, 0)) {}

  /// The best factors of this rank for E (m,n); overwrites E unless the metric is a covariance.
  [[nodiscard]] pair fit(matrix_type& error, index_t rank) {
    const matrix_type& weighted = weigh(error);
    singular_triplets<matrix_type> triplets = solve(weighted, rank);
    pair found = metric_.has_covariance() ? project(triplets.left, error) : unweigh(triplets);
    if (options_.steps.factor_refits == 0 || !is_quantized(options_.factors) || rank == 0) {
      store(found);
      return found;
    }
    return refit(std::move(found), error, weighted);
  }

  /// D E S: E itself, overwritten, unless the metric is a covariance.
  const matrix_type& weigh(matrix_type& error) {
    if (!metric_.has_covariance()) {
      backend_.apply_metric(metric_, error);
      return error;
    }
    const matrix_type& root = backend_.root_of(*metric_.covariance);
    if (projected_.rows() != error.rows()) projected_ = backend_.allocate(error.rows(), root.cols());
    backend_.gemm(transpose::no, 1.0F, error, root, 0.0F, projected_); // (m,n) (n,k)
    return projected_;
  }

  /// The leading singular triplets of a matrix, by the method that the options name.
  [[nodiscard]] singular_triplets<matrix_type> solve(const matrix_type& x, index_t rank) {
    const index_t most = std::min({rank, x.rows(), x.cols()}); // a covariance may have a smaller rank
    return options_.svd == svd_method::exact ? truncated_svd{}.solve(backend_, x, most)
                                             : sketch_.solve(backend_, x, most);
  }

  /// The norm of X (m,n) in the metric, then its `rank` largest singular values; overwrites X.
  [[nodiscard]] matrix<float> spectrum(matrix_type& x) {
    const matrix_type& weighted = weigh(x);
    const double energy = backend_.dot(weighted, weighted);
    const matrix<float> values = backend_.to_host(solve(weighted, options_.rank).values);
    matrix<float> result(1, values.cols() + 1);
    result(0, 0) = static_cast<float>(std::sqrt(energy));
    std::copy_n(values.data(), values.cols(), result.data() + 1);
    return result;
  }

private:
  /// The power of the singular values that L gets.
  [[nodiscard]] float left_share() const {
    switch (options_.steps.split) {
    case sigma_split::balanced:
      return 0.5F;
    case sigma_split::left:
      return 1.0F;
    case sigma_split::right:
      return 0.0F;
    }
    return 0.5F;
  }

  /// left = U^T (r,m) with orthonormal rows: L R = U U^T E.
  [[nodiscard]] pair project(matrix_type& left, const matrix_type& error) {
    const index_t rank = left.rows();
    pair found{std::move(left), backend_.allocate(rank, error.cols())};
    backend_.gemm(transpose::no, 1.0F, found.left, error, 0.0F, found.right); // (r,m) (m,n)
    const matrix_type norms = backend_.row_norms(found.right);
    const float share = left_share();
    backend_.scale_rows(found.left, norms, share);
    backend_.scale_rows(found.right, norms, -share);
    return found;
  }

  /// D^-1 U sigma^p and sigma^(1-p) V^T S^-1.
  [[nodiscard]] pair unweigh(singular_triplets<matrix_type>& triplets) {
    const float share = left_share();
    if (share > 0) backend_.scale_rows(triplets.left, triplets.values, share);
    if (share < 1) backend_.scale_rows(triplets.right, triplets.values, 1.0F - share);
    backend_.scale_cols(triplets.left, metric_.row_weights, true);
    backend_.scale_cols(triplets.right, metric_.col_weights, true);
    return {std::move(triplets.left), std::move(triplets.right)};
  }

  void store(pair& factors) const {
    backend_.store_factor(factors.left, options_.factors);
    backend_.store_factor(factors.right, options_.factors);
  }

  /// Alternates least squares and rounding: given R as stored the best L, given L as stored the best R.
  ///
  /// @see Saha et al., CALDERA, arXiv 2405.18886, algorithm 2 (LPLR)
  [[nodiscard]] pair refit(pair start, const matrix_type& error, const matrix_type& weighted) {
    pair best{detail::copy_of(backend_, start.left), detail::copy_of(backend_, start.right)};
    store(best);
    double least = gain_of(best, weighted);
    pair current = std::move(start); // the first L is for R as it was found
    for (int i = 0; i < options_.steps.factor_refits; ++i) {
      const matrix_type basis = weighted_right(current.right);                  // (r,k)
      backend_.gemm(transpose::yes, 1.0F, basis, weighted, 0.0F, current.left); // (r,k) (k,m)
      backend_.solve_gram(basis, current.left);
      backend_.scale_cols(current.left, metric_.row_weights, true);
      backend_.store_factor(current.left, options_.factors);

      const matrix_type left = weighted_left(current.left);                 // (r,m)
      backend_.gemm(transpose::no, 1.0F, left, error, 0.0F, current.right); // (r,m) (m,n)
      backend_.solve_gram(left, current.right);
      backend_.scale_cols(current.right, metric_.col_weights, true);
      backend_.store_factor(current.right, options_.factors);

      const double gain = gain_of(current, weighted);
      if (gain >= least) continue;
      least = gain;
      best = {detail::copy_of(backend_, current.left), detail::copy_of(backend_, current.right)};
    }
    return best;
  }

  /// || Y - (D L) (R S) ||^2 - || Y ||^2 for Y = D E S, from products of rank r.
  [[nodiscard]] double gain_of(const pair& factors, const matrix_type& weighted) const {
    const matrix_type left = weighted_left(factors.left);    // (r,m)
    const matrix_type right = weighted_right(factors.right); // (r,k)
    const index_t r = left.rows();
    matrix_type cross = backend_.allocate(r, weighted.cols());
    backend_.gemm(transpose::no, 1.0F, left, weighted, 0.0F, cross); // (r,m) (m,k)
    matrix_type left_gram = backend_.allocate(r, r);
    matrix_type right_gram = backend_.allocate(r, r);
    backend_.gemm(transpose::yes, 1.0F, left, left, 0.0F, left_gram);
    backend_.gemm(transpose::yes, 1.0F, right, right, 0.0F, right_gram);
    return backend_.dot(left_gram, right_gram) - 2.0 * backend_.dot(cross, right);
  }

  [[nodiscard]] matrix_type weighted_right(const matrix_type& right) const { // R S
    if (!metric_.has_covariance()) {
      matrix_type x = detail::copy_of(backend_, right);
      backend_.scale_cols(x, metric_.col_weights, false);
      return x;
    }
    const matrix_type& root = backend_.root_of(*metric_.covariance);
    matrix_type x = backend_.allocate(right.rows(), root.cols());
    backend_.gemm(transpose::no, 1.0F, right, root, 0.0F, x); // (r,n) (n,k)
    return x;
  }

  [[nodiscard]] matrix_type weighted_left(const matrix_type& left) const { // (D L)^T
    matrix_type x = detail::copy_of(backend_, left);
    backend_.scale_cols(x, metric_.row_weights, false);
    return x;
  }

  const Backend& backend_;
  metric identity_;
  const metric& metric_;
  const decompose_options& options_;
  randomized_svd<Backend> sketch_;
  matrix_type projected_; // D E S (m,k) in the metric of a covariance
};

} // namespace qlr
