// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/dequantize.hpp>
#include <qlr/cuda/detail/gpu_launcher.cuh>

namespace qlr::cuda {

/// dequantize_async() of dequantize.hpp on the current device.
inline void dequantize_async(const device_quantized_view& q, device_view<float> out,
                             cudaStream_t stream = nullptr) {
  cuda::dequantize_async<detail::gpu_launcher>(q, out, stream);
}

} // namespace qlr::cuda
