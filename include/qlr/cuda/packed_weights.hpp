// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/packed_factors.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <span>
#include <utility>
#include <vector>

namespace qlr::cuda {

/// Q in the order of the kernels, in host memory: codes as they were, levels rounded to T.
///
/// @tparam T  element type of X
template <half_scalar T>
class packed_image {
public:
  /// @param q  Q (m,n) in any format and grouping
  /// @param input_scales  what X is divided by before Q (n), positive; empty = ones
  /// @throws qlr::error invalid_argument: Q is empty or has over 2^26 rows or 2^30 columns, or an input scale
  /// that is not positive
  /// @throws qlr::error shape_mismatch: input scales of another number;  non_finite: a level
  /// @complexity O(m n)
  explicit packed_image(const quantized_matrix_view& q, std::span<const float> input_scales = {})
      : rows_(q.rows()), bits_(detail::stored_bits(q.layout.bits)), zeros_(q.layout.zeros) {
    require(q.rows() > 0 && q.cols() > 0, status_code::invalid_argument, "Q is ", q.rows(), " x ", q.cols(),
            ", it must not be empty");
    require(q.rows() <= most_rows && q.cols() <= most_cols, status_code::invalid_argument, "Q is ", q.rows(),
            " x ", q.cols(), ", products on a device take up to ", most_rows, " x ", most_cols);
    require(input_scales.empty() || static_cast<index_t>(input_scales.size()) == q.cols(),
            status_code::shape_mismatch, "input_scales has ", input_scales.size(), " entries, Q is ",
            q.rows(), " x ", q.cols());
    columns_ = detail::make_column_map(q.cols(), q.layout.group_cols());
    const int input_exponent = pack_input_scales(input_scales);
    const int level_exponent = pack_levels({q.levels, std::size_t{1} << q.layout.bits});
    pack_codes(q);
    pack_scales(q, level_exponent, input_exponent);
  }

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return columns_.cols; }
  [[nodiscard]] index_t row_tiles() const { return (rows_ + detail::tile_rows - 1) / detail::tile_rows; }
  [[nodiscard]] int bits() const { return bits_; }
  [[nodiscard]] zero_point zeros() const { return zeros_; }
  [[nodiscard]] const detail::column_map& columns() const { return columns_; }
  [[nodiscard]] std::span<const std::uint32_t> code_words() const { return codes_; }
  [[nodiscard]] std::span<const std::uint32_t> table() const { return table_; }
  [[nodiscard]] const detail::number_array& scales() const { return packed_scales_; }
  [[nodiscard]] const detail::number_array& zero_points() const { return packed_zeros_; }
  [[nodiscard]] std::span<const float> row_factors() const { return row_factors_; }
  [[nodiscard]] std::span<const float> column_factors() const { return column_factors_; }

  /// The code of element (row, col) of Q.
  [[nodiscard]] code_t code(index_t row, index_t col) const {
    code_t value = 0;
    for_each_part(row, col, [&](index_t word, int bit, int shift, int count) {
      const std::uint32_t part = codes_[static_cast<std::size_t>(word)] >> bit;
      value = static_cast<code_t>(value | ((part & ((1U << count) - 1U)) << shift));
    });
    return value;
  }

private:
  // What kernels count in 32 bits: items, columns and chunks of codes.
  static constexpr index_t most_rows = index_t{1} << 26;
  static constexpr index_t most_cols = index_t{1} << 30;

  /// Calls body(word, bit in the word, bit in the code, number of bits) for the one or two words that hold a
  /// code.
  template <class Body>
  void for_each_part(index_t row, index_t col, Body&& body) const {
    const index_t packed = columns_.packed_col(col);
    const detail::block_place place = detail::place_in_block(static_cast<int>(row % detail::tile_rows),
                                                             static_cast<int>(packed % detail::block_cols));
    const index_t block = (row / detail::tile_rows * columns_.num_blocks + packed / detail::block_cols) *
                          detail::words_per_block(bits_);
    int bit = detail::bit_in_lane(place, bits_);
    for (int done = 0; done < bits_;) {
      const int count = std::min(bits_ - done, 32 - bit % 32);
      body(block + detail::word_in_block(place.lane, bit / 32, bits_), bit % 32, done, count);
      done += count;
      bit += count;
    }
  }

  /// Returns the exponent that was taken out of the factors.
  int pack_input_scales(std::span<const float> input_scales) {
    if (input_scales.empty()) return 0;
    std::vector<float> factors;
    for (const float value : input_scales) {
      const float factor = 1.0F / value;
      require(is_finite(value) && is_finite(factor) && value > 0, status_code::invalid_argument,
              "input_scales holds ", value, ", each must be finite and positive");
      factors.push_back(factor);
    }
    // At most 1, so that no product with an element of X overflows.
    const int exponent = detail::exponent_of(detail::largest_magnitude(factors)) + 1;
    column_factors_.assign(static_cast<std::size_t>(columns_.num_blocks * detail::block_cols), 0.0F);
    for (index_t j = 0; j < cols(); ++j) {
      column_factors_[static_cast<std::size_t>(columns_.packed_col(j))] =
          std::ldexp(factors[static_cast<std::size_t>(j)], -exponent);
    }
    return exponent;
  }

