// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/matmul/detail/packed_numbers.hpp>
#include <qlr/matmul/isa.hpp>

#include <vector>

namespace qlr {

/// Rows that a vector register of an instruction set holds.
[[nodiscard]] constexpr index_t lanes_of(isa set) {
  return set == isa::avx2 ? 8 : set == isa::avx512 || set == isa::avx512_vnni ? 16 : 4;
}

/// The factors of s L R in the order of the kernels: a base's own low-rank part, or an adapter for any base
/// of its shape.
///
/// Immutable. Each factor is stored in the narrowest type that changes none of its numbers: int8 with a scale
/// per run of up to 64 along m or n (what factor_storage::int8 and int4 decode to), fp16, bf16 or fp32.
/// @memory 1.06, 2 or 4 bytes per entry; L's rows are padded to a panel, R's columns to 64
class packed_factors {
public:
  packed_factors() = default;

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] index_t rank() const { return rank_; }
  [[nodiscard]] float scale() const { return scale_; }
  [[nodiscard]] isa instruction_set() const { return set_; }
  [[nodiscard]] index_t size_bytes() const { return left_.size_bytes() + right_.size_bytes(); }

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
    for (index_t k = 0; k < rank_; ++k) {
      for (index_t j = 0; j < cols_; ++j) out(k, j) = right_.get(k * view().padded_cols() + j);
    }
    return out;
  }

  [[nodiscard]] matmul_detail::factor_view view() const {
    return {rank_, cols_, left_.view(), right_.view(), scale_};
  }

private:
  friend packed_factors prepack_factors(matrix_view<const float> left, matrix_view<const float> right,
                                        float scale, isa set);

  [[nodiscard]] index_t panel() const { return matmul_detail::panel_rows(lanes_of(set_)); }
  [[nodiscard]] index_t left_index(index_t row, index_t k) const {
    return (row / panel() * rank_ + k) * panel() + row % panel();
  }

  isa set_ = isa::scalar;
  index_t rows_ = 0;
  index_t cols_ = 0;
  index_t rank_ = 0;
  float scale_ = 1;
  matmul_detail::packed_numbers left_;
  matmul_detail::packed_numbers right_;
};

/// Packs L (m,r) and R (r,n) for products on an instruction set; nothing is rounded.
///
/// @param scale  s
/// @throws qlr::error shape_mismatch: L and R do not fit;  non_finite: an entry, or s
/// @throws qlr::error unsupported: this machine lacks the instruction set
/// @complexity O(r (m + n))
[[nodiscard]] inline packed_factors prepack_factors(matrix_view<const float> left,
                                                    matrix_view<const float> right, float scale, isa set) {
  require_available(set);
  require(left.cols() == right.rows(), status_code::shape_mismatch, "L is ", left.rows(), " x ", left.cols(),
          " and R is ", right.rows(), " x ", right.cols());
  require(is_finite(scale), status_code::non_finite, "scale is ", scale, ", it must be finite");
  require_finite(left, "L");
  require_finite(right, "R");
  packed_factors out;
  out.set_ = set;
  out.rows_ = left.rows();
  out.cols_ = right.cols();
  out.rank_ = left.cols();
  out.scale_ = scale;
  const index_t panel = out.panel();
  std::vector<float> numbers(static_cast<std::size_t>((out.rows_ + panel - 1) / panel * panel * out.rank_));
  for (index_t i = 0; i < out.rows_; ++i) {
    for (index_t k = 0; k < out.rank_; ++k) {
      numbers[static_cast<std::size_t>(out.left_index(i, k))] = left(i, k);
    }
  }
  out.left_ = matmul_detail::packed_numbers(numbers, panel);
  const index_t padded_cols = out.view().padded_cols();
  numbers.assign(static_cast<std::size_t>(out.rank_ * padded_cols), 0.0F);
  for (index_t k = 0; k < out.rank_; ++k) {
    for (index_t j = 0; j < out.cols_; ++j) {
      numbers[static_cast<std::size_t>(k * padded_cols + j)] = right(k, j);
    }
  }
  out.right_ = matmul_detail::packed_numbers(numbers, matmul_detail::right_unit);
  return out;
}

/// Packs a quantized adapter: whatever dequantize_left, dequantize_right and scale tell about.
///
/// @throws qlr::error non_finite, unsupported: see prepack_factors
template <class Adapter>
  requires requires(const Adapter& adapter) {
    dequantize_left(adapter).view();
    dequantize_right(adapter).view();
    adapter.scale;
  }
[[nodiscard]] packed_factors prepack_factors(const Adapter& adapter, isa set = default_isa()) {
  const auto left = dequantize_left(adapter);
  const auto right = dequantize_right(adapter);
  return prepack_factors(left.view(), right.view(), adapter.scale, set);
}

} // namespace qlr
