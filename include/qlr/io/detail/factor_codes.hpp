// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/factor_storage.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io::detail {

/// Looks for a scale of which all values of a group are multiples that have a level; 0 when there is none.
///
/// @param[out] codes  code of each value
inline float find_exact_scale(std::span<const float> values, std::span<const float> levels, code_t* codes) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  float top = 0; // the lowest level may reach further than the highest
  for (const float level : levels) top = std::max(top, std::fabs(level));
  for (float multiple = top; multiple >= 1.0F; multiple -= 1.0F) {
    const float scale = to_float(to_float16(largest / multiple));
    if (scale * multiple != largest) continue;
    bool is_exact = true;
    for (std::size_t i = 0; i < values.size() && is_exact; ++i) {
      const auto level = std::find_if(levels.begin(), levels.end(),
                                      [&](float candidate) { return candidate * scale == values[i]; });
      is_exact = level != levels.end();
      codes[i] = static_cast<code_t>(level - levels.begin());
    }
    if (is_exact) return scale;
  }
  return 0;
}

/// Codes and scales of vectors (r,length) that round_factor made, without any loss.
///
/// Quantizing again gives the same values only where the scale is a normal fp16 number: below that its step
/// is coarse and the largest code need not be used, so the scale that was used is searched for.
/// @throws qlr::error invalid_argument: the storage cannot hold these values
[[nodiscard]] inline quantized_matrix encode_factor(matrix_view<const float> vectors, factor_storage storage,
                                                    std::string_view name) {
  const quantized_matrix q = quantize_factor(vectors, storage);
  const quantized_layout& layout = q.layout();
  const matrix<float> decoded = dequantize(q);
  std::vector<std::uint8_t> packed = q.codes();
  stored_scales scales = q.scales();
  std::vector<code_t> codes(static_cast<std::size_t>(layout.cols));
  for (index_t i = 0; i < layout.rows; ++i) {
    if (std::equal(vectors.row(i), vectors.row(i) + layout.cols, decoded.view().row(i))) continue;
    std::uint8_t* bytes = packed.data() + i * layout.row_bytes();
    unpack_codes(layout.order, bytes, layout.cols, layout.bits, codes.data());
    for (index_t g = 0; g < layout.groups_per_row(); ++g) {
      const index_t first = g * layout.group_cols();
      const index_t last = std::min(first + layout.group_cols(), layout.cols);
      const std::span<const float> group(vectors.row(i) + first, vectors.row(i) + last);
      if (std::equal(group.begin(), group.end(), decoded.view().row(i) + first)) continue;
      const float scale = find_exact_scale(group, q.levels(), codes.data() + first);
      require(scale > 0, status_code::invalid_argument, "factor ", name, " has values in vector ", i,
              " that its storage ", to_string(storage), " cannot hold; round_factor makes them fit");
      qlr::detail::store_scale(layout.scales.type, scale, scales.codes.data(), layout.scale_index(i, g));
    }
    lsb_first_packing::pack(codes.data(), layout.cols, layout.bits, bytes);
  }
  return {q.format_name(), layout, q.levels(), std::move(packed), std::move(scales), q.zeros()};
}

} // namespace qlr::io::detail
