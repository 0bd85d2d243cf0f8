// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/fused_matmul_kernel.hpp>
#include <qlr/cuda/detail/group_matmul_kernel.hpp>
#include <qlr/cuda/detail/matmul_variants.hpp>

#include <cuda_runtime_api.h>

namespace qlr::cuda::detail {

// The two functions that name the kernels. They are templates but not inline, so a program of several files
// can declare their instances extern and compile the kernels, which takes long, in one file for each.

/// Calls body with the shape of a variant's tile.
template <class Body>
auto with_shape(const matmul_variant& variant, Body&& body) {
  if (variant.group_tiles == 2) return body.template operator()<group_shape<2>>();
  if (variant.group_tiles == 1) return body.template operator()<group_shape<1>>();
  switch (variant.tokens) {
  case 8:
    return body.template operator()<tile_shape<8>>();
  case 16:
    return body.template operator()<tile_shape<16>>();
  case 32:
    return body.template operator()<tile_shape<32>>();
  case 64:
    return body.template operator()<tile_shape<64>>();
  default:
    return body.template operator()<tile_shape<128>>();
  }
}

/// Whether the program has code of kernels of warpgroups for the current device.
template <class Launcher, int Bits, class T>
bool has_group_kernels() {
  static const bool has = Launcher::template has_warpgroup_code<group_matmul_kernel<Bits, T, 1>>();
  return has;
}

/// Enqueues the kernel of a variant.
template <class Launcher, int Bits, class T>
void launch_product(const matmul_variant& variant, const matmul_arguments& arguments,
                    const launch_shape& shape, cudaStream_t stream) {
  with_shape(variant, [&]<class Shape>() {
    if constexpr (is_group_shape<Shape>) {
      Launcher::launch(group_matmul_kernel<Bits, T, Shape::group_tiles>{arguments}, shape, stream);
    } else {
      Launcher::launch(fused_matmul_kernel<Bits, T, Shape::tokens>{arguments}, shape, stream);
    }
  });
}

} // namespace qlr::cuda::detail
