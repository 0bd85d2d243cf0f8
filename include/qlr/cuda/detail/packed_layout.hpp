// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <cstdint>

namespace qlr::cuda::detail {

// Matrices that multiply X are stored as blocks of 16 rows and 64 columns, in the order in which the lanes of
// a warp hold the first operand of mma.m16n8k16 (kernel_thread::multiply_add), so that a warp reads a block
// as consecutive bytes and every lane finds its own codes side by side:
//
//   lane l, g = l / 4, c = 2 (l % 4);  pair p = 4 s + i is register i of step s (16 columns):
//     i = 0: (g, 16 s + c)    i = 1: (g + 8, 16 s + c)    i = 2: (g, 16 s + c + 8)   i = 3: (g + 8, 16 s + c
//     + 8) each with its right neighbour
//   codes of a lane, lowest bits first:  p = 0: left, right;  p = 1: left, right;  ... p = 15;  32 b bits
//
//   b bits   bytes of a block   of a lane   stored as
//     2            256             8        [lane]
//     3            384            12        [lane]
//     4            512            16        [lane]
//     8           1024            32        [half of the 16 pairs][lane]
//    16           2048            64        [step][lane]       numbers instead of codes
//
// A lane loads at most 16 bytes at once, hence the parts of 8 and 16 bits: neighbouring lanes touch
// neighbouring 16 bytes, which is free of bank conflicts (12 bytes are as well: 3 is odd).

inline constexpr int tile_rows = 16;      ///< rows of a block
inline constexpr int block_cols = 64;     ///< columns of a block
inline constexpr int step_cols = 16;      ///< columns of one tile product
inline constexpr int steps_per_block = 4; ///< block_cols / step_cols
inline constexpr int number_bits = 16;    ///< "codes" that are numbers themselves

/// Bits that codes of 1 to 8 bits are stored with.
[[nodiscard]] QLR_HOST_DEVICE constexpr int stored_bits(int bits) {
  return bits <= 2 ? 2 : bits <= 4 ? bits : 8;
}

/// 32-bit words of a block.
[[nodiscard]] QLR_HOST_DEVICE constexpr int words_per_block(int bits) {
  return 32 * bits;
}

/// Words that a lane loads at once.
[[nodiscard]] QLR_HOST_DEVICE constexpr int words_per_load(int bits) {
  return bits < 4 ? bits : 4;
}

/// Where an element of a block is: its lane, its pair of 16, and whether it is the right one of the pair.
struct block_place {
  int lane = 0;
  int pair = 0;
  int side = 0;
  friend constexpr bool operator==(const block_place&, const block_place&) = default;
};

/// The place of the element at row 0 to 15, column 0 to 63.
[[nodiscard]] QLR_HOST_DEVICE constexpr block_place place_in_block(int row, int col) {
  return {row % 8 * 4 + col % 8 / 2, col / 16 * 4 + col % 16 / 8 * 2 + row / 8, col % 2};
}

/// Row and column of a place; the inverse of place_in_block.
struct block_element {
  int row = 0;
  int col = 0;
};
[[nodiscard]] QLR_HOST_DEVICE constexpr block_element element_at(const block_place& place) {
  return {place.lane / 4 + place.pair % 2 * 8,
          place.pair / 4 * 16 + place.pair / 2 % 2 * 8 + place.lane % 4 * 2 + place.side};
}

/// Lowest bit of a place among the 32 `bits` bits of its lane.
[[nodiscard]] QLR_HOST_DEVICE constexpr int bit_in_lane(const block_place& place, int bits) {
  return (2 * place.pair + place.side) * bits;
}

/// Index in the block of word `word` (0 to bits - 1) of a lane.
[[nodiscard]] QLR_HOST_DEVICE constexpr int word_in_block(int lane, int word, int bits) {
  const int load = words_per_load(bits);
  return (word / load * 32 + lane) * load + word % load;
}

/// How columns of Q become columns of blocks: groups whose size is no multiple of 16 are padded to one, so
/// that a step never mixes two scales.
struct column_map {
  index_t cols = 0;         ///< n
  index_t group_cols = 1;   ///< columns per scale
  index_t group_stride = 1; ///< the same in blocks
  index_t num_groups = 0;
  index_t num_blocks = 0; ///< blocks of 64 columns

  /// Columns keep their numbers.
  [[nodiscard]] QLR_HOST_DEVICE constexpr bool is_identity() const { return group_cols == group_stride; }

  [[nodiscard]] QLR_HOST_DEVICE constexpr index_t packed_col(index_t col) const {
    return is_identity() ? col : col / group_cols * group_stride + col % group_cols;
  }
  /// The column of Q, or -1 where there is padding.
  [[nodiscard]] QLR_HOST_DEVICE constexpr index_t original_col(index_t packed) const {
    if (is_identity()) return packed < cols ? packed : -1;
    const index_t group = packed / group_stride;
    const index_t col = group * group_cols + packed % group_stride;
    return packed % group_stride < group_cols && col < cols ? col : -1;
  }
  /// The group of a packed column; columns behind the last group belong to it.
  [[nodiscard]] QLR_HOST_DEVICE constexpr index_t group_of(index_t packed) const {
    const index_t group = packed / group_stride;
    return group < num_groups ? group : num_groups - 1;
  }
};

[[nodiscard]] constexpr column_map make_column_map(index_t cols, index_t group_cols) {
  const auto round_up = [](index_t value, index_t unit) { return (value + unit - 1) / unit * unit; };
  column_map map;
  map.cols = cols;
  map.group_cols = group_cols;
  map.num_groups = (cols + group_cols - 1) / group_cols;
  if (map.num_groups == 1) map.group_cols = round_up(cols, block_cols); // a single group needs no padding
  map.group_stride = round_up(map.group_cols, step_cols);
  const index_t last = cols - (map.num_groups - 1) * group_cols;
  map.num_blocks = round_up((map.num_groups - 1) * map.group_stride + last, block_cols) / block_cols;
  return map;
}

/// Steps of one block that share a scale whatever the block: 1, 2 or 4.
[[nodiscard]] constexpr int steps_per_scale(const column_map& map) {
  return map.group_stride % 64 == 0 ? 4 : map.group_stride % 32 == 0 ? 2 : 1;
}

/// Tile of X in shared memory: 64 columns of a token are 8 chunks of 16 bytes; chunk j of token t lies at
/// 8 t + (j ^ t % 8), so that the same chunk of 8 tokens, which load_matrices reads, touches all 32 banks.
[[nodiscard]] QLR_HOST_DEVICE constexpr int swizzled_chunk(int token, int chunk) {
  return 8 * token + (chunk ^ (token % 8));
}

} // namespace qlr::cuda::detail
