// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <limits>
#include <memory>
#include <type_traits>

namespace qlr::cuda::detail {

/// Throws qlr::error unless the call succeeded; `what` names the call.
template <class... What>
void check(cublasStatus_t status, const What&... what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(status == CUBLAS_STATUS_ALLOC_FAILED ? status_code::out_of_memory : status_code::device_failure,
       what..., ": ", cublasGetStatusString(status), " (", cublasGetStatusName(status), ')');
}

/// As above; cuSOLVER has no names for its codes.
template <class... What>
void check(cusolverStatus_t status, const What&... what) {
  if (status == CUSOLVER_STATUS_SUCCESS) return;
  fail(status == CUSOLVER_STATUS_ALLOC_FAILED ? status_code::out_of_memory : status_code::device_failure,
       what..., ": cuSOLVER status ", static_cast<int>(status));
}

struct destroy_blas {
  void operator()(cublasHandle_t handle) const { (void)cublasDestroy(handle); }
};
struct destroy_solver {
  void operator()(cusolverDnHandle_t handle) const { (void)cusolverDnDestroy(handle); }
};
using blas_handle = std::unique_ptr<std::remove_pointer_t<cublasHandle_t>, destroy_blas>;
using solver_handle = std::unique_ptr<std::remove_pointer_t<cusolverDnHandle_t>, destroy_solver>;

/// A handle of cuBLAS whose work goes to this stream.
///
/// The mathematics mode stays the default: products of floats are computed with all 24 bits. Tensor cores
/// would round their operands to 11 bits (TF32), more than what one iteration gains.
[[nodiscard]] inline blas_handle make_blas_handle(cudaStream_t stream) {
  cublasHandle_t created = nullptr;
  check(cublasCreate(&created), "cublasCreate");
  blas_handle handle(created);
  check(cublasSetStream(created, stream), "cublasSetStream");
  return handle;
}

/// A handle of cuSOLVER whose work goes to this stream.
[[nodiscard]] inline solver_handle make_solver_handle(cudaStream_t stream) {
  cusolverDnHandle_t created = nullptr;
  check(cusolverDnCreate(&created), "cusolverDnCreate");
  solver_handle handle(created);
  check(cusolverDnSetStream(created, stream), "cusolverDnSetStream");
  return handle;
}

/// A dimension as cuSOLVER takes it.
///
/// @throws qlr::error unsupported: beyond 2^31 - 1
[[nodiscard]] inline int solver_size(index_t size) {
  require(size <= std::numeric_limits<int>::max(), status_code::unsupported,
          "cuSOLVER takes dimensions up to 2147483647, a matrix has ", size);
  return static_cast<int>(size);
}

} // namespace qlr::cuda::detail
