// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <decompose_matrix/gpu.hpp>

#include <qlr/cuda/decompose.cuh>
#include <qlr/cuda/device.hpp>
#include <qlr/cuda/device_buffer.hpp>

void require_gpu() {
  qlr::require(qlr::cuda::num_devices() > 0, qlr::status_code::unsupported,
               "device is 'cuda', there is no GPU that its driver knows; allowed is cpu");
}

qlr::decompose_result decompose_on_gpu(qlr::matrix_view<const float> weight,
                                       const qlr::any_quantizer& quantizer,
                                       const qlr::decompose_options& options, const qlr::metric& weights) {
  const auto on_device = qlr::cuda::to_device(weight);
  return qlr::cuda::decompose(on_device.view(), quantizer, options, weights);
}
