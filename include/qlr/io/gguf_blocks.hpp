// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/detail/convert.hpp>
#include <qlr/io/detail/gguf_header.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

// Blocks of 32 consecutive elements of a row; rows are multiples of 32. d is an fp16 number.
//
//   Q4_0    d, 16 bytes: byte j holds elements j (low nibble) and j + 16 (high); element = d (code - 8)
//   IQ4_NL  d, 16 bytes in the same order;                                       element = d
//   iq4_nl_levels[code] Q8_0    d, 32 two's complement bytes q;                                      element
//   = d q
//
// The library's own codes of q8_0 are q + 128.

/// Element types that are written, numbered as in a file.
enum class gguf_tensor_type : std::uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, iq4_nl = 20, bf16 = 30 };

/// Elements of a block.
inline constexpr index_t gguf_block = 32;

/// Whether a number of an element type is Q4_0, Q8_0 or IQ4_NL.
[[nodiscard]] constexpr bool is_gguf_quantized(std::uint32_t type) {
  const auto known = static_cast<gguf_tensor_type>(type);
  return known == gguf_tensor_type::q4_0 || known == gguf_tensor_type::q8_0 ||
         known == gguf_tensor_type::iq4_nl;
}

/// "Q4_0".
[[nodiscard]] inline std::string_view gguf_type_name(gguf_tensor_type type) {
  const detail::gguf_element* element = detail::find_gguf_element(static_cast<std::uint32_t>(type));
  return element != nullptr ? element->name : "unknown";
}

namespace detail {

/// The named format whose codes a block type holds.
[[nodiscard]] constexpr std::string_view gguf_format_name(gguf_tensor_type type) {
  if (type == gguf_tensor_type::q4_0) return "q4_0";
  return type == gguf_tensor_type::q8_0 ? "q8_0" : "iq4_nl";
}

/// The level of each code.
[[nodiscard]] inline std::vector<float> gguf_levels(gguf_tensor_type type) {
  if (type == gguf_tensor_type::iq4_nl) return {iq4_nl_levels.begin(), iq4_nl_levels.end()};
  const int half = type == gguf_tensor_type::q4_0 ? 8 : 128;
  std::vector<float> levels;
  for (int level = -half; level < half; ++level) levels.push_back(static_cast<float>(level));
  return levels;
}

[[nodiscard]] inline quantized_layout gguf_layout(gguf_tensor_type type, index_t rows, index_t cols) {
  const bool is_byte = type == gguf_tensor_type::q8_0;
  return {rows,
          cols,
          gguf_block,
          is_byte ? 8 : 4,
          is_byte ? code_order::lsb_first : code_order::split_half,
          zero_point::none,
          qlr::detail::fp16_scales};
}

/// Turns library codes of q8_0 into two's complement and back.
inline void flip_top_bits(std::uint8_t* bytes, index_t count) {
  for (index_t i = 0; i < count; ++i) bytes[i] = static_cast<std::uint8_t>(bytes[i] ^ 0x80U);
}

} // namespace detail

/// The block type whose levels a quantized matrix has; nothing where none has them.
[[nodiscard]] inline std::optional<gguf_tensor_type> find_gguf_type(const quantized_matrix_view& q) {
  for (const gguf_tensor_type type :
       {gguf_tensor_type::q4_0, gguf_tensor_type::iq4_nl, gguf_tensor_type::q8_0}) {
    const std::vector<float> levels = detail::gguf_levels(type);
    if (std::size_t{1} << static_cast<unsigned>(q.layout.bits) != levels.size()) continue;
    if (std::equal(levels.begin(), levels.end(), q.levels)) return type;
  }
  return std::nullopt;
}

/// Stores a quantized matrix as blocks, without loss: formats q4_0, iq4_nl and q8_0, and any other with the
/// same levels (int4, int8, mxint4, mxint8), groups of a multiple of 32 and scales that are fp16 numbers.
///
/// @returns rows * cols / 32 blocks, row by row; their type is find_gguf_type(q)
/// @throws qlr::error unsupported: other levels, zero points, groups that end inside a block, a scale that is
/// no fp16 number
/// @throws qlr::error invalid_argument: cols is not a multiple of 32
[[nodiscard]] inline std::vector<std::byte> to_gguf_blocks(const quantized_matrix_view& q) {
  const quantized_layout& layout = q.layout;
  const std::optional<gguf_tensor_type> type = find_gguf_type(q);
  require(type.has_value() && layout.zeros == zero_point::none, status_code::unsupported,
          "the quantized matrix has ", layout.bits, " bits and levels",
          layout.zeros == zero_point::none ? "" : " with zero points",
          " that no GGUF block has; formats that can be stored are q4_0, iq4_nl and q8_0");
  require(layout.cols % gguf_block == 0, status_code::invalid_argument, "the quantized matrix has ",
          layout.cols, " columns, rows of GGUF blocks are multiples of ", gguf_block);
  require(layout.group_cols() % gguf_block == 0, status_code::unsupported,
          "the quantized matrix has groups of ", layout.group_cols(),
          ", allowed for GGUF blocks are multiples of ", gguf_block);
  const quantized_layout stored = detail::gguf_layout(*type, layout.rows, layout.cols);
  const index_t code_bytes = packed_bytes(gguf_block, stored.bits);
  std::vector<std::byte> blocks(static_cast<std::size_t>(stored.num_scales() * (2 + code_bytes)));
  std::vector<code_t> codes(static_cast<std::size_t>(layout.cols));
  std::vector<std::uint8_t> packed(static_cast<std::size_t>(stored.row_bytes()));
  std::byte* target = blocks.data();
  for (index_t row = 0; row < layout.rows && layout.cols > 0; ++row) {
    unpack_codes(layout.order, q.codes + row * layout.row_bytes(), layout.cols, layout.bits, codes.data());
    pack_codes(stored.order, codes.data(), layout.cols, stored.bits, packed.data());
    if (*type == gguf_tensor_type::q8_0) detail::flip_top_bits(packed.data(), stored.row_bytes());
    for (index_t block = 0; block < layout.cols / gguf_block; ++block) {
      const index_t scale_index = layout.scale_index(row, block * gguf_block / layout.group_cols());
      const float scale = decode_scale(q.scales, scale_index);
      const float16 d = to_float16(scale);
      require(to_float(d) == scale && is_finite(scale), status_code::unsupported, "the scale of group ",
              scale_index, " is ", scale, ", which is no fp16 number, the storage of GGUF blocks");
      std::memcpy(target, &d, 2);
      std::memcpy(target + 2, packed.data() + block * code_bytes, static_cast<std::size_t>(code_bytes));
      target += 2 + code_bytes;
    }
  }
  return blocks;
}

