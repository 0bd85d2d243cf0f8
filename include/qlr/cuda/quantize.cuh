// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/gpu_launcher.cuh>
#include <qlr/cuda/quantize.hpp>

namespace qlr::cuda {

/// quantize_async() of quantize.hpp on the current device.
template <class Quantizer>
[[nodiscard]] device_quantized_matrix quantize_async(const Quantizer& quantizer,
                                                     device_view<const float> weight,
                                                     const device_quantize_hints& hints = {},
                                                     cudaStream_t stream = nullptr) {
  return cuda::quantize_async<detail::gpu_launcher>(quantizer, weight, hints, stream);
}

/// quantize() of quantize.hpp on the current device.
template <class Quantizer>
[[nodiscard]] device_quantized_matrix quantize(const Quantizer& quantizer, device_view<const float> weight,
                                               const device_quantize_hints& hints = {},
                                               cudaStream_t stream = nullptr) {
  return cuda::quantize<detail::gpu_launcher>(quantizer, weight, hints, stream);
}

} // namespace qlr::cuda
