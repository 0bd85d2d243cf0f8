// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/gpu_launcher.cuh>
#include <qlr/cuda/matmul.hpp>

namespace qlr::cuda {

/// Enqueues Y = X Q^T + s (X R^T) L^T + bias.
///
/// @see fused_matmul::run for the operands and what is thrown
template <half_scalar T, class Y = T>
void matmul_async(const packed_weights<T>& w, device_view<const std::type_identity_t<T>> x, device_view<Y> y,
                  const std::type_identity_t<matmul_options<T>>& options, matmul_workspace& workspace,
                  cudaStream_t stream = nullptr) {
  fused_matmul<detail::gpu_launcher>::run<T, Y>(w, x, y, options, workspace, stream);
}

} // namespace qlr::cuda
