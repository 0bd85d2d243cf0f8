// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>
#include <qlr/cuda/context.hpp>
#include <qlr/cuda/detail/libraries.hpp>
#include <qlr/cuda/device_buffer.hpp>

#include <algorithm>
#include <type_traits>

namespace qlr::cuda::detail {

// Routines of cuBLAS and cuSOLVER on row-major matrices. To those libraries, which are column-major, a
// row-major (rows, cols) matrix is its transpose (cols, rows), with the row stride as leading dimension.

/// The leading dimension, which may not be 0 even where there are no elements.
template <class T>
[[nodiscard]] index_t leading(device_view<T> x) {
  return std::max<index_t>(1, x.row_stride());
}

/// out = alpha op(a) op(b) + beta out; computed as out^T = alpha op(b)^T op(a)^T + beta out^T.
///
/// @tparam T  float or double
template <class T>
void multiply_async(context& on, transpose ta, transpose tb, T alpha,
                    std::type_identity_t<device_view<const T>> a,
                    std::type_identity_t<device_view<const T>> b, T beta,
                    std::type_identity_t<device_view<T>> out) {
  if (out.is_empty()) return;
  const auto operation = [](transpose t) { return t == transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const index_t inner = ta == transpose::yes ? a.rows() : a.cols();
  if constexpr (std::is_same_v<T, float>) {
    check(cublasSgemm_64(on.blas(), operation(tb), operation(ta), out.cols(), out.rows(), inner, &alpha,
                         b.data(), leading(b), a.data(), leading(a), &beta, out.data(), leading(out)),
          "cublasSgemm of ", out.rows(), " x ", inner, " x ", out.cols());
  } else {
    check(cublasDgemm_64(on.blas(), operation(tb), operation(ta), out.cols(), out.rows(), inner, &alpha,
                         b.data(), leading(b), a.data(), leading(a), &beta, out.data(), leading(out)),
          "cublasDgemm of ", out.rows(), " x ", inner, " x ", out.cols());
  }
}

/// x x^T (q,q) of x (q,n).
[[nodiscard]] inline device_matrix<double> gram_async(context& on, device_view<const double> x) {
  device_matrix<double> out(x.rows(), x.rows(), on.stream());
  multiply_async(on, transpose::no, transpose::yes, 1.0, x, x, 0.0, out.view());
  return out;
}

/// The Cholesky factor T of a symmetric matrix (q,q), A = T T^T, in place: T(i,j) lies at (j,i), for i < j is
/// what was there.
///
/// @param info  on the device; 0 where the matrix is positive definite
inline void factor_async(context& on, device_matrix<double>& symmetric, int* info) {
  const int q = solver_size(symmetric.rows());
  int size = 0;
  check(cusolverDnDpotrf_bufferSize(on.solver(), CUBLAS_FILL_MODE_LOWER, q, symmetric.data(), q, &size),
        "cusolverDnDpotrf_bufferSize");
  device_buffer<double> work(size, on.stream());
  check(
      cusolverDnDpotrf(on.solver(), CUBLAS_FILL_MODE_LOWER, q, symmetric.data(), q, work.data(), size, info),
      "cusolverDnDpotrf of ", q, " x ", q);
}

/// x = T^-1 x for T (q,q) as factor_async left it and x (q,c): to cuBLAS, x^T = x^T T^-T.
inline void solve_triangle_async(context& on, const device_matrix<double>& triangle, device_view<double> x) {
  const double one = 1.0;
  check(cublasDtrsm_64(on.blas(), CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_T,
                       CUBLAS_DIAG_NON_UNIT, x.cols(), x.rows(), &one, triangle.data(), triangle.cols(),
                       x.data(), leading(x)),
        "cublasDtrsm of ", x.rows(), " x ", x.cols());
}

/// Replaces a symmetric matrix (q,q) by its eigenvectors, one per row; their eigenvalues (q) are ascending.
///
/// @throws qlr::error numerical_failure: it did not converge
/// @sync   waits for the stream
inline void eigendecompose(context& on, device_matrix<double>& symmetric, double* values) {
  const int q = solver_size(symmetric.rows());
  int size = 0;
  check(cusolverDnDsyevd_bufferSize(on.solver(), CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, q,
                                    symmetric.data(), q, values, &size),
        "cusolverDnDsyevd_bufferSize");
  device_buffer<double> work(size, on.stream());
  // Its eigenvectors are columns of a column-major matrix, rows of ours.
  check(cusolverDnDsyevd(on.solver(), CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, q, symmetric.data(),
                         q, values, work.data(), size, &on.device_report()->infos[2]),
        "cusolverDnDsyevd of ", q, " x ", q);
  require(on.fetch_report().infos[2] == 0, status_code::numerical_failure, "the eigendecomposition of a ", q,
          " x ", q, " Gram matrix did not converge");
}

/// Replaces the rows of x (q,n), q <= n, by an orthonormal basis by Householder reflections; any rows will
/// do.
///
/// @param[out] diagonal  (q): x was T times the basis for a lower triangular T, whose diagonal this is
inline void reflect_async(context& on, device_matrix<double>& x, device_buffer<double>& diagonal) {
  const int q = solver_size(x.rows());
  const int n = solver_size(x.cols());
  int* const info = &on.device_report()->infos[2];
  device_buffer<double> tau(q, on.stream());
  int size = 0;
  check(cusolverDnDgeqrf_bufferSize(on.solver(), n, q, x.data(), n, &size), "cusolverDnDgeqrf_bufferSize");
  {
    device_buffer<double> work(size, on.stream());
    check(cusolverDnDgeqrf(on.solver(), n, q, x.data(), n, tau.data(), work.data(), size, info),
          "cusolverDnDgeqrf of ", n, " x ", q);
  }
  check(cudaMemcpy2DAsync(diagonal.data(), sizeof(double), x.data(),
                          static_cast<std::size_t>(n + 1) * sizeof(double), sizeof(double),
                          static_cast<std::size_t>(q), cudaMemcpyDeviceToDevice, on.stream()),
        "copy of a diagonal");
  check(cusolverDnDorgqr_bufferSize(on.solver(), n, q, q, x.data(), n, tau.data(), &size),
        "cusolverDnDorgqr_bufferSize");
  device_buffer<double> work(size, on.stream());
  check(cusolverDnDorgqr(on.solver(), n, q, q, x.data(), n, tau.data(), work.data(), size, info),
        "cusolverDnDorgqr of ", n, " x ", q);
}

} // namespace qlr::cuda::detail