/// Reads blocks into a quantized matrix of the format q4_0, iq4_nl or q8_0, without loss.
///
/// @param subject  start of every message
/// @throws qlr::error invalid_argument: another type;  shape_mismatch: the bytes are not those of rows * cols
/// @throws qlr::error malformed_file: a scale that is not finite
[[nodiscard]] inline quantized_matrix from_gguf_blocks(gguf_tensor_type type,
                                                       std::span<const std::byte> blocks, index_t rows,
                                                       index_t cols, std::string_view subject = {}) {
  require(is_gguf_quantized(static_cast<std::uint32_t>(type)), status_code::invalid_argument, subject,
          "type is ", gguf_type_name(type), ", allowed are Q4_0, Q8_0 and IQ4_NL");
  require(rows >= 0 && cols >= 0 && cols % gguf_block == 0, status_code::invalid_argument, subject,
          "shape is ", rows, " x ", cols, ", rows of blocks are multiples of ", gguf_block);
  const quantized_layout layout = detail::gguf_layout(type, rows, cols);
  const index_t code_bytes = packed_bytes(gguf_block, layout.bits);
  const auto num_blocks = static_cast<index_t>(blocks.size()) / (2 + code_bytes);
  const index_t row_blocks = cols / gguf_block;
  // Dividing instead of multiplying: the shape may be anything.
  const bool fits =
      static_cast<index_t>(blocks.size()) % (2 + code_bytes) == 0 &&
      (row_blocks == 0 || rows == 0 ? num_blocks == 0
                                    : num_blocks % row_blocks == 0 && num_blocks / row_blocks == rows);
  require(fits, status_code::shape_mismatch, subject, blocks.size(), " bytes of ", gguf_type_name(type),
          " blocks are given, which do not fit ", rows, " x ", cols);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(num_blocks * code_bytes));
  stored_scales scales{layout.scales,
                       num_blocks,
                       std::vector<std::uint8_t>(static_cast<std::size_t>(2 * num_blocks)),
                       {},
                       0.0F};
  for (index_t i = 0; i < num_blocks; ++i) {
    const std::byte* source = blocks.data() + i * (2 + code_bytes);
    require(is_finite(detail::element_to_float<float16>(source)), status_code::malformed_file, subject,
            "the scale of block ", i, " is not finite");
    std::memcpy(scales.codes.data() + 2 * i, source, 2);
    std::memcpy(codes.data() + i * code_bytes, source + 2, static_cast<std::size_t>(code_bytes));
  }
  if (type == gguf_tensor_type::q8_0) detail::flip_top_bits(codes.data(), num_blocks * code_bytes);
  return {std::string(detail::gguf_format_name(type)),
          layout,
          detail::gguf_levels(type),
          std::move(codes),
          std::move(scales),
          {}};
}

/// Stores a matrix as F32, F16 or BF16, rounded to nearest, row by row.
///
/// @throws qlr::error invalid_argument: another type
/// @throws qlr::error non_finite: NaN or infinity;  unsupported: an element beyond the range of the type
[[nodiscard]] inline std::vector<std::byte> to_gguf_numbers(matrix_view<const float> values,
                                                            gguf_tensor_type type) {
  const auto store_all = [&](auto convert) {
    using stored = decltype(convert(0.0F));
    std::vector<std::byte> bytes(static_cast<std::size_t>(values.size()) * sizeof(stored));
    std::byte* target = bytes.data();
    for (index_t i = 0; i < values.rows(); ++i) {
      for (index_t j = 0; j < values.cols(); ++j, target += sizeof(stored)) {
        const float value = values(i, j);
        const stored number = convert(value);
        require(is_finite(value), status_code::non_finite, "element (", i, ", ", j, ") is ", value,
                ", it must be finite");
        require(is_finite(to_float(number)), status_code::unsupported, "element (", i, ", ", j, ") is ",
                value, ", beyond the range of ", gguf_type_name(type));
        std::memcpy(target, &number, sizeof number);
      }
    }
    return bytes;
  };
  if (type == gguf_tensor_type::f32) return store_all([](float value) { return value; });
  if (type == gguf_tensor_type::f16) return store_all([](float value) { return to_float16(value); });
  if (type == gguf_tensor_type::bf16) return store_all([](float value) { return to_bfloat16(value); });
  fail(status_code::invalid_argument, "type is ", gguf_type_name(type),
       ", allowed for numbers are F32, F16 and BF16");
}

} // namespace qlr::io
