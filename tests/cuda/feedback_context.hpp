// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>
#include <qlr/cuda/device_buffer.hpp>

#include <cublas_v2.h>
#include <cusolverDn.h>

#include <stdexcept>

namespace qlr::test {

struct feedback_context {
  cublasHandle_t blas = nullptr;
  cusolverDnHandle_t solver = nullptr;
  feedback_context() {
    must(cublasCreate(&blas) == CUBLAS_STATUS_SUCCESS);
    must(cusolverDnCreate(&solver) == CUSOLVER_STATUS_SUCCESS);
  }
  ~feedback_context() {
    cublasDestroy(blas);
    cusolverDnDestroy(solver);
  }
  feedback_context(const feedback_context&) = delete;
  feedback_context& operator=(const feedback_context&) = delete;
  static void must(bool ok) {
    if (!ok) throw std::logic_error("library call");
  }
  static cudaStream_t stream() { return nullptr; }

  static cublasStatus_t call(cublasHandle_t h, cublasOperation_t a, cublasOperation_t b, index_t m, index_t n,
                             index_t k, const float* alpha, const float* A, index_t lda, const float* B,
                             index_t ldb, const float* beta, float* C, index_t ldc) {
    return cublasSgemm_64(h, a, b, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
  }
  static cublasStatus_t call(cublasHandle_t h, cublasOperation_t a, cublasOperation_t b, index_t m, index_t n,
                             index_t k, const double* alpha, const double* A, index_t lda, const double* B,
                             index_t ldb, const double* beta, double* C, index_t ldc) {
    return cublasDgemm_64(h, a, b, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
  }
  template <class T>
  void gemm(transpose ta, transpose tb, index_t m, index_t n, index_t k, T alpha, const T* a, index_t lda,
            const T* b, index_t ldb, T beta, T* c, index_t ldc) const {
    must(call(blas, tb == transpose::no ? CUBLAS_OP_N : CUBLAS_OP_T,
              ta == transpose::no ? CUBLAS_OP_N : CUBLAS_OP_T, n, m, k, &alpha, b, ldb, a, lda, &beta, c,
              ldc) == CUBLAS_STATUS_SUCCESS);
  }
  void eigendecompose(index_t r, double* a, double* values) const {
    int size = 0;
    const int n = static_cast<int>(r);
    must(cusolverDnDsyevd_bufferSize(solver, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n, a, n, values,
                                     &size) == CUSOLVER_STATUS_SUCCESS);
    cuda::device_buffer<double> work(size);
    cuda::device_buffer<int> info(1);
    must(cusolverDnDsyevd(solver, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n, a, n, values, work.data(),
                          size, info.data()) == CUSOLVER_STATUS_SUCCESS);
    int status = -1;
    cuda::copy_to_host(info.data(), std::span<int>(&status, 1), nullptr);
    must(status == 0);
  }
  bool try_cholesky(index_t order, double* a) const {
    int size = 0;
    const int n = static_cast<int>(order);
    must(cusolverDnDpotrf_bufferSize(solver, CUBLAS_FILL_MODE_UPPER, n, a, n, &size) ==
         CUSOLVER_STATUS_SUCCESS);
    cuda::device_buffer<double> work(size);
    cuda::device_buffer<int> info(1);
    must(cusolverDnDpotrf(solver, CUBLAS_FILL_MODE_UPPER, n, a, n, work.data(), size, info.data()) ==
         CUSOLVER_STATUS_SUCCESS);
    int status = -1;
    cuda::copy_to_host(info.data(), std::span<int>(&status, 1), nullptr);
    return status == 0;
  }
};

} // namespace qlr::test
