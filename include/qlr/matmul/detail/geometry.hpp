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
/// A block is stored with block_cols columns whatever its real width; the rest meets activations of zero.
struct geometry {
  index_t cols = 0;
  index_t group_cols = 1;     ///< columns per scale
  index_t block_cols = 1;     ///< a multiple of codes_per_word
  int code_bits = 4;          ///< 2, 4 or 8: what codes are widened to
  index_t codes_per_word = 8; ///< 32 / code_bits
  index_t words_per_block = 1;
  index_t num_groups = 0;
  index_t num_blocks = 0;

  [[nodiscard]] index_t padded_cols() const { return num_blocks * block_cols; }
};

[[nodiscard]] inline geometry make_geometry(const quantized_layout& layout) {
  const auto divide_up = [](index_t a, index_t b) { return (a + b - 1) / b; };
  geometry result;
  result.cols = layout.cols;
  result.code_bits = layout.bits <= 2 ? 2 : layout.bits <= 4 ? 4 : 8;
  result.codes_per_word = 32 / result.code_bits;
  result.group_cols = std::max<index_t>(1, layout.group_cols());
  const index_t even = divide_up(result.group_cols, divide_up(result.group_cols, most_block_cols));
  result.words_per_block = divide_up(even, result.codes_per_word);
  result.block_cols = result.words_per_block * result.codes_per_word;
  const index_t full_groups = result.cols / result.group_cols;
  const index_t rest = result.cols - full_groups * result.group_cols;
  result.num_groups = divide_up(result.cols, result.group_cols);
  result.num_blocks =
      full_groups * divide_up(result.group_cols, result.block_cols) + divide_up(rest, result.block_cols);
  return result;
}

/// Walks over the blocks of a row in order.
class block_cursor {
public:
  explicit block_cursor(const geometry& shape)
      : cols_(shape.cols), group_cols_(shape.group_cols), block_cols_(shape.block_cols) {
    group_end_ = std::min(cols_, group_cols_);
  }

  [[nodiscard]] bool is_done() const { return first_col_ >= cols_; }
  [[nodiscard]] index_t index() const { return index_; }
  [[nodiscard]] index_t group() const { return group_; }
  [[nodiscard]] index_t first_col() const { return first_col_; }
  /// Real columns.
  [[nodiscard]] index_t width() const { return std::min(block_cols_, group_end_ - first_col_); }

  void advance() {
    ++index_;
    first_col_ += block_cols_;
    if (first_col_ < group_end_) return;
    first_col_ = group_end_;
    group_end_ = std::min(cols_, group_end_ + group_cols_);
    ++group_;
  }

private:
  index_t cols_;
  index_t group_cols_;
  index_t block_cols_;
  index_t index_ = 0;
  index_t group_ = 0;
  index_t first_col_ = 0;
  index_t group_end_ = 0;
};

/// Where the codes of one step of a word meet their activations.
///
/// A kernel sees a word as `parts` fields (1: fp32, 2: 16-bit, 4: 8-bit operands) and reads the lowest code
/// of every field, then shifts the word by one code; field i at step s is column i * steps + s of the word.
[[nodiscard]] constexpr index_t column_of_step(index_t codes_per_word, index_t parts, index_t step,
                                               index_t part) {
  return part * (codes_per_word / parts) + step;
}

} // namespace qlr::matmul_detail
