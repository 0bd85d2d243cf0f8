// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/matmul/detail/geometry.hpp>
#include <qlr/matmul/isa.hpp>
#include <qlr/matmul/options.hpp>

#include <cstdint>

namespace qlr::matmul_detail {

/// Vectors of rows that a panel has side by side.
inline constexpr index_t panel_vectors = 4;

/// Rows of a panel when a vector has `lanes` rows.
[[nodiscard]] constexpr index_t panel_rows(index_t lanes) {
  return panel_vectors * lanes;
}

/// Most tokens that are multiplied with a panel at once: their activations stay in the second-level cache.
inline constexpr index_t most_chunk_tokens = 128;

/// Ranks and tokens of one task of X R^T.
inline constexpr index_t project_ranks = 8;
inline constexpr index_t project_tokens = 32;

/// Rows of R are padded with zeros to a multiple of this.
inline constexpr index_t right_unit = 64;

/// Element types of packed scales and factors.
enum class number_type { fp32, fp16, bf16, int8 };

[[nodiscard]] constexpr index_t number_bytes(number_type type) {
  return type == number_type::fp32 ? 4 : type == number_type::int8 ? 1 : 2;
}

/// Numbers of one type; int8 stands for byte * scales[index / run].
struct number_array {
  number_type type = number_type::fp32;
  const std::uint8_t* data = nullptr;
  const float* scales = nullptr;
  index_t run = 1;

  [[nodiscard]] const std::uint8_t* at(index_t index) const { return data + index * number_bytes(type); }
};

/// Rounds to an element type.
inline void convert(float value, float& out) {
  out = value;
}
inline void convert(float value, float16& out) {
  out = to_float16(value);
}
inline void convert(float value, bfloat16& out) {
  out = to_bfloat16(value);
}

/// How codes become operands: level = float(code) * step + base for affine tables, else a table.
struct level_tables {
  bool is_affine = false;
  float step = 1;
  float base = 0;
  alignas(64) float levels[256] = {};       ///< fp32 operands, by code; short tables repeat up to 16 entries
  alignas(64) std::int16_t halves[32] = {}; ///< 16-bit operands: level ~= halves * half_step + offset
  alignas(64) std::int8_t bytes[64] = {};   ///< 8-bit operands: level ~= bytes * byte_step + offset
  float half_step = 1;
  float byte_step = 1;
  float offset = 0; ///< 0 except for 8-bit codes, whose integer operands are code - 128
};

/// One packed Q: codes (panel, block, word, panel row) of 32 bits, scales and zeros (panel, group, panel
/// row).
struct packed_view {
  geometry shape;
  index_t rows = 0;
  const std::uint8_t* codes = nullptr; ///< three bytes beyond the last may be read
  number_array scales;
  bool has_zeros = false;
  number_array zeros;
  const level_tables* tables = nullptr;
};

/// L (panel, rank, panel row) and R (rank, column up to a multiple of right_unit).
struct factor_view {
  index_t rank = 0;
  index_t cols = 0;
  number_array left;
  number_array right;
  float scale = 1;

  [[nodiscard]] index_t padded_cols() const { return (cols + right_unit - 1) / right_unit * right_unit; }
};

/// Activations of all tokens, (block, token, block column); one of the first three is there.
struct packed_activations {
  index_t tokens = 0;
  float* exact = nullptr;
  std::int16_t* halves = nullptr; ///< precision::bf16; columns of a word in the order of the operands
  std::int8_t* bytes = nullptr;   ///< precision::int8; likewise
  float* steps = nullptr;         ///< (block, token): x ~= halves * step or bytes * step
  float* sums =
      nullptr; ///< (block, token): sum of the activations as they are multiplied; null if not needed
  std::int32_t* integer_sums = nullptr; ///< (block, token): sum of the integers
};

/// The kernels of one instruction set for activations of type T.
template <class T>
struct kernel_table {
  isa set; ///< as the kernels themselves say
  /// Packs tokens first ... first + count - 1 of X, columns times `factors` (n) unless that is null.
  void (*pack)(matrix_view<const T> x, const geometry& shape, const float* factors, index_t first,
               index_t count, const packed_activations& out);
  /// v (t, v_stride), at most project_ranks ranks from `first_rank` on of at most project_tokens tokens from
  /// `first` on: scale X R^T.
  void (*project)(const factor_view& f, matrix_view<const T> x, index_t first_rank, index_t first,
                  index_t count, float* v, index_t v_stride);
  /// sums (count, panel row) += Q X^T of one panel for tokens first ... first + count - 1.
  void (*multiply)(const packed_view& w, const packed_activations& x, index_t panel, index_t first,
                   index_t count, float* sums);
  /// sums (count, panel row) += v (count, v_stride) L^T of one panel.
  void (*add_low_rank)(const factor_view& f, index_t panel, const float* v, index_t v_stride, index_t count,
                       float* sums);
  /// Y (count, rows) = sums (count, panel row) + bias, which may be null.
  void (*store)(const float* sums, const float* bias, matrix_view<T> y);
};

} // namespace qlr::matmul_detail
