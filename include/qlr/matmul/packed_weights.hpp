// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/matmul/detail/packed_numbers.hpp>
#include <qlr/matmul/detail/tables.hpp>
#include <qlr/matmul/isa.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace qlr {

/// Rows that a vector register of an instruction set holds.
[[nodiscard]] constexpr index_t lanes_of(isa set) {
  return set == isa::scalar ? 4 : set == isa::avx2 ? 8 : 16;
}

/// The factors of s L R in the order of the kernels: a base's own low-rank part, or an adapter for one.
///
/// Immutable. Numbers are stored as fp16, bf16 or fp32, the narrowest that changes none of them.
/// @memory 2 or 4 bytes per entry of L and R; L's rows padded to a panel, R's to a vector
class packed_factors {
public:
  packed_factors() = default;

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] index_t rank() const { return rank_; }
  [[nodiscard]] float scale() const { return scale_; }
  [[nodiscard]] isa instruction_set() const { return set_; }
  [[nodiscard]] index_t size_bytes() const { return left_.size_bytes() + right_.size_bytes(); }
  /// Rank rounded up to whole vectors.
  [[nodiscard]] index_t padded_rank() const {
    const index_t lanes = lanes_of(set_);
    return (rank_ + lanes - 1) / lanes * lanes;
  }

  /// L (m,r), the numbers that were packed.
  [[nodiscard]] matrix<float> left() const {
    matrix<float> out(rows_, rank_);
    for (index_t i = 0; i < rows_; ++i) {
      for (index_t k = 0; k < rank_; ++k) out(i, k) = left_.get(left_index(i, k));
    }
    return out;
  }
  /// R (r,n), the numbers that were packed.
  [[nodiscard]] matrix<float> right() const {
    matrix<float> out(rank_, cols_);
    for_each_col([&](index_t col, index_t position) {
      for (index_t k = 0; k < rank_; ++k) out(k, col) = right_.get(right_index(k, position));
    });
    return out;
  }

  [[nodiscard]] matmul_detail::factor_view view() const {
    return {rank_, left_.view(), right_.view(), scale_};
  }

private:
  friend packed_factors prepack_factors(matrix_view<const float> left, matrix_view<const float> right,
                                        float scale, const quantized_layout& base, isa set);

  [[nodiscard]] index_t left_index(index_t row, index_t k) const {
    const index_t panel = matmul_detail::panel_rows(lanes_of(set_));
    return (row / panel * rank_ + k) * panel + row % panel;
  }
  [[nodiscard]] index_t right_index(index_t k, index_t position) const {
    const index_t lanes = lanes_of(set_);
    return (k / lanes * shape_.padded_cols() + position) * lanes + k % lanes;
  }
  /// Calls body(column, position among the padded columns).
  template <class Body>
  void for_each_col(Body&& body) const {
    for (index_t block = 0; block < shape_.num_blocks(); ++block) {
      for (index_t j = 0; j < shape_.width(block); ++j) {
        body(shape_.first_col(block) + j, block * shape_.block_cols + j);
      }
    }
  }

  isa set_ = isa::scalar;
  index_t rows_ = 0;
  index_t cols_ = 0;
  index_t rank_ = 0;
  float scale_ = 1;
  matmul_detail::geometry shape_;
  matmul_detail::packed_numbers left_;
  matmul_detail::packed_numbers right_;
};

/// Packs L (m,r) and R (r,n) for products with a base of layout `base`.
///
/// @param scale  s
/// @throws qlr::error shape_mismatch: L, R and the base do not fit;  non_finite: an entry, or s
/// @throws qlr::error unsupported: this machine lacks the instruction set
[[nodiscard]] inline packed_factors prepack_factors(matrix_view<const float> left,
                                                    matrix_view<const float> right, float scale,
                                                    const quantized_layout& base, isa set) {
  require_available(set);
  require(left.rows() == base.rows && right.cols() == base.cols && left.cols() == right.rows(),
          status_code::shape_mismatch, "L is ", left.rows(), " x ", left.cols(), " and R is ", right.rows(),
          " x ", right.cols(), ", Q is ", base.rows, " x ", base.cols);
  require(is_finite(scale), status_code::non_finite, "scale is ", scale, ", it must be finite");
  require_finite(left, "L");
  require_finite(right, "R");
  using namespace matmul_detail;
  packed_factors out;
  out.set_ = set;
  out.rows_ = base.rows;
  out.cols_ = base.cols;
  out.rank_ = left.cols();
  out.scale_ = scale;
  out.shape_ = make_geometry(base);
  const index_t rank = out.rank_;
  if (rank == 0) return out;
  const index_t panel = panel_rows(lanes_of(set));
  out.left_ = packed_numbers(narrowest_type(left.size(), [&](index_t i) { return left(i / rank, i % rank); }),
                             (base.rows + panel - 1) / panel * panel * rank);
  out.right_ = packed_numbers(
      narrowest_type(right.size(), [&](index_t i) { return right(i / base.cols, i % base.cols); }),
      out.padded_rank() * out.shape_.padded_cols());
  for (index_t i = 0; i < base.rows; ++i) {
    for (index_t k = 0; k < rank; ++k) out.left_.set(out.left_index(i, k), left(i, k));
  }
  out.for_each_col([&](index_t col, index_t position) {
    for (index_t k = 0; k < rank; ++k) out.right_.set(out.right_index(k, position), right(k, col));
  });
  return out;
}

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
  /// Bytes that a product with one token reads.
  [[nodiscard]] index_t size_bytes() const {
    return codes_.size() + scales_.size_bytes() + zeros_.size_bytes() + low_rank_.size_bytes();
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

private:
  friend packed_weights prepack(const quantized_matrix_view& q, matrix_view<const float> left,
                                matrix_view<const float> right, float scale, isa set);

  [[nodiscard]] std::uint32_t code_mask() const { return (1U << shape_.code_bits) - 1U; }

  [[nodiscard]] std::uint32_t load_word(index_t index) const {
    std::uint32_t word = 0;
    std::memcpy(&word, codes_.data() + 4 * index, sizeof word);
    return word;
  }

  /// Calls body(column, index of the word, shift) for every code of a row.
  template <class Body>
  void for_each_code(index_t row, Body&& body) const {
    const index_t panel = matmul_detail::panel_rows(lanes_of(set_));
    const index_t words = shape_.words_per_block();
    for (index_t block = 0; block < shape_.num_blocks(); ++block) {
      const index_t first = ((row / panel * shape_.num_blocks() + block) * words) * panel + row % panel;
      for (index_t j = 0; j < shape_.width(block); ++j) {
        body(shape_.first_col(block) + j, first + j / shape_.codes_per_word() * panel,
             static_cast<int>(j % shape_.codes_per_word()) * shape_.code_bits);
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
  std::vector<float> levels_;
  stored_scales original_scales_;
  std::vector<std::uint8_t> original_zeros_;
};

} // namespace qlr
