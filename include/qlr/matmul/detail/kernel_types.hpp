// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul/detail/geometry.hpp>
#include <qlr/matmul/options.hpp>

#include <cstdint>

namespace qlr::matmul_detail {

/// Vectors of rows that a panel has side by side.
inline constexpr index_t panel_vectors = 4;

/// Rows of a panel when a vector has `lanes` rows.
[[nodiscard]] constexpr index_t panel_rows(index_t lanes) {
  return panel_vectors * lanes;
}

/// Tokens whose sums stay in the second-level cache while a panel is multiplied.
inline constexpr index_t most_chunk_tokens = 192;

/// Element types of packed scales and factors.
enum class number_type { fp32, fp16, bf16 };

[[nodiscard]] constexpr index_t number_bytes(number_type type) {
  return type == number_type::fp32 ? 4 : 2;
}

/// Numbers of one type.
struct number_array {
  number_type type = number_type::fp32;
  const std::uint8_t* data = nullptr;

  [[nodiscard]] const std::uint8_t* at(index_t index) const { return data + index * number_bytes(type); }
};

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
  const std::uint8_t* codes = nullptr;
  number_array scales;
  bool has_zeros = false;
  number_array zeros;
  const level_tables* tables = nullptr;
};

/// L (panel, rank, panel row) or R (rank vector, padded column, lane).
struct factor_view {
  index_t rank = 0;
  number_array left;
  number_array right;
  float scale = 1;
};

/// Activations of all tokens, (block, token, block column); columns of a word in the order of the operands.
struct packed_activations {
  index_t tokens = 0;
  const float* exact = nullptr;         ///< always there
  const std::int16_t* halves = nullptr; ///< precision::bf16
  const std::int8_t* bytes = nullptr;   ///< precision::int8
  const float* steps = nullptr;         ///< (block, token): x ~= halves * step or bytes * step
  const float* sums = nullptr;          ///< (block, token): sum of the activations as they are multiplied
  const std::int32_t* integer_sums = nullptr; ///< (block, token): sum of the integers
};

/// The kernels of one instruction set.
struct kernel_table {
  index_t lanes; ///< rows per vector
  /// sums (count, panel row) += Q X^T of one panel for tokens first ... first + count - 1.
  void (*multiply)(const packed_view& w, const packed_activations& x, index_t panel, index_t first,
                   index_t count, float* sums);
  /// v (tokens, v_stride), ranks vector * lanes ... of tokens first ... first + count - 1: scale X R^T.
  void (*project)(const factor_view& f, const geometry& shape, const packed_activations& x, index_t vector,
                  index_t first, index_t count, float* v, index_t v_stride);
  /// sums (count, panel row) += v L^T of one panel.
  void (*add_low_rank)(const factor_view& f, index_t panel, const float* v, index_t v_stride, index_t count,
                       float* sums);
};

} // namespace qlr::matmul_detail
