// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Slow second implementations, written from the definitions and sharing no arithmetic with the library.

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/quant/concepts.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::test {

/// What a call reports; `message` is empty when it does not fail.
struct report {
  status_code code = status_code::invalid_argument;
  std::string message;

  [[nodiscard]] bool says(status_code expected, std::string_view part) const {
    return !message.empty() && code == expected && message.find(part) != std::string::npos;
  }
};

template <class Call>
[[nodiscard]] report report_of(Call&& call) {
  try {
    call();
  } catch (const error& failure) {
    return {failure.code(), failure.what()};
  }
  return {};
}

/// True when the values differ by at most the given number.
[[nodiscard]] inline bool is_near(double value, double expected, double tolerance) {
  return std::fabs(value - expected) <= tolerance;
}

/// True when both have the same bits (so a NaN equals itself, and zeros differ by sign).
[[nodiscard]] inline bool is_same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// Value of a small float given its fields, exact in double.
[[nodiscard]] inline double field_value(bool is_negative, int exponent, int mantissa, int mantissa_bits,
                                        int bias) {
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1.0 + fraction, exponent - bias);
  return is_negative ? -magnitude : magnitude;
}

[[nodiscard]] inline double slow_value(float16 number) {
  const int exponent = (number.bits >> 10) & 31;
  const int mantissa = number.bits & 1023;
  const bool is_negative = (number.bits >> 15) != 0;
  if (exponent == 31) {
    if (mantissa != 0) return std::numeric_limits<double>::quiet_NaN();
    return is_negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }
  return field_value(is_negative, exponent, mantissa, 10, 15);
}

[[nodiscard]] inline double slow_value(bfloat16 number) {
  const int exponent = (number.bits >> 7) & 255;
  const int mantissa = number.bits & 127;
  const bool is_negative = (number.bits >> 15) != 0;
  if (exponent == 255) {
    if (mantissa != 0) return std::numeric_limits<double>::quiet_NaN();
    return is_negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }
  return field_value(is_negative, exponent, mantissa, 7, 127);
}

[[nodiscard]] inline double slow_value(float8_e4m3 number) {
  if ((number.bits & 127) == 127) return std::numeric_limits<double>::quiet_NaN();
  return field_value((number.bits >> 7) != 0, (number.bits >> 3) & 15, number.bits & 7, 3, 7);
}

[[nodiscard]] inline double slow_value(float8_e8m0 number) {
  if (number.bits == 255) return std::numeric_limits<double>::quiet_NaN();
  return std::ldexp(1.0, number.bits - 127);
}

/// Where bit `bit` of the code of element `element` of a row lies: (byte, position from the least significant
/// bit).
[[nodiscard]] inline std::pair<index_t, int> bit_place(code_order order, index_t count, int bits,
                                                       index_t element, int bit) {
  if (order == code_order::lsb_first) {
    const index_t place = element * bits + bit;
    return {place / 8, static_cast<int>(place % 8)};
  }
  if (order == code_order::msb_first) {
    const index_t place = element * bits + (bits - 1 - bit);
    return {place / 8, 7 - static_cast<int>(place % 8)};
  }
  const index_t block = element / 32;
  const index_t in_block = element % 32;
  const index_t half = (std::min<index_t>(32, count - 32 * block) + 1) / 2;
  return in_block < half ? std::pair{16 * block + in_block, bit}
                         : std::pair{16 * block + in_block - half, 4 + bit};
}

/// Reads one code bit by bit.
[[nodiscard]] inline code_t slow_code(code_order order, const std::uint8_t* row, index_t count, int bits,
                                      index_t element) {
  int code = 0;
  for (int bit = 0; bit < bits; ++bit) {
    const auto [byte, position] = bit_place(order, count, bits, element, bit);
    code += ((row[byte] >> position) & 1) << bit;
  }
  return static_cast<code_t>(code);
}

/// One stored number of a scale type.
[[nodiscard]] inline double slow_number(scale_type type, const std::uint8_t* bytes, index_t index) {
  const auto byte = [&](index_t i) { return static_cast<std::uint32_t>(bytes[i]); };
  const auto pair = [&] { return static_cast<std::uint16_t>(byte(2 * index) | (byte(2 * index + 1) << 8)); };
  switch (type) {
  case scale_type::fp32: {
    float value = 0;
    std::memcpy(&value, bytes + 4 * index, 4);
    return static_cast<double>(value);
  }
  case scale_type::fp16:
    return slow_value(float16{pair()});
  case scale_type::bf16:
    return slow_value(bfloat16{pair()});
  case scale_type::e8m0:
    return slow_value(float8_e8m0{bytes[index]});
  case scale_type::e4m3:
    return slow_value(float8_e4m3{bytes[index]});
  }
  return 0;
}

