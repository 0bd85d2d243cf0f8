// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/check.hpp>
#include <qlr/cuda/detail/gpu_thread.cuh>
#include <qlr/cuda/detail/kernel_thread.hpp>

#include <cuda_runtime.h>

namespace qlr::cuda::detail {

template <kernel_body Kernel>
__global__ void __launch_bounds__(Kernel::most_threads, Kernel::least_blocks)
    run_kernel(const __grid_constant__ Kernel kernel) {
#if defined(__CUDA_ARCH__)
  gpu_thread thread;
  kernel(thread);
#endif
}

/// launcher_policy of real devices.
struct gpu_launcher {
  /// Whether this program has the code of a kernel of warpgroups for the current device.
  ///
  /// Such kernels are empty unless compiled for sm_90a. No attribute tells sm_90 from sm_90a, but the sums
  /// alone take more registers than an empty kernel has.
  template <kernel_body Kernel>
  static bool has_warpgroup_code() {
    constexpr int least_sums = 64;
    cudaFuncAttributes attributes{};
    if (cudaFuncGetAttributes(&attributes, run_kernel<Kernel>) == cudaSuccess)
      return attributes.numRegs >= least_sums;
    (void)cudaGetLastError(); // no code for this device at all
    return false;
  }

  /// Enqueues a kernel.
  ///
  /// @throws qlr::error unsupported, device_failure: the launch was refused; the message names the kernel
  template <kernel_body Kernel>
  static void launch(const Kernel& kernel, const launch_shape& shape, cudaStream_t stream) {
    if (shape.blocks == 0) return;
    constexpr index_t default_shared_bytes = 48 * 1024;
    if (shape.shared_bytes > default_shared_bytes) {
      check(cudaFuncSetAttribute(run_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shape.shared_bytes)),
            Kernel::name, " with ", shape.shared_bytes, " bytes of shared memory");
    }
    run_kernel<Kernel><<<static_cast<unsigned>(shape.blocks), static_cast<unsigned>(shape.threads),
                         static_cast<std::size_t>(shape.shared_bytes), stream>>>(kernel);
    check(cudaGetLastError(), Kernel::name, " with ", shape.blocks, " blocks of ", shape.threads,
          " threads and ", shape.shared_bytes, " bytes of shared memory");
  }
};

} // namespace qlr::cuda::detail
