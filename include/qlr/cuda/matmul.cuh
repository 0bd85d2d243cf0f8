// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/gpu_launcher.cuh>
#include <qlr/cuda/matmul.hpp>

namespace qlr::cuda {

/// The fused product on real devices: gpu_matmul<>::run(...), or gpu_matmul<4>::run(...) to compile kernels
/// for 4-bit codes alone.
template <int... Bits>
using gpu_matmul = fused_matmul<detail::gpu_launcher, Bits...>;

/// Enqueues Y = X Q^T + s (X R^T) L^T + bias.
///
/// @see fused_matmul::run for the operands and what is thrown
template <half_scalar T, class Y = T>
void matmul_async(const packed_weights<T>& w, device_view<const std::type_identity_t<T>> x, device_view<Y> y,
                  const std::type_identity_t<matmul_options<T>>& options, matmul_workspace& workspace,
                  cudaStream_t stream = nullptr) {
  gpu_matmul<>::template run<T, Y>(w, x, y, options, workspace, stream);
}

} // namespace qlr::cuda
