// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>

namespace qlr::matmul_detail {

/// Most columns of a block: what one integer accumulator holds without overflow, and one tile in the
/// first-level cache.
inline constexpr index_t most_block_cols = 64;

/// How the columns of Q are cut: every group into equal blocks, every block into words of 32 bits.
///
/// A block is stored with block_cols() columns whatever its real width; the rest meets activations of zero.
struct geometry {
  index_t cols = 0;
  index_t group_cols = 1;       ///< columns per scale
  index_t blocks_per_group = 1; ///< of a full group
  index_t block_cols = 1;       ///< a multiple of codes_per_word()
  int code_bits = 4;            ///< 2, 4 or 8: what codes are widened to

  [[nodiscard]] index_t codes_per_word() const { return 32 / code_bits; }
  [[nodiscard]] index_t words_per_block() const { return block_cols / codes_per_word(); }
  [[nodiscard]] index_t num_groups() const { return (cols + group_cols - 1) / group_cols; }
  [[nodiscard]] index_t num_blocks() const {
    const index_t full = cols / group_cols;
    const index_t rest = cols - full * group_cols;
    return full * blocks_per_group + (rest + block_cols - 1) / block_cols;
  }
  [[nodiscard]] index_t padded_cols() const { return num_blocks() * block_cols; }
  [[nodiscard]] index_t group_of(index_t block) const { return block / blocks_per_group; }
  [[nodiscard]] index_t first_col(index_t block) const {
    return group_of(block) * group_cols + block % blocks_per_group * block_cols;
  }
  /// Real columns of a block.
  [[nodiscard]] index_t width(index_t block) const {
    const index_t first = first_col(block);
    const index_t group_end = std::min(cols, (group_of(block) + 1) * group_cols);
    return std::max<index_t>(0, std::min(block_cols, group_end - first));
  }
};

[[nodiscard]] inline geometry make_geometry(const quantized_layout& layout) {
  geometry result;
  result.cols = layout.cols;
  result.code_bits = layout.bits <= 2 ? 2 : layout.bits <= 4 ? 4 : 8;
  result.group_cols = std::max<index_t>(1, layout.group_cols());
  const index_t unit = result.codes_per_word();
  const index_t blocks = (result.group_cols + most_block_cols - 1) / most_block_cols;
  const index_t even = (result.group_cols + blocks - 1) / blocks;
  result.block_cols = (even + unit - 1) / unit * unit;
  result.blocks_per_group = (result.group_cols + result.block_cols - 1) / result.block_cols;
  return result;
}

/// Where the codes of one step of a word meet their activations.
///
/// A kernel sees a word as `parts` fields (1: fp32, 2: 16-bit, 4: 8-bit operands) and reads the lowest code
/// of every field, then shifts the word by one code; field i at step s is column i * steps + s of the word.
[[nodiscard]] constexpr index_t column_of_step(index_t codes_per_word, index_t parts, index_t step,
                                               index_t part) {
  return part * (codes_per_word / parts) + step;
}

} // namespace qlr::matmul_detail