/// The 256 levels of bitsandbytes' dynamic map, by its definition.
[[nodiscard]] inline std::vector<double> slow_dynamic_map() {
  std::vector<double> levels{0.0, 1.0};
  for (int decade = 0; decade < 7; ++decade) {
    const int count = 1 << decade;
    for (int i = 0; i < count; ++i) {
      const double low = 0.1 + 0.9 * i / count;
      const double high = 0.1 + 0.9 * (i + 1) / count;
      levels.push_back(0.5 * (low + high) * std::pow(10.0, decade - 6));
      levels.push_back(-levels.back());
    }
  }
  std::sort(levels.begin(), levels.end());
  return levels;
}

/// One stored scale in double precision.
[[nodiscard]] inline double slow_scale(const stored_scales& scales, index_t index) {
  const scale_format& format = scales.format;
  const auto base = static_cast<double>(scales.base);
  if (!format.is_double()) {
    const double number = slow_number(format.type, scales.codes.data(), index);
    return format.coding == scale_coding::tensor_scaled ? base * number : number;
  }
  const double super = slow_number(format.type, scales.supers.data(), index / format.block);
  const code_t code = slow_code(code_order::lsb_first, scales.codes.data(), scales.count, format.bits, index);
  if (format.coding == scale_coding::double_mean) return base + super * slow_dynamic_map()[code];
  return super <= 0x1p-24 ? base : base + super * code / ((1 << format.bits) - 1);
}

/// Scale and zero point of the block that holds an element, by the rules of the layout.
struct slow_block {
  double scale = 0;
  double zero = 0;
};

[[nodiscard]] inline slow_block block_of(const quantized_matrix& q, index_t row, index_t col) {
  const quantized_layout& layout = q.layout();
  index_t index = 0; // per tensor
  if (layout.group_size == 0) index = row;
  if (layout.group_size > 0) {
    const index_t group = std::min(layout.group_size, layout.cols);
    index = row * ((layout.cols + group - 1) / group) + col / group;
  }
  slow_block block{slow_scale(q.scales(), index), 0.0};
  if (layout.zeros == zero_point::real) {
    block.zero = slow_number(scale_type::fp32, q.zeros().data(), index);
  } else if (layout.zeros == zero_point::integer) {
    block.zero = slow_code(code_order::lsb_first, q.zeros().data(), layout.num_scales(), layout.bits, index);
  }
  return block;
}

/// The code of one element, read bit by bit.
[[nodiscard]] inline code_t code_of(const quantized_matrix& q, index_t row, index_t col) {
  const quantized_layout& layout = q.layout();
  const index_t row_bytes = (layout.cols * layout.bits + 7) / 8;
  return slow_code(layout.order, q.codes().data() + row * row_bytes, layout.cols, layout.bits, col);
}

/// One element; exact for scales that are not double-quantized: the difference and the product are each
/// rounded to float once, which is what every backend promises.
[[nodiscard]] inline float slow_element(const quantized_matrix& q, index_t row, index_t col) {
  const slow_block block = block_of(q, row, col);
  const float level = q.levels()[code_of(q, row, col)];
  const auto difference = static_cast<float>(static_cast<double>(level) - block.zero);
  const auto scale = static_cast<float>(block.scale);
  return static_cast<float>(static_cast<double>(difference) * static_cast<double>(scale));
}

/// The whole matrix element by element.
[[nodiscard]] inline matrix<float> slow_dequantize(const quantized_matrix& q) {
  matrix<float> out(q.rows(), q.cols());
  for (index_t i = 0; i < q.rows(); ++i) {
    for (index_t j = 0; j < q.cols(); ++j) out(i, j) = slow_element(q, i, j);
  }
  return out;
}

/// Sum of w (a - b)^2 in double precision; `weights` holds one number per column, or nothing for ones.
[[nodiscard]] inline double squared_error(const matrix<float>& a, const matrix<float>& b,
                                          const std::vector<float>& weights = {}) {
  double sum = 0;
  for (index_t i = 0; i < a.rows(); ++i) {
    for (index_t j = 0; j < a.cols(); ++j) {
      const double difference = static_cast<double>(a(i, j)) - static_cast<double>(b(i, j));
      sum += difference * difference *
             (weights.empty() ? 1.0 : static_cast<double>(weights[static_cast<std::size_t>(j)]));
    }
  }
  return sum;
}

/// Codes, scales, zero points and levels have the same bytes.
[[nodiscard]] inline bool has_same_bytes(const quantized_matrix& a, const quantized_matrix& b) {
  return a.codes() == b.codes() && a.zeros() == b.zeros() && a.levels() == b.levels() &&
         a.scales().codes == b.scales().codes && a.scales().supers == b.scales().supers &&
         is_same(a.scales().base, b.scales().base);
}

} // namespace qlr::test
