// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>
#include <qlr/cuda/detail/check.hpp>

#include <cuda_runtime_api.h>

namespace qlr::cuda {

/// What the choice of kernels depends on.
struct device_properties {
  int index = 0;                      ///< the device's number
  int compute_capability = 0;         ///< 10 * major + minor, such as 90
  int multiprocessors = 0;            ///< they run blocks independently
  index_t shared_bytes_per_block = 0; ///< the most that a block may ask for
  index_t cache_bytes = 0;            ///< second-level cache
};

/// Number of devices; 0 where there is no GPU or no driver.
[[nodiscard]] inline int num_devices() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return count;
}

/// Properties of the calling thread's current device.
///
/// @throws qlr::error device_failure: there is none
[[nodiscard]] inline device_properties current_device() {
  device_properties device;
  detail::check(cudaGetDevice(&device.index), "cudaGetDevice");
  const auto attribute = [&](cudaDeviceAttr name) {
    int value = 0;
    detail::check(cudaDeviceGetAttribute(&value, name, device.index), "cudaDeviceGetAttribute");
    return value;
  };
  device.compute_capability =
      10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
  device.multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  device.shared_bytes_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  device.cache_bytes = attribute(cudaDevAttrL2CacheSize);
  return device;
}

} // namespace qlr::cuda
