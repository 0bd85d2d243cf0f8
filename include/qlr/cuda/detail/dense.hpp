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

/// The row stride, which may not be 0 even where there are no elements.
template <class T>
[[nodiscard]] index_t stride_of(device_view<T> x) {
  return std::max<index_t>(1, x.row_stride());
}

/// out = alpha op(a) op(b) + beta out for matrices with contiguous rows.
///
/// @tparam T  float or double
template <class T>
void multiply_async(const context& on, transpose ta, transpose tb, T alpha,
                    std::type_identity_t<device_view<const T>> a,
                    std::type_identity_t<device_view<const T>> b, T beta,
                    std::type_identity_t<device_view<T>> out) {
  on.gemm(ta, tb, out.rows(), out.cols(), ta == transpose::yes ? a.rows() : a.cols(), alpha, a.data(),
          stride_of(a), b.data(), stride_of(b), beta, out.data(), stride_of(out));
}

/// x x^T (q,q) of x (q,n).
[[nodiscard]] inline device_matrix<double> gram_async(const context& on, device_view<const double> x) {
  device_matrix<double> out(x.rows(), x.rows(), on.stream());
  multiply_async(on, transpose::no, transpose::yes, 1.0, x, x, 0.0, out.view());
  return out;
}

/// x = T^-1 x for a lower triangular T (q,q) and x (q,c): to cuBLAS, whose triangle is T^T, x^T = x^T
/// (T^T)^-1.
inline void solve_triangle_async(const context& on, const device_matrix<double>& triangle,
                                 device_view<double> x) {
  const double one = 1.0;
  check(cublasDtrsm_64(on.blas(), CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N,
                       CUBLAS_DIAG_NON_UNIT, x.cols(), x.rows(), &one, triangle.data(), triangle.cols(),
                       x.data(), stride_of(x)),
        "cublasDtrsm of ", x.rows(), " x ", x.cols());
}

/// Replaces the rows of x (q,n), q <= n, by an orthonormal basis by Householder reflections; any rows will
/// do.
///
/// @param[out] diagonal  (q): x was T times the basis for a lower triangular T, whose diagonal this is
inline void reflect_async(const context& on, device_matrix<double>& x, device_buffer<double>& diagonal) {
  const int q = solver_size(x.rows());
  const int n = solver_size(x.cols());
  int* const info = &on.device_report()->solver_info;
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
