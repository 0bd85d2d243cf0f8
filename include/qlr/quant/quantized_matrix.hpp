// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/code_packing.hpp>
#include <qlr/quant/scale_codec.hpp>
#include <qlr/quant/scale_fit.hpp>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr {

/// Group sizes with a meaning of their own.
inline constexpr index_t group_per_row = 0;
inline constexpr index_t group_per_tensor = -1;

/// Shape and storage format of a quantized matrix: everything but the numbers.
struct quantized_layout {
  index_t rows = 0;
  index_t cols = 0;
  index_t group_size =
      group_per_row; ///< consecutive elements of a row per scale, or group_per_row, group_per_tensor
  int bits = 4;
  code_order order = code_order::lsb_first;
  zero_point zeros = zero_point::none;
  scale_format scales;

  [[nodiscard]] QLR_HOST_DEVICE index_t row_bytes() const { return packed_bytes(cols, bits); }
  /// Elements per scale along a row, the last group of a row excepted.
  [[nodiscard]] QLR_HOST_DEVICE index_t group_cols() const {
    return group_size > 0 && group_size < cols ? group_size : cols;
  }
  [[nodiscard]] QLR_HOST_DEVICE index_t groups_per_row() const {
    return cols == 0 ? 0 : (cols + group_cols() - 1) / group_cols();
  }
  [[nodiscard]] QLR_HOST_DEVICE index_t num_scales() const {
    if (rows == 0 || cols == 0) return 0;
    return group_size == group_per_tensor ? 1 : rows * groups_per_row();
  }
  /// Index of the scale of group `group` of row `row`.
  [[nodiscard]] QLR_HOST_DEVICE index_t scale_index(index_t row, index_t group) const {
    return group_size == group_per_tensor ? 0 : row * groups_per_row() + group;
  }

  [[nodiscard]] QLR_HOST_DEVICE index_t code_bytes() const { return rows * row_bytes(); }
  [[nodiscard]] QLR_HOST_DEVICE index_t zero_bytes() const {
    if (zeros == zero_point::none) return 0;
    return zeros == zero_point::integer ? packed_bytes(num_scales(), bits) : 4 * num_scales();
  }
  /// Bytes of codes, scales and zero points; the level table and one number per tensor are not counted.
  [[nodiscard]] QLR_HOST_DEVICE index_t storage_bytes() const {
    return code_bytes() + zero_bytes() + scale_code_bytes(scales, num_scales()) +
           scale_super_bytes(scales, num_scales());
  }
};

/// A quantized matrix in somebody else's memory, which may be a mapped file: element = (level - zero) *
/// scale.
///
///   codes   rows * row_bytes() bytes, row by row; see code_packing.hpp
///   levels  2^bits floats: the value of each code before scaling
///   scales  num_scales() scales, row by row, or a single one; see scale_codec.hpp
///   zeros   integer: num_scales() codes of `bits` bits, lsb first;  real: num_scales() binary32;  none: null
struct quantized_matrix_view {
  quantized_layout layout;
  const std::uint8_t* codes = nullptr;
  const float* levels = nullptr;
  scales_view scales;
  const std::uint8_t* zeros = nullptr;

  [[nodiscard]] QLR_HOST_DEVICE index_t rows() const { return layout.rows; }
  [[nodiscard]] QLR_HOST_DEVICE index_t cols() const { return layout.cols; }

  /// Scale and zero point of block `index`.
  [[nodiscard]] QLR_HOST_DEVICE block_scale block(index_t index) const {
    block_scale result{decode_scale(scales, index), 0.0F};
    if (layout.zeros == zero_point::real) {
      std::memcpy(&result.zero, zeros + 4 * index, sizeof result.zero);
    } else if (layout.zeros == zero_point::integer) {
      result.zero = static_cast<float>(
          packed_code(code_order::lsb_first, zeros, layout.num_scales(), layout.bits, index));
    }
    return result;
  }

  [[nodiscard]] QLR_HOST_DEVICE code_t code(index_t row, index_t col) const {
    return packed_code(layout.order, codes + row * layout.row_bytes(), layout.cols, layout.bits, col);
  }
  /// One element before scaling.
  [[nodiscard]] QLR_HOST_DEVICE float level(index_t row, index_t col) const { return levels[code(row, col)]; }
  /// One element; rows are decoded faster by row_decoder.
  [[nodiscard]] QLR_HOST_DEVICE float element(index_t row, index_t col) const {
    return decode_value(level(row, col), block(layout.scale_index(row, col / layout.group_cols())));
  }
};

/// Owner of a quantized matrix.
///
/// @memory layout().storage_bytes() plus the level table
class quantized_matrix {
public:
  quantized_matrix() = default;

  /// Takes the parts; sizes must match the layout.
  ///
  /// @throws qlr::error shape_mismatch: a part whose size is not what the layout says
  quantized_matrix(std::string format_name, const quantized_layout& layout, std::vector<float> levels,
                   std::vector<std::uint8_t> codes, stored_scales scales, std::vector<std::uint8_t> zeros)
      : format_name_(std::move(format_name)), layout_(layout), levels_(std::move(levels)),
        codes_(std::move(codes)), scales_(std::move(scales)), zeros_(std::move(zeros)) {
    check("levels", levels_.size(), index_t{1} << layout.bits);
    check("codes", codes_.size(), layout.code_bytes());
    check("zeros", zeros_.size(), layout.zero_bytes());
    check("scales", static_cast<std::size_t>(scales_.count), layout.num_scales());
    check("scales.codes", scales_.codes.size(), scale_code_bytes(layout.scales, layout.num_scales()));
    check("scales.supers", scales_.supers.size(), scale_super_bytes(layout.scales, layout.num_scales()));
  }

  [[nodiscard]] const std::string& format_name() const { return format_name_; }
  [[nodiscard]] const quantized_layout& layout() const { return layout_; }
  [[nodiscard]] index_t rows() const { return layout_.rows; }
  [[nodiscard]] index_t cols() const { return layout_.cols; }
  [[nodiscard]] const std::vector<float>& levels() const { return levels_; }
  [[nodiscard]] const std::vector<std::uint8_t>& codes() const { return codes_; }
  [[nodiscard]] const stored_scales& scales() const { return scales_; }
  [[nodiscard]] const std::vector<std::uint8_t>& zeros() const { return zeros_; }

  [[nodiscard]] quantized_matrix_view view() const {
    return {layout_, codes_.data(), levels_.data(), scales_.view(), zeros_.data()};
  }

private:
  static void check(std::string_view part, std::size_t size, index_t expected) {
    require(static_cast<index_t>(size) == expected, status_code::shape_mismatch, "quantized_matrix: ", part,
            " has ", size, " entries, the layout needs ", expected);
  }

  std::string format_name_;
  quantized_layout layout_;
  std::vector<float> levels_;
  std::vector<std::uint8_t> codes_;
  stored_scales scales_;
  std::vector<std::uint8_t> zeros_;
};

} // namespace qlr
