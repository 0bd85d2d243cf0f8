// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/matmul_items.hpp>
#include <qlr/cuda/detail/matmul_tile.hpp>

namespace qlr::cuda::detail {

/// Fills stages of the ring in shared memory by asynchronous copies of 16 bytes; every thread of the block
/// takes its share.
template <int Bits, class Shape, kernel_thread Thread>
class stage_loader {
public:
  using shape = Shape;
  using memory = tile_memory<Bits, Shape>;

  QLR_DEVICE stage_loader(Thread& thread, const matmul_arguments& arguments)
      : thread_(thread), arguments_(arguments) {}

  QLR_DEVICE void operator()(const work_item& item, int stage_index, unsigned char* stage) const {
    if (item.kind == item_kind::skipped) return;
    if (item.is_projection()) {
      load_right(item, item.first_block + stage_index, stage);
    } else {
      load_tile(item, item.first_block + stage_index * shape::stage_blocks, stage);
    }
  }

private:
  /// Calls body(index) for the indices 0 ... count - 1 of this thread.
  template <class Body>
  QLR_DEVICE void share(int count, Body&& body) const {
    QLR_DEVICE_NO_UNROLL
    for (int index = thread_.index(); index < count; index += shape::threads) body(index);
  }

  /// One block of 64 columns of R: up to four tiles of 16 ranks, and X.
  QLR_DEVICE void load_right(const work_item& item, int block, unsigned char* stage) const {
    const rank_group& group = arguments_.group(item.group);
    const std::uint32_t* source =
        group.right + static_cast<index_t>(block) * group.tiles * words_per_block(number_bits);
    share(group.tiles * words_per_block(number_bits) / 4,
          [&](int chunk) { thread_.copy_async(stage + 16 * chunk, source + 4 * chunk, 16); });
    load_x(item, block, 1, false, stage + memory::code_bytes);
  }

  /// Codes, X, scales, zeros and column factors of stage_blocks blocks from `block` on.
  QLR_DEVICE void load_tile(const work_item& item, int block, unsigned char* stage) const {
    const packed_view& weights = arguments_.weights;
    const matmul_schedule& schedule = arguments_.schedule;
    const auto left = static_cast<int>(weights.columns.num_blocks) - block;
    const int blocks = left < shape::stage_blocks ? left : shape::stage_blocks;
    load_codes_of(item, block, blocks, stage);
    load_x(item, block, blocks, true, stage + memory::code_bytes);
    load_numbers(item, block, blocks, weights.scales, weights.scale_kind, stage + schedule.scale_offset);
    if (weights.zeros != nullptr)
      load_numbers(item, block, blocks, weights.zeros, weights.zero_kind, stage + schedule.zero_offset);
    if (weights.column_factors != nullptr) {
      const float* source = weights.column_factors + static_cast<index_t>(block) * block_cols;
      share(blocks * block_cols / 4, [&](int chunk) {
        thread_.copy_async(stage + schedule.factor_offset + 16 * chunk, source + 4 * chunk, 16);
      });
    }
  }

  /// Codes, (row tiles, blocks, words): a row tile's blocks lie side by side. Numbers of 16 bytes are counted
  /// in 32 bits, in which addresses take few instructions: 64 GB of codes.
  QLR_DEVICE void load_codes_of(const work_item& item, int block, int blocks, unsigned char* stage) const {
    constexpr int block_chunks = words_per_block(Bits) / 4;
    constexpr int tile_chunks = shape::stage_blocks * block_chunks;
    constexpr int chunks = shape::row_tiles * tile_chunks;
    const packed_view& weights = arguments_.weights;
    const auto row_chunks = static_cast<std::uint32_t>(weights.columns.num_blocks) * block_chunks;
    const auto first_tile = static_cast<std::uint32_t>(item.row_tile) * shape::row_tiles;
    const auto tiles = static_cast<std::uint32_t>(weights.row_tiles) - first_tile;
    const quad* first = reinterpret_cast<const quad*>(weights.codes);
    const std::uint32_t start = first_tile * row_chunks + static_cast<std::uint32_t>(block) * block_chunks;
    const auto load = [&](int index) {
      const auto tile = static_cast<std::uint32_t>(index / tile_chunks);
      const int chunk = index % tile_chunks;
      if (tile < tiles && chunk < blocks * block_chunks)
        thread_.copy_async(stage + 16 * index,
                           first + (start + tile * row_chunks + static_cast<std::uint32_t>(chunk)), 16);
    };
    QLR_DEVICE_UNROLL
    for (int i = 0; i < chunks / shape::threads; ++i) load(thread_.index() + i * shape::threads);
    if (chunks % shape::threads != 0 && thread_.index() < chunks % shape::threads)
      load(thread_.index() + chunks / shape::threads * shape::threads);
  }

