// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace qlr::cuda::detail {

/// Threads that execute together.
inline constexpr int warp_size = 32;

/// Shape of a launch: blocks of a one-dimensional grid, threads of a block, bytes of shared memory.
struct launch_shape {
  index_t blocks = 1;
  int threads = warp_size;
  index_t shared_bytes = 0;
};

/// One thread of a running kernel: all that a kernel can do besides arithmetic on its own memory.
///
/// Kernels are written once against this concept; gpu_thread.cuh models it with instructions, and the tests
/// with a simulated device, so that every kernel runs on the host as well.
/// - index(), num_threads(), block(), num_blocks(): position in the block and of the block in the grid
/// - shared<T>(offset): the block's shared memory from this byte on; aligned to 1024 bytes at offset 0
/// - sync(): waits for all threads of the block; sync_warp(): for those of the warp, memory included
/// - shuffle(value, lane), shuffle_xor(value, mask): another lane's value; all lanes of the warp take part
/// - add_atomic(address, value): adds in global memory, returns what was there
/// - min_atomic(address, value): replaces what is in global memory by the smaller of both
/// - arrive(address, value): adds like add_atomic; whoever arrives later, or observes the sum, sees what this
/// block
///   wrote before its last sync(), and the caller sees what earlier ones wrote
/// - publish(address, value): stores so that a reader that sees the value sees all earlier writes of this
///   thread (and of those it synchronised with); observe(address): the matching load; pause(): yields while
///   spinning
/// - copy_async(shared, global, bytes): starts a copy of 16 bytes to shared memory of which the first `bytes`
///   (0 to 16) are read, the rest is zero; both addresses are multiples of 16
/// - commit_copies() closes a group of copies; wait_copies<N>() waits until at most N groups of this thread
///   are under way; other threads see the data after sync() or sync_warp()
/// - load_matrices(row, out): ldmatrix.x4: lane l names row l % 8 (16 bytes, shared memory) of 8 x 8 matrix
///   l / 8; out[i] of lane l holds elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 of matrix i
/// - multiply_add<T>(sums, a, b): mma.m16n8k16, T = float16 or bfloat16: sums += A B with A (16,16), B
/// (16,8);
///   lane l with g = l / 4, c = 2 (l % 4) holds of A the pairs (g, c), (g + 8, c), (g, c + 8), (g + 8, c + 8)
///   along the second index, of B the pairs (c, g), (c + 8, g) along the first, of sums (g, c), (g, c + 1),
///   (g + 8, c), (g + 8, c + 1)
template <class Thread>
concept kernel_thread = requires(Thread& thread, std::uint32_t* word, std::uint64_t* long_word,
                                 const std::uint32_t* const_word, void* shared, const void* global,
                                 float (&sums)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                 std::uint32_t (&out)[4]) {
  { thread.index() } -> std::same_as<int>;
  { thread.num_threads() } -> std::same_as<int>;
  { thread.block() } -> std::same_as<index_t>;
  { thread.num_blocks() } -> std::same_as<index_t>;
  { thread.template shared<float>(index_t{}) } -> std::same_as<float*>;
  thread.sync();
  thread.sync_warp();
  { thread.shuffle(1.0F, 0) } -> std::same_as<float>;
  { thread.shuffle_xor(1.0, 0) } -> std::same_as<double>;
  { thread.add_atomic(word, 1U) } -> std::same_as<std::uint32_t>;
  thread.min_atomic(long_word, std::uint64_t{1});
  { thread.arrive(word, 1U) } -> std::same_as<std::uint32_t>;
  thread.publish(word, 1U);
  { thread.observe(const_word) } -> std::same_as<std::uint32_t>;
  thread.pause();
  thread.copy_async(shared, global, 16);
  thread.commit_copies();
  thread.template wait_copies<0>();
  thread.load_matrices(global, out);
  thread.template multiply_add<float16>(sums, a, b);
};

// A kernel is a trivially copyable struct of its arguments with
//   static constexpr std::string_view name     named in errors
//   static constexpr int most_threads          threads of a block, for the register budget
//   static constexpr int least_blocks          blocks that should fit a multiprocessor at once
//   template <kernel_thread Thread> QLR_DEVICE void operator()(Thread& thread) const
template <class Kernel>
concept kernel_body = std::is_trivially_copyable_v<Kernel> && requires {
  { Kernel::name } -> std::convertible_to<std::string_view>;
  { Kernel::most_threads } -> std::convertible_to<int>;
  { Kernel::least_blocks } -> std::convertible_to<int>;
};

/// Where kernels run: launch(kernel, shape, stream) enqueues one.
template <class Launcher, class Kernel>
concept launcher_of = kernel_body<Kernel> && requires(const Kernel& kernel, const launch_shape& shape) {
  Launcher::launch(kernel, shape, nullptr);
};

} // namespace qlr::cuda::detail
