// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>
#include <qlr/core/status.hpp>
#include <qlr/host/eigen_maps.hpp>
#include <qlr/host/small_svd.hpp>

#if defined(QLR_USE_LAPACKE)
#include <lapacke.h>
#else
#include <Eigen/SVD>
#endif

#include <algorithm>
#include <cmath>
#include <concepts>
#include <vector>

namespace qlr::host {

/// Name of the routine behind exact_svd, for reports.
[[nodiscard]] inline const char* exact_svd_name() {
#if defined(QLR_USE_LAPACKE)
  return "LAPACK gesdd";
#else
  return "Eigen BDCSVD";
#endif
}

namespace detail {

#if defined(QLR_USE_LAPACKE)

/// LAPACK's divide and conquer; false when it did not converge. Reads x as its transpose, column-major (n,m).
template <std::same_as<float> Scalar>
bool leading_triplets(const matrix<Scalar>& x, index_t rank, singular_triplets<matrix<Scalar>>& out) {
  const index_t m = x.rows();
  const index_t n = x.cols();
  const index_t smaller = std::min(m, n);
  matrix<float> scratch(x); // destroyed by the routine
  std::vector<float> values(static_cast<std::size_t>(smaller));
  matrix<float> right(smaller, n); // column-major (n, smaller)
  matrix<float> left(m, smaller);  // column-major (smaller, m)
  const auto as_int = [](index_t size) { return static_cast<lapack_int>(size); };
  const lapack_int info =
      LAPACKE_sgesdd(LAPACK_COL_MAJOR, 'S', as_int(n), as_int(m), scratch.data(), as_int(n), values.data(),
                     right.data(), as_int(n), left.data(), as_int(smaller));
  if (info != 0) return false;
  std::copy_n(right.data(), static_cast<std::size_t>(rank * n), out.right.data());
  for (index_t k = 0; k < rank; ++k) {
    out.values(0, k) = values[static_cast<std::size_t>(k)];
    for (index_t i = 0; i < m; ++i) out.left(k, i) = left(i, k);
  }
  return true;
}

#else

template <class Svd>
bool eigen_triplets(const Eigen::MatrixXd& x, index_t rank, singular_triplets<matrix<float>>& out) {
  const Svd svd(x, Eigen::ComputeThinU | Eigen::ComputeThinV);
  if (svd.info() != Eigen::Success || !svd.singularValues().allFinite()) return false;
  map_transposed(out.left) = svd.matrixU().leftCols(rank).template cast<float>();
  map_transposed(out.right) = svd.matrixV().leftCols(rank).template cast<float>();
  map(out.values) = svd.singularValues().head(rank).transpose().template cast<float>();
  return true;
}

/// Eigen's divide and conquer in double precision; on failure the slower, unconditionally stable Jacobi
/// method.
template <std::same_as<float> Scalar>
bool leading_triplets(const matrix<Scalar>& x, index_t rank, singular_triplets<matrix<Scalar>>& out) {
  const Eigen::MatrixXd copy = map(x).template cast<double>();
  return eigen_triplets<Eigen::BDCSVD<Eigen::MatrixXd>>(copy, rank, out) ||
         eigen_triplets<Eigen::JacobiSVD<Eigen::MatrixXd>>(copy, rank, out);
}

#endif

} // namespace detail

/// The `rank` leading singular triplets of x (m,n) by a full decomposition.
///
/// A template so that the decomposition is compiled only where it is called.
/// @pre 0 <= rank <= min(m,n), x finite
/// @throws qlr::error numerical_failure: no method converged
/// @memory LAPACK: two further copies of x; Eigen: x and both factors in double
/// @complexity O(m n min(m,n)); one thread with Eigen, the BLAS library's own threads with LAPACK
template <std::same_as<float> Scalar>
[[nodiscard]] singular_triplets<matrix<Scalar>> exact_svd(const matrix<Scalar>& x, index_t rank) {
  singular_triplets<matrix<float>> out{matrix<float>(rank, x.rows()), matrix<float>(1, rank),
                                       matrix<float>(rank, x.cols())};
  if (rank == 0) return out;
  const int exponent = detail::unit_exponent(x);
  matrix<float> scaled(x);
  map(scaled) *= std::ldexp(1.0F, exponent);
  require(detail::leading_triplets(scaled, rank, out), status_code::numerical_failure,
          "the singular value decomposition of a ", x.rows(), " x ", x.cols(), " matrix did not converge");
  map(out.values) *= std::ldexp(1.0F, -exponent);
  return out;
}

} // namespace qlr::host