  /// Scales or zero points, (row tiles, blocks, slots, 16): a slot for every 1, 2 or 4 steps.
  QLR_DEVICE void load_numbers(const work_item& item, int block, int blocks, const void* numbers,
                               number_kind kind, unsigned char* to) const {
    const packed_view& weights = arguments_.weights;
    const int chunk_shift = kind == number_kind::fp32 ? 2 : 1; // 16 numbers are 4 or 2 chunks
    const int slot_shift = weights.scale_steps == 4 ? 0 : weights.scale_steps == 2 ? 1 : 2;
    const index_t first_tile = static_cast<index_t>(item.row_tile) * shape::row_tiles;
    share((shape::row_tiles * shape::stage_blocks) << (chunk_shift + slot_shift), [&](int index) {
      const int chunk = index & ((1 << chunk_shift) - 1);
      const int slot = (index >> chunk_shift) & ((1 << slot_shift) - 1);
      const int place = index >> (chunk_shift + slot_shift);
      const index_t tile = first_tile + place / shape::stage_blocks;
      const int in_stage = place % shape::stage_blocks;
      if (tile >= weights.row_tiles || in_stage >= blocks) return;
      const int col = (block + in_stage) * block_cols + slot * weights.scale_steps * step_cols;
      const int group = group_of(col);
      const auto* source = static_cast<const unsigned char*>(numbers) +
                           ((tile * weights.columns.num_groups + group) << (4 + chunk_shift));
      thread_.copy_async(to + 16 * index, source + 16 * chunk, 16);
    });
  }

  /// column_map::group_of in 32 bits, where division is much faster.
  [[nodiscard]] QLR_DEVICE int group_of(int col) const {
    const column_map& map = arguments_.weights.columns;
    const auto group =
        static_cast<int>(static_cast<std::uint32_t>(col) / static_cast<std::uint32_t>(map.group_stride));
    const auto last = static_cast<int>(map.num_groups) - 1;
    return group < last ? group : last;
  }

  /// X, (blocks, tokens, 64) swizzled; zero behind the last token and column. Eight threads take a token.
  QLR_DEVICE void load_x(const work_item& item, int block, int blocks, bool maps_columns,
                         unsigned char* to) const {
    const int chunk = thread_.index() % 8;
    const index_t first_token = static_cast<index_t>(item.token_tile) * shape::tokens;
    QLR_DEVICE_NO_UNROLL
    for (int row = thread_.index() / 8; row < blocks * shape::tokens; row += shape::threads / 8) {
      const index_t token = first_token + row % shape::tokens;
      const int col = (block + row / shape::tokens) * block_cols + 8 * chunk;
      unsigned char* target =
          to + 16 * (row / shape::tokens * 8 * shape::tokens + swizzled_chunk(row % shape::tokens, chunk));
      if (arguments_.schedule.gathers) {
        *reinterpret_cast<quad*>(target) = gather(token, col, maps_columns);
        continue;
      }
      const int left = static_cast<int>(arguments_.weights.columns.cols) - col;
      const bool exists = token < arguments_.tokens && left > 0;
      const std::uint16_t* source =
          exists ? arguments_.x + token * arguments_.x_row_stride + col : arguments_.x;
      thread_.copy_async(target, source, exists ? (left < 8 ? 2 * left : 16) : 0);
    }
  }

  /// Eight elements of a token, one by one. They belong to one group of columns, as groups start at multiples
  /// of 16.
  [[nodiscard]] QLR_DEVICE quad gather(index_t token, int col, bool maps_columns) const {
    quad out = {};
    if (token >= arguments_.tokens) return out;
    const column_map& map = arguments_.weights.columns;
    auto end = static_cast<int>(map.cols);
    if (maps_columns && !map.is_identity()) {
      const auto stride = static_cast<std::uint32_t>(map.group_stride);
      const auto group = static_cast<int>(static_cast<std::uint32_t>(col) / stride);
      const auto size = static_cast<int>(map.group_cols);
      col += group * (size - static_cast<int>(stride)); // the column of Q
      end = (group + 1) * size < end ? (group + 1) * size : end;
    }
    QLR_DEVICE_UNROLL
    for (int i = 0; i < 8; ++i) {
      if (col + i >= end) continue;
      const std::uint32_t bits =
          arguments_.x[token * arguments_.x_row_stride + (col + i) * arguments_.x_col_stride];
      out.words[i / 2] |= bits << (16 * (i % 2));
    }
    return out;
  }

  Thread& thread_;
  const matmul_arguments& arguments_;
};

} // namespace qlr::cuda::detail
