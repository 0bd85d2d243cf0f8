// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/config.hpp>
#include <qlr/core/types.hpp>
#include <qlr/cuda/detail/kernel_thread.hpp>

#include <concepts>
#include <cstdint>

namespace qlr::cuda::detail {

/// Threads that issue one asynchronous product together: four warps.
inline constexpr int warpgroup_size = 4 * warp_size;

/// Matrix descriptor of the 16 columns from 16 * step on, step 0 to 3, of a tile at this address: rows of 64
/// elements in 8 chunks of 16 bytes, permuted as swizzled_chunk does; a tile starts at a multiple of 1024.
///
/// Bits 0-13: address / 16 of the first row's first byte before the permutation, which the hardware applies
/// to the sum of this and the element's offset. Bits 16-29: not used by this layout, 1. Bits 32-45: bytes /
/// 16 from 8 rows to the next 8. Bits 62-63: 1 = permuted in rows of 128 bytes.
QLR_HOST_DEVICE constexpr std::uint64_t swizzled_descriptor(std::uint32_t tile_address, int step) {
  constexpr int row_bytes = 128;
  constexpr std::uint64_t layout =
      (std::uint64_t{1} << 62U) | (std::uint64_t{8 * row_bytes / 16} << 32U) | (std::uint64_t{1} << 16U);
  return layout | ((tile_address >> 4U) + 2U * static_cast<std::uint32_t>(step));
}

/// kernel_thread whose warpgroups multiply asynchronously: sm_90a.
///
/// - shared_address(pointer): the address of shared memory that descriptors hold; the start of the block's
///   memory is a multiple of 1024
/// - fence_copies(): after wait_copies() and before the sync() behind which multiply_async reads what this
///   thread copied
/// - fence_products(): before the first multiply_async of a group; orders it after register writes
/// - multiply_async<T, N>(sums, a, b): wgmma.m64nNk16, T = float16 or bfloat16: starts sums += A B^T with A
///   (64,16) in registers and B (N,16) in shared memory, given by its descriptor. Warp w of the warpgroup
///   holds rows 16 w to 16 w + 15 of A, each as in kernel_thread's multiply_add; sums[4 j + i] of lane l is
///   that of row 16 w + l / 4 + 8 (i / 2) and row 8 j + 2 (l % 4) + i % 2 of B. Until waited for, sums and a
///   must stay and B must not be overwritten
/// - commit_products() closes a group of products
/// - wait_products<P>(): waits until at most P groups of this warp are under way; what the others read may be
///   overwritten
/// - take_products(sums): waits for all of this warp; sums, an array of accumulators of products, may be read
template <class Thread>
concept warpgroup_thread = kernel_thread<Thread> &&
    requires(Thread& thread, const void* shared, float (&sums)[2][64], const std::uint32_t (&a)[4],
             std::uint64_t b) {
  { thread.shared_address(shared) } -> std::same_as<std::uint32_t>;
  thread.fence_copies();
  thread.fence_products();
  thread.template multiply_async<bfloat16, 128>(sums[0], a, b);
  thread.commit_products();
  thread.template wait_products<1>();
  thread.take_products(sums);
};

} // namespace qlr::cuda::detail
