// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/adapter.hpp>
#include <qlr/host/eigen_maps.hpp>
#include <qlr/host/small_svd.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <utility>
#include <vector>

namespace qlr::host::detail {

/// Pairs of vectors whose outer products add up to L R.
struct vector_pairs {
  matrix<float> left;         ///< (p,m)
  matrix<float> right;        ///< (p,n)
  std::vector<double> values; ///< p singular values, descending; empty for a basis that is given
};

/// x = 2^-exponent triangle basis.
struct scaled_basis {
  matrix<float> basis;      ///< (q,n) with orthonormal rows, q = min(r,n)
  Eigen::MatrixXd triangle; ///< (r,q)
  int exponent;
};

/// A basis of the rows of x (r,n); where r exceeds n it is the identity.
template <std::same_as<float> Scalar>
scaled_basis row_basis_of(const matrix<Scalar>& x, const executor& run) {
  scaled_basis result{matrix<float>(x), {}, unit_exponent(x)};
  map(result.basis) *= std::ldexp(1.0F, result.exponent);
  if (x.rows() <= x.cols()) {
    result.triangle = thin_qr(result.basis, run).triangle;
    return result;
  }
  result.triangle = map(result.basis).template cast<double>();
  result.basis = matrix<float>(x.cols(), x.cols());
  map(result.basis).setIdentity();
  return result;
}

/// factor (p,q) basis (q,n).
template <std::same_as<float> Scalar>
matrix<Scalar> rotate(const Eigen::MatrixXd& factor, const matrix<Scalar>& basis, const executor& run) {
  const Eigen::MatrixX<Scalar> rotation = factor.cast<Scalar>();
  matrix<float> result(rotation.rows(), basis.cols());
  for_each_range(run, basis.cols(), 1024, [&](index_t begin, index_t end) {
    map(result).middleCols(begin, end - begin).noalias() =
        rotation * map(basis).middleCols(begin, end - begin);
  });
  return result;
}

/// U sqrt(S) and sqrt(S) V^T of L R from L transposed (r,m) and R (r,n); the product is never formed.
///
/// @complexity O(r^2 (m + n))
template <std::same_as<float> Scalar>
vector_pairs singular_pairs(const matrix<Scalar>& left, const matrix<Scalar>& right, const executor& run) {
  const scaled_basis l = row_basis_of(left, run);
  const scaled_basis r = row_basis_of(right, run);
  const index_t rows = l.triangle.cols();
  const index_t cols = r.triangle.cols();
  // Zeros make the core square; their singular values come last.
  Eigen::MatrixXd core = Eigen::MatrixXd::Zero(std::max(rows, cols), std::max(rows, cols));
  core.topLeftCorner(rows, cols) = l.triangle.transpose() * r.triangle; // (q,r) (r,q)
  const square_svd svd = svd_of_square(core);
  const index_t p = std::min(rows, cols);
  vector_pairs result;
  const double unit = std::ldexp(1.0, -l.exponent - r.exponent);
  for (index_t k = 0; k < p; ++k) result.values.push_back(svd.values(k) * unit);
  const Eigen::VectorXd roots = (svd.values.head(p) * unit).cwiseSqrt();
  result.left = rotate(roots.asDiagonal() * svd.left.topLeftCorner(p, rows), l.basis, run);
  result.right = rotate(roots.asDiagonal() * svd.right.topLeftCorner(p, cols), r.basis, run);
  return result;
}

/// Rows of x above rows of y.
template <std::same_as<float> Scalar>
matrix<Scalar> stack(const matrix<Scalar>& x, const matrix<Scalar>& y) {
  matrix<Scalar> result(x.rows() + y.rows(), x.cols());
  map(result).topRows(x.rows()) = map(x);
  map(result).bottomRows(y.rows()) = map(y);
  return result;
}

/// How far X'^T Y' is from X^T Y, for vectors in rows.
struct product_distance {
  double norm;           ///< ||X^T Y||_F
  double relative_error; ///< ||X^T Y - X'^T Y'||_F / ||X^T Y||_F; 0 when both are zero
};

/// Measures from Gram matrices; the products are never formed.
///
/// @accuracy absolute error of relative_error about 1e-8: the squares of what is measured cancel in double
template <std::same_as<float> Scalar>
product_distance compare_products(const matrix<Scalar>& left, const matrix<Scalar>& right,
                                  const matrix<Scalar>& other_left, const matrix<Scalar>& other_right,
                                  const executor& run) {
  const index_t p = left.rows();
  const auto full = [&](const matrix<float>& x) -> Eigen::MatrixXd {
    return gram(x, run).template selfadjointView<Eigen::Lower>();
  };
  const Eigen::MatrixXd products =
      full(stack(left, other_left)).cwiseProduct(full(stack(right, other_right)));
  const index_t q = other_left.rows();
  const double norm = products.topLeftCorner(p, p).sum();
  const double error =
      norm - 2.0 * products.topRightCorner(p, q).sum() + products.bottomRightCorner(q, q).sum();
  if (!(norm > 0)) return {0.0, error > 0 ? 1.0 : 0.0};
  return {std::sqrt(norm), std::sqrt(std::max(0.0, error) / norm)};
}

} // namespace qlr::host::detail
