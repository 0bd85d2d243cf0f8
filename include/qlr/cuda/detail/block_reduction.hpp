// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/kernel_thread.hpp>

namespace qlr::cuda::detail {

/// Shared memory that a reduction of doubles takes for each value.
inline constexpr index_t reduction_bytes = 32 * 8; // at most 32 warps

/// Reduces one value per thread over the block; every thread gets the same result, whatever the order of
/// threads.
///
/// @param combine  commutative
/// @param scratch  one value per warp, in shared memory; free again after the next sync()
template <kernel_thread Thread, class T, class Combine>
QLR_DEVICE T reduce_block(Thread& thread, T value, T* scratch, Combine&& combine) {
  for (int mask = warp_size / 2; mask > 0; mask /= 2) value = combine(value, thread.shuffle_xor(value, mask));
  thread.sync(); // the scratch memory may still be read
  if (thread.index() % warp_size == 0) scratch[thread.index() / warp_size] = value;
  thread.sync();
  T result = scratch[0];
  for (int warp = 1; warp < thread.num_threads() / warp_size; ++warp) result = combine(result, scratch[warp]);
  return result;
}

template <kernel_thread Thread>
QLR_DEVICE double sum_block(Thread& thread, double value, double* scratch) {
  return reduce_block(thread, value, scratch, [](double a, double b) { return a + b; });
}

} // namespace qlr::cuda::detail
