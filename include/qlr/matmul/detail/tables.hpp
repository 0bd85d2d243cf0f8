// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul/detail/kernel_types.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace qlr::matmul_detail {

/// The step of which every level is a multiple, at most `most` times; 0 when there is none.
inline float common_step(const float* levels, index_t count, float most) {
  float largest = 0;
  float smallest = 0; // positive
  for (index_t i = 0; i < count; ++i) {
    const float magnitude = std::fabs(levels[i]);
    largest = std::max(largest, magnitude);
    if (magnitude > 0 && (smallest == 0 || magnitude < smallest)) smallest = magnitude;
  }
  if (smallest == 0) return 1.0F;
  for (const float step : {smallest, smallest / 2}) { // halves: levels such as 1, 1.5, 2
    bool fits = largest / step <= most;
    for (index_t i = 0; i < count && fits; ++i) fits = std::nearbyint(levels[i] / step) * step == levels[i];
    if (fits) return step;
  }
  return 0;
}

/// Integer operands of up to 16 levels, repeated to fill the table; returns the step.
template <class Integer, std::size_t Size>
float fill_integers(const float* levels, index_t count, float most, Integer (&out)[Size]) {
  float largest = 0;
  for (index_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(levels[i]));
  float step = common_step(levels, count, most);
  if (step == 0) step = largest / most;
  for (std::size_t i = 0; i < Size; ++i) {
    out[i] = static_cast<Integer>(std::nearbyint(levels[i % static_cast<std::size_t>(count)] / step));
  }
  return step;
}

/// Tables of a quantized matrix whose codes are widened to `code_bits`.
inline level_tables make_tables(const float* levels, int bits, int code_bits) {
  level_tables tables;
  const index_t count = index_t{1} << bits;
  const index_t widened = index_t{1} << code_bits;
  for (index_t i = 0; i < std::max<index_t>(16, widened); ++i) tables.levels[i] = levels[i % widened % count];
  tables.step = levels[1] - levels[0];
  tables.base = levels[0];
  tables.is_affine = true;
  for (index_t i = 0; i < count; ++i) {
    tables.is_affine =
        tables.is_affine && std::fma(static_cast<float>(i), tables.step, tables.base) == levels[i];
  }
  if (code_bits == 8) { // level = step (code - 128) + offset
    tables.half_step = tables.step;
    tables.byte_step = tables.step;
    tables.offset = std::fma(128.0F, tables.step, tables.base);
    return tables;
  }
  constexpr float most_half = 4095; // times 8191 times 64 fits 31 bits
  constexpr float most_byte = 127;
  tables.half_step = fill_integers(tables.levels, std::min<index_t>(16, widened), most_half, tables.halves);
  tables.byte_step = fill_integers(tables.levels, std::min<index_t>(16, widened), most_byte, tables.bytes);
  return tables;
}

} // namespace qlr::matmul_detail
