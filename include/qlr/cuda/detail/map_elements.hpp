// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/kernel_thread.hpp>

#include <cuda_runtime_api.h>

namespace qlr::cuda::detail {

/// Calls body(i, j) for every element of a (rows, cols) matrix; neighbouring threads have neighbouring j.
///
/// @tparam Body  trivially copyable, with a name that errors tell and `QLR_DEVICE void operator()(index_t,
///               index_t) const`
template <class Body>
struct map_elements_kernel {
  static constexpr std::string_view name = Body::name;
  static constexpr int most_threads = 256;
  static constexpr int least_blocks = 1;
  static constexpr index_t cols_per_block = 4 * most_threads;

  Body body;
  index_t cols;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const index_t pieces = (cols + cols_per_block - 1) / cols_per_block; // of a row
    const index_t i = thread.block() / pieces;
    const index_t first = thread.block() % pieces * cols_per_block;
    const index_t last = first + cols_per_block < cols ? first + cols_per_block : cols;
    for (index_t j = first + thread.index(); j < last; j += thread.num_threads()) body(i, j);
  }
};

/// Enqueues body(i, j) for every element of a (rows, cols) matrix.
template <class Launcher, class Body>
void map_elements_async(const Body& body, index_t rows, index_t cols, cudaStream_t stream) {
  using kernel = map_elements_kernel<Body>;
  if (rows == 0 || cols == 0) return;
  const index_t pieces = (cols + kernel::cols_per_block - 1) / kernel::cols_per_block;
  // Narrow matrices need no idle warps.
  const index_t warps = (cols + warp_size - 1) / warp_size;
  const int threads =
      warps < kernel::most_threads / warp_size ? static_cast<int>(warps) * warp_size : kernel::most_threads;
  Launcher::launch(kernel{body, cols}, {rows * pieces, threads, 0}, stream);
}

} // namespace qlr::cuda::detail
