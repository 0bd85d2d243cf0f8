// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>

#include <cuda_runtime_api.h>

namespace qlr::cuda::detail {

[[nodiscard]] constexpr status_code to_status(cudaError_t code) {
  switch (code) {
  case cudaErrorMemoryAllocation:
    return status_code::out_of_memory;
  case cudaErrorNoKernelImageForDevice:
  case cudaErrorUnsupportedPtxVersion:
  case cudaErrorInvalidDeviceFunction:
    return status_code::unsupported;
  default:
    return status_code::device_failure;
  }
}

/// Throws qlr::error unless the call succeeded; `what` names the call and its problem.
template <class... What>
void check(cudaError_t code, const What&... what) {
  if (code == cudaSuccess) return;
  (void)cudaGetLastError(); // so that the next call does not report it again
  fail(to_status(code), what..., ": ", cudaGetErrorString(code), " (", cudaGetErrorName(code), ')');
}

} // namespace qlr::cuda::detail
