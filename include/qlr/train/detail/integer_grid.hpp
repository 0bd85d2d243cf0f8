// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/quant/quantized_matrix.hpp>
#include <qlr/quant/scale_codec.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace qlr::train::detail {

/// Nearest integer, ties to even, of a value that was bounded to the range of a code or one beyond.
template <std::floating_point T>
[[nodiscard]] T round_even(T value) {
  if constexpr (std::same_as<T, float>) {
    return static_cast<float>(round_half_even(value));
  } else {
    return std::nearbyint(value);
  }
}

/// Consecutive integer levels with a scale and a zero point per row or group: element = scale (level - zero).
class integer_grid {
public:
  /// The grid, scales and zero points of a quantized matrix; a scale per tensor becomes one per row.
  ///
  /// @throws qlr::error unsupported: its levels are not consecutive integers
  explicit integer_grid(const quantized_matrix& start)
      : format_name_(start.format_name()), layout_(start.layout()), levels_(start.levels()) {
    for (std::size_t code = 0; code < levels_.size(); ++code) {
      require(levels_[code] == levels_[0] + static_cast<float>(code), status_code::unsupported,
              "quantizer is ", format_name_,
              ", learned rounding needs one whose levels are consecutive integers (int, uint)");
    }
    if (layout_.group_size == group_per_tensor) layout_.group_size = group_per_row;
    scales_ = matrix<float>(rows(), groups());
    zeros_ = matrix<float>(rows(), groups());
    for (index_t i = 0; i < rows(); ++i) {
      for (index_t g = 0; g < groups(); ++g) {
        const block_scale block = start.view().block(start.layout().scale_index(i, g));
        scales_(i, g) = block.scale;
        zeros_(i, g) = block.zero;
      }
    }
  }

  [[nodiscard]] index_t rows() const { return layout_.rows; }
  [[nodiscard]] index_t cols() const { return layout_.cols; }
  [[nodiscard]] index_t groups() const { return layout_.groups_per_row(); }
  [[nodiscard]] int bits() const { return layout_.bits; }
  [[nodiscard]] float lowest() const { return levels_.front(); }
  [[nodiscard]] float highest() const { return levels_.back(); }
  [[nodiscard]] float scale(index_t row, index_t group) const { return scales_(row, group); }
  [[nodiscard]] float zero(index_t row, index_t group) const { return zeros_(row, group); }
  /// -1 or 1: layers learn the magnitude of a scale, its sign stays.
  [[nodiscard]] float sign(index_t row, index_t group) const {
    return scales_(row, group) < 0 ? -1.0F : 1.0F;
  }
  /// Bytes of the first scales and the zero points.
  [[nodiscard]] index_t size_bytes() const { return 4 * (scales_.size() + zeros_.size()); }

  /// Calls body(group, begin, end) for the groups of a row.
  template <class Body>
  void for_each_group(Body&& body) const {
    const index_t width = layout_.group_cols();
    for (index_t g = 0, begin = 0; begin < cols(); ++g, begin += width)
      body(g, begin, std::min(cols(), begin + width));
  }

  /// Plain codes and scales: levels (m,n), scales (m,groups).
  ///
  /// @throws qlr::error unsupported: a scale beyond the range of its storage
  [[nodiscard]] quantized_matrix assemble(const matrix<std::uint8_t>& codes, std::vector<float> scales,
                                          const scale_format& format) const {
    quantized_layout layout = layout_;
    layout.scales = format;
    layout.order = code_order::lsb_first;
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(layout.code_bytes()));
    for (index_t i = 0; i < rows(); ++i)
      pack_codes(layout.order, codes.view().row(i), cols(), bits(), packed.data() + i * layout.row_bytes());
    stored_scales stored = encode_scales(scales, format);
    return {format_name_, layout, levels_, std::move(packed), std::move(stored), packed_zeros(layout)};
  }

private:
  [[nodiscard]] std::vector<std::uint8_t> packed_zeros(const quantized_layout& layout) const {
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(layout.zero_bytes()));
    if (layout.zeros == zero_point::real) std::memcpy(packed.data(), zeros_.data(), packed.size());
    if (layout.zeros != zero_point::integer) return packed;
    std::vector<code_t> codes(static_cast<std::size_t>(zeros_.size()));
    std::transform(zeros_.data(), zeros_.data() + zeros_.size(), codes.begin(),
                   [](float zero) { return static_cast<code_t>(zero); });
    pack_codes(code_order::lsb_first, codes.data(), zeros_.size(), layout.bits, packed.data());
    return packed;
  }

  std::string format_name_;
  quantized_layout layout_;
  std::vector<float> levels_;
  matrix<float> scales_; ///< (m,groups): the first ones
  matrix<float> zeros_;  ///< (m,groups)
};

/// Some rows of a weight on an integer grid, and what its gradient needs.
template <class T>
struct rounded_rows {
  rounded_rows(index_t rows, index_t cols) : weight(rows, cols), level(rows, cols), passes(rows, cols) {}
  matrix<T> weight; ///< W_hat = scale (level - zero)
  matrix<T> level;  ///< with the zero point: an integer
  matrix<T> passes; ///< what the gradient is multiplied with: 0 where the level is out of range
};

/// Rows of which the unrounded quotients are needed too.
template <class T>
struct quotient_rows : rounded_rows<T> {
  quotient_rows(index_t rows, index_t cols) : rounded_rows<T>(rows, cols), quotient(rows, cols) {}
  matrix<T> quotient; ///< before rounding, without the zero point; 0 where the level is out of range
};

/// One value after rounding, and whether its gradient passes.
template <std::floating_point T>
struct rounded_level {
  T level;
  bool passes;
};

/// @param value  in units of the scale, with the zero point
template <std::floating_point T>
[[nodiscard]] rounded_level<T> round_level(T value, T lowest, T highest) {
  // One beyond the range, so that rounding cannot overflow and saturated values are recognised.
  const T bounded = std::min(std::max(lowest - T{1}, value), highest + T{1}); // NaN saturates
  const T rounded = round_even(bounded);
  const bool passes = rounded >= lowest && rounded <= highest;
  return {std::min(std::max(rounded, lowest), highest), passes};
}

} // namespace qlr::train::detail
