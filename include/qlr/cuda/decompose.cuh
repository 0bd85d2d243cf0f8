// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/decompose.hpp>
#include <qlr/cuda/detail/gpu_launcher.cuh>

namespace qlr::cuda {

/// backend_policy on the current device.
using backend = basic_cuda_backend<detail::gpu_launcher>;

/// decompose() of decompose.hpp on the current device.
template <class T, quantizer_policy Quantizer>
  requires weight_scalar<std::remove_const_t<T>>
[[nodiscard]] decompose_result decompose(const context& on, device_view<T> weight, const Quantizer& quantizer,
                                         const decompose_options& options, const metric& weights = {}) {
  return cuda::decompose<detail::gpu_launcher>(on, weight, quantizer, options, weights);
}

/// The same with a context that lasts for the call, whose creation takes milliseconds.
template <class T, quantizer_policy Quantizer>
  requires weight_scalar<std::remove_const_t<T>>
[[nodiscard]] decompose_result decompose(device_view<T> weight, const Quantizer& quantizer,
                                         const decompose_options& options, const metric& weights = {},
                                         cudaStream_t stream = nullptr) {
  return cuda::decompose<detail::gpu_launcher>(context(stream), weight, quantizer, options, weights);
}

/// decompose_on_device() of decompose.hpp on the current device.
template <class T, quantizer_policy Quantizer>
  requires weight_scalar<std::remove_const_t<T>>
[[nodiscard]] device_decompose_result decompose_on_device(const context& on, device_view<T> weight,
                                                          const Quantizer& quantizer,
                                                          const decompose_options& options,
                                                          const metric& weights = {}) {
  return cuda::decompose_on_device<detail::gpu_launcher>(on, weight, quantizer, options, weights);
}

/// decompose_batched() of decompose.hpp on the current device.
template <class T, quantizer_policy Quantizer>
  requires weight_scalar<std::remove_const_t<T>>
[[nodiscard]] std::vector<decompose_result> decompose_batched(
    std::span<const device_view<T>> matrices, const Quantizer& quantizer, const decompose_options& options,
    std::span<const metric> weights = {}, const batch_options& batch = {}, const executor& run = {},
    cudaStream_t stream = nullptr) {
  return cuda::decompose_batched<detail::gpu_launcher>(matrices, quantizer, options, weights, batch, run, stream);
}

} // namespace qlr::cuda
