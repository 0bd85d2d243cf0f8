// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cuda/simulator/fiber.hpp>
#include <cuda/simulator/simulated_products.hpp>
#include <qlr/cuda/detail/kernel_thread.hpp>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace qlr::test {

/// Which of the threads that could run next runs next. Real devices promise nothing, so a kernel must give
/// the same result in any order.
enum class thread_order { ascending, descending, shuffled };

/// When asynchronous copies happen: both extremes of what a device may do. Asynchronous products
/// take the other one.
enum class copy_time {
  early, ///< as soon as they are asked for: finds buffers that are overwritten while they are read
  late   ///< when they are waited for: finds reads without a wait
};

struct simulation_options {
  thread_order order = thread_order::ascending;
  copy_time copies = copy_time::late;
  index_t resident_blocks = 4; ///< blocks that run at the same time
  std::uint64_t seed = 1;      ///< of thread_order::shuffled
};

/// A point where a fixed number of threads meet, again and again.
struct barrier {
  int expected = 0;
  int arrived = 0;
  std::uint64_t generation = 0;
};

/// Shared state of the threads of one simulated block.
struct simulated_block {
  static constexpr std::size_t alignment = 1024;

  simulated_block(index_t block, index_t blocks, const cuda::detail::launch_shape& shape)
      : index(block), num_blocks(blocks), num_threads(shape.threads), shared_bytes(shape.shared_bytes),
        memory(static_cast<unsigned char*>(std::aligned_alloc(
                   alignment, (static_cast<std::size_t>(shape.shared_bytes) / alignment + 1) * alignment)),
               &std::free),
        unfenced(static_cast<std::size_t>(shape.shared_bytes) / 16 + 1),
        groups(static_cast<std::size_t>(shape.threads / 128)),
        warps(static_cast<std::size_t>(shape.threads / cuda::detail::warp_size)) {
    // What a kernel reads without having written it is NaN in every format.
    std::memset(memory.get(), 0xFF, static_cast<std::size_t>(shared_bytes));
    all.expected = num_threads;
    for (warp_state& warp : warps) warp.meeting.expected = cuda::detail::warp_size;
  }

  struct warp_state {
    barrier meeting;
    std::array<void*, cuda::detail::warp_size> operands{};
    product_queue products;
  };

  index_t index;
  index_t num_blocks;
  int num_threads;
  index_t shared_bytes;
  std::unique_ptr<unsigned char, void (*)(void*)> memory;
  barrier all;
  std::vector<unsigned char> unfenced;            ///< pieces of 16 bytes copied, but not fenced for products
  std::vector<std::vector<std::uint64_t>> groups; ///< descriptors that each warpgroup has multiplied with
  std::vector<warp_state> warps;
};

} // namespace qlr::test