  /// Returns the exponent that was taken out of the levels: none where T holds them well.
  int pack_levels(std::span<const float> levels) {
    for (const float level : levels) {
      require(is_finite(level), status_code::non_finite, "Q has the level ", level, ", all must be finite");
    }
    const float largest = detail::largest_magnitude(levels);
    const int exponent = largest >= 0x1p-4F && largest <= 0x1p10F ? 0 : detail::exponent_of(largest);
    const auto level = [&](std::size_t code) -> std::uint32_t {
      if (code >= levels.size()) return 0; // no code of Q
      return detail::round_to_half<T>(std::ldexp(levels[code], -exponent)).bits;
    };
    if (bits_ == 8) {
      for (std::size_t code = 0; code < 256; ++code) table_.push_back(level(code) * 0x10001U);
      return exponent;
    }
    const std::size_t codes = std::size_t{1} << bits_;
    for (std::size_t pair = 0; pair < codes * codes; ++pair)
      table_.push_back(level(pair % codes) | (level(pair / codes) << 16U));
    return exponent;
  }

  void pack_codes(const quantized_matrix_view& q) {
    codes_.assign(
        static_cast<std::size_t>(row_tiles() * columns_.num_blocks * detail::words_per_block(bits_)), 0U);
    std::vector<code_t> row(static_cast<std::size_t>(q.cols()));
    for (index_t i = 0; i < q.rows(); ++i) {
      unpack_codes(q.layout.order, q.codes + i * q.layout.row_bytes(), q.cols(), q.layout.bits, row.data());
      for (index_t j = 0; j < q.cols(); ++j) {
        const std::uint32_t value = row[static_cast<std::size_t>(j)];
        for_each_part(i, j, [&](index_t word, int bit, int shift, int count) {
          codes_[static_cast<std::size_t>(word)] |= ((value >> shift) & ((1U << count) - 1U)) << bit;
        });
      }
    }
  }

  void pack_scales(const quantized_matrix_view& q, int level_exponent, int input_exponent) {
    const index_t groups = columns_.num_groups;
    std::vector<float> scales(
        static_cast<std::size_t>(row_tiles() * groups * detail::tile_rows)); // (tile, group, 16)
    std::vector<float> zeros(scales.size());
    row_factors_.assign(static_cast<std::size_t>(row_tiles() * detail::tile_rows), 0.0F);
    std::vector<block_scale> blocks(static_cast<std::size_t>(groups));
    for (index_t i = 0; i < q.rows(); ++i) {
      float largest = 0;
      for (index_t g = 0; g < groups; ++g) {
        block_scale& block = blocks[static_cast<std::size_t>(g)];
        block = q.block(q.layout.scale_index(i, g));
        largest = std::max(largest, std::fabs(block.scale));
      }
      const int exponent = detail::exponent_of(largest);
      for (index_t g = 0; g < groups; ++g) {
        const auto target = static_cast<std::size_t>(
            (i / detail::tile_rows * groups + g) * detail::tile_rows + i % detail::tile_rows);
        scales[target] = std::ldexp(blocks[static_cast<std::size_t>(g)].scale, -exponent);
        zeros[target] = std::ldexp(blocks[static_cast<std::size_t>(g)].zero, -level_exponent);
      }
      row_factors_[static_cast<std::size_t>(i)] =
          std::ldexp(1.0F, exponent + level_exponent + input_exponent);
    }
    packed_scales_ = detail::to_narrowest(scales);
    if (zeros_ != zero_point::none) packed_zeros_ = detail::to_narrowest(zeros);
  }

  index_t rows_ = 0;
  int bits_ = 4;
  zero_point zeros_ = zero_point::none;
  detail::column_map columns_;
  std::vector<std::uint32_t> codes_;
  std::vector<std::uint32_t> table_;
  detail::number_array packed_scales_;
  detail::number_array packed_zeros_;
  std::vector<float> row_factors_;
  std::vector<float> column_factors_;
};

