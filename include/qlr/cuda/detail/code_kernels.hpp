// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/matrix_tiles.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/quant/quantized_matrix.hpp>
#include <qlr/quant/scale_fit.hpp>

#include <bit>
#include <cstdint>
#include <string_view>

namespace qlr::cuda::detail {

/// Most thread blocks of a kernel that takes tiles in turns.
inline constexpr index_t most_tile_blocks = 4096;

/// Packs the codes of one tile, which lie in shared memory as they lie in the tile; each thread makes whole
/// bytes.
template <kernel_thread Thread>
QLR_DEVICE void pack_tile(Thread& thread, const quantized_layout& layout, const matrix_tiles& tiles,
                          const matrix_tile& tile, const code_t* codes, std::uint8_t* packed) {
  // Bytes of a row of the tile, to the next power of two.
  const int log2_bytes =
      tiles.log2_cols - 3 + static_cast<int>(std::bit_width(static_cast<unsigned>(layout.bits) - 1U));
  const index_t row_bytes = layout.row_bytes();
  std::uint8_t* corner = packed + tile.row * row_bytes + packed_bytes(tile.col, layout.bits);
  const auto num_bytes = static_cast<int>(packed_bytes(tile.num_cols, layout.bits));
  for (int place = thread.index(); place < tile.num_rows << log2_bytes; place += thread.num_threads()) {
    const int i = place >> log2_bytes;
    const int byte = place & ((1 << log2_bytes) - 1);
    if (byte >= num_bytes) continue;
    corner[i * row_bytes + byte] =
        packed_byte(layout.order, codes + (i << tiles.log2_cols), tile.num_cols, layout.bits, byte);
  }
}

/// packed = the codes of W at the scale of each group.
template <grid_policy Grid>
struct encode_kernel {
  static constexpr std::string_view name = "encode_kernel";
  static constexpr int most_threads = matrix_tiles::threads;
  static constexpr int least_blocks = 6; // 80 registers

  device_view<const float> weight;
  quantized_layout layout;
  matrix_tiles tiles;
  Grid grid;
  const block_scale* scales;
  std::uint8_t* packed;

  /// A group's scale, ready for use.
  struct group_scale {
    scale_normaliser normalise;
    float zero;
  };

  // Shared memory: the grid, 1024 group_scale, 1024 codes.
  static constexpr index_t scales_offset = shared_grid_bytes<Grid>;
  static constexpr index_t codes_offset =
      scales_offset + matrix_tiles::size * static_cast<index_t>(sizeof(group_scale));

  [[nodiscard]] launch_shape shape() const {
    return {tiles.num_blocks(most_tile_blocks), most_threads, codes_offset + matrix_tiles::size};
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const Grid& fast_grid = share_grid(thread, grid, 0);
    auto* group_scales = thread.template shared<group_scale>(scales_offset);
    auto* codes = thread.template shared<code_t>(codes_offset);
    for (index_t index = thread.block(); index < tiles.count; index += thread.num_blocks()) {
      const matrix_tile tile(tiles, index);
      const tile_groups groups(tile, layout.group_cols());
      const device_view<const float> part = part_of(weight, tile);
      float x[matrix_tiles::steps] = {};
      for_each_in_tile(thread, tiles, tile, [&](int step, int, int i, int j) { x[step] = part(i, j); });
      for_each_group_in_tile(thread, tiles, tile, groups, [&](int place, int i, int group) {
        const block_scale scale = scales[layout.scale_index(tile.row + i, groups.first + group)];
        group_scales[place] = {scale_normaliser(scale.scale), scale.zero};
      });
      thread.sync();
      for_each_in_tile(thread, tiles, tile, [&](int step, int place, int i, int j) {
        const group_scale& scale = group_scales[(i << tiles.log2_cols) + groups(j)];
        codes[place] = encode_value(fast_grid, scale.normalise, scale.zero, x[step]);
      });
      thread.sync();
      pack_tile(thread, layout, tiles, tile, codes, packed);
    }
  }
};

/// packed = codes (rows, cols), a byte each, in the order of the layout.
struct pack_kernel {
  static constexpr std::string_view name = "pack_kernel";
  static constexpr int most_threads = matrix_tiles::threads;
  static constexpr int least_blocks = 8;

  device_view<const code_t> codes;
  quantized_layout layout;
  matrix_tiles tiles;
  std::uint8_t* packed;

  [[nodiscard]] launch_shape shape() const {
    return {tiles.num_blocks(most_tile_blocks), most_threads, matrix_tiles::size};
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    auto* tile_codes = thread.template shared<code_t>(0);
    for (index_t index = thread.block(); index < tiles.count; index += thread.num_blocks()) {
      const matrix_tile tile(tiles, index);
      thread.sync(); // the codes of the tile before may still be read
      for_each_in_tile(thread, tiles, tile, [&](int, int place, int i, int j) {
        tile_codes[place] = codes(tile.row + i, tile.col + j);
      });
      thread.sync();
      pack_tile(thread, layout, tiles, tile, tile_codes, packed);
    }
  }
};

} // namespace qlr::cuda::detail
