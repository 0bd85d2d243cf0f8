// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul/detail/tables.hpp>
#include <qlr/matmul/packed_factors.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace qlr {

/// Q and its low-rank part in the order of the kernels of one instruction set; immutable.
///
/// @memory codes of 1 and 3 bits take 2 and 4, those of 5 to 7 take 8; rows are padded to a panel of four
/// vectors; scales as fp16, bf16 or fp32, the narrowest that changes none; and a copy of the original scales
class packed_weights {
public:
  [[nodiscard]] index_t rows() const { return layout_.rows; }
  [[nodiscard]] index_t cols() const { return layout_.cols; }
  [[nodiscard]] isa instruction_set() const { return set_; }
  [[nodiscard]] const quantized_layout& layout() const { return layout_; }
  [[nodiscard]] const packed_factors& low_rank() const { return low_rank_; }
  [[nodiscard]] const matmul_detail::geometry& shape() const { return shape_; }
  /// What the columns of X are multiplied with before Q, 1 / input_scales (n); null for ones.
  [[nodiscard]] const float* input_factors() const {
    return input_factors_.empty() ? nullptr : input_factors_.data();
  }
  /// Bytes that a product with one token reads.
  [[nodiscard]] index_t size_bytes() const {
    return codes_.size() + scales_.size_bytes() + zeros_.size_bytes() + low_rank_.size_bytes() +
           4 * static_cast<index_t>(input_factors_.size());
  }
  /// The precision that a product asked for `mode` has: 8-bit codes of a table that is not evenly spaced have
  /// no integer operands, so they are multiplied exactly.
  [[nodiscard]] precision effective(precision mode) const {
    return shape_.code_bits == 8 && !tables_->is_affine ? precision::exact : mode;
  }
  [[nodiscard]] index_t num_panels() const {
    const index_t panel = matmul_detail::panel_rows(lanes_of(set_));
    return (rows() + panel - 1) / panel;
  }

  [[nodiscard]] matmul_detail::packed_view view() const {
    return {shape_,        rows(),       codes_.data(), scales_.view(), layout_.zeros != zero_point::none,
            zeros_.view(), tables_.get()};
  }

  /// The quantized matrix that was packed: the same codes, scales, zero points and levels.
  [[nodiscard]] quantized_matrix unpack(std::string format_name = {}) const {
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(layout_.code_bytes()));
    std::vector<code_t> row(static_cast<std::size_t>(cols()));
    for (index_t i = 0; i < rows(); ++i) {
      for_each_code(i, [&](index_t col, index_t word, int shift) {
        row[static_cast<std::size_t>(col)] = static_cast<code_t>((load_word(word) >> shift) & code_mask());
      });
      pack_codes(layout_.order, row.data(), cols(), layout_.bits, codes.data() + i * layout_.row_bytes());
    }
    return {std::move(format_name), layout_, levels_, std::move(codes), original_scales_, original_zeros_};
  }

  /// Decodes row `row` of Q into out[0 ... cols): the bits that row_decoder gives for what was packed.
  ///
  /// The input factors and the low-rank part are not in it.
  void decode_row(index_t row, float* out) const {
    const float* levels = levels_.data();
    for_each_code(row, [&](index_t col, index_t word, int shift) {
      out[col] = levels[(load_word(word) >> shift) & code_mask()];
    });
    const index_t panel = matmul_detail::panel_rows(lanes_of(set_));
    index_t at = row / panel * shape_.num_groups * panel + row % panel; // (panel, group, panel row)
    for (index_t first = 0; first < cols(); first += shape_.group_cols, at += panel) {
      const block_scale scale{scales_.get(at), layout_.zeros == zero_point::none ? 0.0F : zeros_.get(at)};
      const index_t last = std::min(first + shape_.group_cols, cols());
      for (index_t j = first; j < last; ++j) out[j] = decode_value(out[j], scale);
    }
  }

private:
  friend packed_weights prepack(const quantized_matrix_view& q, matrix_view<const float> left,
                                matrix_view<const float> right, float scale, isa set,
                                std::span<const float> input_scales);

  [[nodiscard]] std::uint32_t code_mask() const { return (1U << shape_.code_bits) - 1U; }

  [[nodiscard]] std::uint32_t load_word(index_t index) const {
    std::uint32_t word = 0;
    std::memcpy(&word, codes_.data() + 4 * index, sizeof word);
    return word;
  }

  /// Calls body(column, index of the word, shift) for every code of a row.
  template <class Body>
  void for_each_code(index_t row, Body&& body) const {
    using matmul_detail::block_cursor;
    const index_t panel = matmul_detail::panel_rows(lanes_of(set_));
    const index_t first_block = row / panel * shape_.num_blocks;
    for (block_cursor block(shape_); !block.is_done(); block.advance()) {
      const index_t first = (first_block + block.index()) * shape_.words_per_block * panel + row % panel;
      const index_t end = block.first_col() + block.width();
      index_t word = first;
      for (index_t col = block.first_col(); col < end; word += panel) {
        for (int shift = 0; shift < 32 && col < end; shift += shape_.code_bits) body(col++, word, shift);
      }
    }
  }

  isa set_ = isa::scalar;
  quantized_layout layout_;
  matmul_detail::geometry shape_;
  std::unique_ptr<matmul_detail::level_tables> tables_; // at a fixed address: kernels keep pointers to it
  matmul_detail::aligned_bytes codes_;
  matmul_detail::packed_numbers scales_;
  matmul_detail::packed_numbers zeros_;
  packed_factors low_rank_;
  std::vector<float> input_factors_;
  std::vector<float> levels_;
  stored_scales original_scales_;
  std::vector<std::uint8_t> original_zeros_;
};

} // namespace qlr