/// Q and its low-rank part on a device, in the order of the kernels; immutable.
///
/// @tparam T  element type of X
/// @memory codes of 1 bit take 2, those of 5 to 7 take 8; groups of columns are padded to 16 where a row has
/// several, rows to 16, columns to 64; scales as fp16, bf16 or fp32, the narrowest that changes none
template <half_scalar T>
class packed_weights {
public:
  /// Copies an image to the current device; the copies have been enqueued.
  ///
  /// @param left   L (m,r);  @param right  R (r,n), host memory; both empty for no low-rank part
  /// @param scale  s
  /// @throws qlr::error shape_mismatch: L or R does not fit Q;  non_finite: an entry, or s
  /// @throws qlr::error out_of_memory, device_failure: the device refuses
  packed_weights(const packed_image<T>& image, matrix_view<const float> left, matrix_view<const float> right,
                 float scale, cudaStream_t stream = nullptr)
      : rows_(image.rows()), bits_(image.bits()), zero_kind_(image.zeros()), columns_(image.columns()) {
    require(left.rows() == rows() && right.cols() == cols(), status_code::shape_mismatch, "L is ",
            left.rows(), " x ", left.cols(), " and R is ", right.rows(), " x ", right.cols(), ", Q is ",
            rows(), " x ", cols());
    low_rank_ = packed_factors<T>(left, right, scale, stream);
    groups_ = to_device(std::span<const detail::rank_group>(low_rank_.groups()), stream);
    codes_ = to_device(image.code_words(), stream);
    table_ = to_device(image.table(), stream);
    scales_ = to_device(std::span<const std::uint8_t>(image.scales().bytes), stream);
    scale_numbers_ = image.scales().kind;
    zeros_ = to_device(std::span<const std::uint8_t>(image.zero_points().bytes), stream);
    zero_numbers_ = image.zero_points().kind;
    row_factors_ = to_device(image.row_factors(), stream);
    column_factors_ = to_device(image.column_factors(), stream);
  }

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return columns_.cols; }
  [[nodiscard]] int bits() const { return bits_; }
  [[nodiscard]] zero_point zeros() const { return zero_kind_; }
  [[nodiscard]] int device() const { return low_rank_.device(); }
  [[nodiscard]] const packed_factors<T>& low_rank() const { return low_rank_; }
  /// Bytes that a product with one token reads.
  [[nodiscard]] index_t size_bytes() const {
    return codes_.bytes() + scales_.bytes() + zeros_.bytes() + row_factors_.bytes() +
           column_factors_.bytes() + table_.bytes() + low_rank_.size_bytes();
  }

  /// What kernels read.
  [[nodiscard]] detail::packed_view view() const {
    detail::packed_view out;
    out.codes = codes_.data();
    out.table = table_.data();
    out.scales = scales_.data();
    out.zeros = zeros_.data();
    out.scale_kind = scale_numbers_;
    out.zero_kind = zero_numbers_;
    out.row_factors = row_factors_.data();
    out.column_factors = column_factors_.data();
    out.rows = rows_;
    out.row_tiles = (rows_ + detail::tile_rows - 1) / detail::tile_rows;
    out.columns = columns_;
    out.scale_steps = detail::steps_per_scale(columns_);
    return out;
  }
  /// The rank groups of the low-rank part, in device memory.
  [[nodiscard]] const detail::rank_group* groups() const { return groups_.data(); }

private:
  index_t rows_ = 0;
  int bits_ = 4;
  zero_point zero_kind_ = zero_point::none;
  detail::column_map columns_;
  packed_factors<T> low_rank_;
  device_buffer<detail::rank_group> groups_;
  device_buffer<std::uint32_t> codes_;
  device_buffer<std::uint32_t> table_;
  device_buffer<std::uint8_t> scales_;
  device_buffer<std::uint8_t> zeros_;
  detail::number_kind scale_numbers_ = detail::number_kind::fp16;
  detail::number_kind zero_numbers_ = detail::number_kind::fp16;
  device_buffer<float> row_factors_;
  device_buffer<float> column_factors_;
};

/// Rearranges Q + s L R for products with X of type T and copies it to the current device; the copies have
/// been enqueued.
///
/// @param q      Q (m,n) in any format and grouping, host memory
/// @param left   L (m,r);  @param right  R (r,n); both empty for no low-rank part
/// @param scale  s
/// @param input_scales  what X is divided by before Q (n), positive; empty = ones
/// @throws qlr::error as packed_image, packed_factors, packed_weights
/// @accuracy codes and scales are kept as they are, levels and factors are rounded to T
/// @complexity O(m n)
template <half_scalar T>
[[nodiscard]] packed_weights<T> prepack(const quantized_matrix_view& q, matrix_view<const float> left,
                                        matrix_view<const float> right, float scale,
                                        std::span<const float> input_scales = {},
                                        cudaStream_t stream = nullptr) {
  return packed_weights<T>(packed_image<T>(q, input_scales), left, right, scale, stream);
}

/// Packs a decomposition: whatever has quantized, left, right, scale and input_scales.
template <half_scalar T, class Decomposition>
  requires requires(const Decomposition& parts) {
    parts.quantized.view();
    parts.left.view();
    parts.right.view();
    parts.scale;
    parts.input_scales;
  }
[[nodiscard]] packed_weights<T> prepack(const Decomposition& parts, cudaStream_t stream = nullptr) {
  return prepack<T>(parts.quantized.view(), parts.left.view(), parts.right.view(), parts.scale,
                    parts.input_scales, stream);
}

} // namespace qlr::cuda
