// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// The functions of cuBLAS that the library calls, column-major as the real ones, by their definition.
#include <cuda/fakes/column_major.hpp>
#include <cuda/fakes/fake_device.hpp>

#include <cublas_v2.h>

#include <cstdint>

struct cublasContext {
  cudaStream_t stream = nullptr;
};

namespace {

using qlr::test::column_major;
using qlr::test::is_device_matrix;
using qlr::test::the_fake_device;

/// C = alpha op(A) op(B) + beta C with op(A) (m,k), op(B) (k,n); beta = 0 does not read C.
template <class T>
cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, std::int64_t m,
                    std::int64_t n, std::int64_t k, const T* alpha, const T* a, std::int64_t lda, const T* b,
                    std::int64_t ldb, const T* beta, T* c, std::int64_t ldc) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const bool swaps_a = transa == CUBLAS_OP_T;
  const bool swaps_b = transb == CUBLAS_OP_T;
  if (!is_device_matrix(a, swaps_a ? k : m, swaps_a ? m : k, lda) ||
      !is_device_matrix(b, swaps_b ? n : k, swaps_b ? k : n, ldb) || !is_device_matrix(c, m, n, ldc))
    return CUBLAS_STATUS_INVALID_VALUE;
  const column_major<const T> x{a, lda, swaps_a};
  const column_major<const T> y{b, ldb, swaps_b};
  for (std::int64_t j = 0; j < n; ++j) {
    for (std::int64_t i = 0; i < m; ++i) {
      T sum = 0;
      for (std::int64_t l = 0; l < k; ++l) sum += x(i, l) * y(l, j);
      T& out = c[j * ldc + i];
      out = *beta == T{0} ? *alpha * sum : *alpha * sum + *beta * out;
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}

/// Solves op(A) X = alpha B (left) or X op(A) = alpha B (right) for the triangular A; X overwrites B (m,n).
template <class T>
cublasStatus_t trsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,
                    cublasOperation_t trans, cublasDiagType_t diag, std::int64_t m, std::int64_t n,
                    const T* alpha, const T* a, std::int64_t lda, T* b, std::int64_t ldb) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const bool is_left = side == CUBLAS_SIDE_LEFT;
  const std::int64_t size = is_left ? m : n;
  if (!is_device_matrix(a, size, size, lda) || !is_device_matrix(b, m, n, ldb))
    return CUBLAS_STATUS_INVALID_VALUE;
  // X op(A) = B is op(A)^T X^T = B^T.
  const column_major<const T> triangle{a, lda, (trans == CUBLAS_OP_T) == is_left};
  const column_major<T> x{b, ldb, !is_left};
  const bool is_lower = (uplo == CUBLAS_FILL_MODE_LOWER) != triangle.is_transposed;
  for (std::int64_t col = 0; col < (is_left ? n : m); ++col) {
    for (std::int64_t step = 0; step < size; ++step) {
      const std::int64_t i = is_lower ? step : size - 1 - step;
      T sum = *alpha * x(i, col);
      for (std::int64_t l = is_lower ? 0 : i + 1; l < (is_lower ? i : size); ++l)
        sum -= triangle(i, l) * x(l, col);
      x(i, col) = diag == CUBLAS_DIAG_UNIT ? sum : sum / triangle(i, i);
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}

} // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  if (!the_fake_device().has_device) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasContext;
  ++the_fake_device().live_handles;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  --the_fake_device().live_handles;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_OTHER";
}
const char* cublasGetStatusString(cublasStatus_t) {
  return "the fake cuBLAS refuses";
}

cublasStatus_t cublasSgemm_v2_64(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                                 std::int64_t m, std::int64_t n, std::int64_t k, const float* alpha,
                                 const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                                 const float* beta, float* c, std::int64_t ldc) {
  return gemm(handle, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
cublasStatus_t cublasDgemm_v2_64(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                                 std::int64_t m, std::int64_t n, std::int64_t k, const double* alpha,
                                 const double* a, std::int64_t lda, const double* b, std::int64_t ldb,
                                 const double* beta, double* c, std::int64_t ldc) {
  return gemm(handle, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
cublasStatus_t cublasDtrsm_v2_64(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,
                                 cublasOperation_t trans, cublasDiagType_t diag, std::int64_t m,
                                 std::int64_t n, const double* alpha, const double* a, std::int64_t lda,
                                 double* b, std::int64_t ldb) {
  return trsm(handle, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb);
}

} // extern "C"
