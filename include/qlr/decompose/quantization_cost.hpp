// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/metric.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/formats.hpp>

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

namespace qlr {

/// Energies of X - dequantize(quantize(X)) for any quantizer.
///
/// @param x  (m,n), contiguous rows, finite
/// @throws qlr::error as quantizer.quantize
/// @memory the codes and scales of X
/// @determinism the same bits on any number of threads
template <quantizer_policy Quantizer>
[[nodiscard]] energies quantization_cost(matrix_view<const float> x, const Quantizer& quantizer,
                                         const metric& weights, const executor& run = {}) {
  const quantized_matrix q = quantizer.quantize(x, {}, run);
  std::vector<energies> rows(static_cast<std::size_t>(x.rows()));
  for_each_decoded_row(q.view(), run, [&](index_t i, float* decoded) {
    for (index_t j = 0; j < x.cols(); ++j) decoded[j] = x(i, j) - decoded[j];
    rows[static_cast<std::size_t>(i)] = weights.row_energies(i, decoded, x.cols());
  });
  energies sum;
  for (const energies& row : rows) {
    sum.frobenius += row.frobenius;
    sum.weighted += row.weighted;
  }
  return sum;
}

/// Costs of normal-float quantizers that differ in code width and storage of scales: the scales of the groups
/// are found once, stored scales are shared by all code widths, and codes are never packed.
///
/// The results are those of quantization_cost with the named quantizers, but for the rounding of differences:
/// a compiler may fuse them with the product before.
class normal_float_costs {
public:
  /// @param x           (m,n), contiguous rows, finite; must outlive this object, as must weights
  /// @param group_size  1 to n, or group_per_row
  normal_float_costs(matrix_view<const float> x, index_t group_size, const metric& weights,
                     const executor& run = {})
      : x_(x), weights_(weights), run_(run) {
    shape_.rows = x.rows();
    shape_.cols = x.cols();
    shape_.group_size = group_size;
    scales_.resize(static_cast<std::size_t>(shape_.num_scales()));
    const index_t group = shape_.group_cols();
    for_each_range(run, x.rows(), rows_per_task(x.cols()), [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) {
        for (index_t g = 0, first = 0; first < x.cols(); ++g, first += group) {
          scales_[static_cast<std::size_t>(shape_.scale_index(i, g))] =
              largest_magnitude({x.row(i) + first, 1, std::min(group, x.cols() - first), x.row_stride()});
        }
      }
    });
  }

  /// False when the format cannot hold the scales: fp16 ends at 65504.
  [[nodiscard]] bool can_store(const scale_format& format) const {
    if (scales_.empty()) return true;
    const auto [least, most] = std::minmax_element(scales_.begin(), scales_.end());
    const float largest = format.coding == scale_coding::double_min ? *most - *least : *most;
    return is_finite(round_to(format.type, largest));
  }

  /// Energies of the error for each of the code widths.
  ///
  /// @param format  plain or double_min
  /// @param bits    each 2, 3, 4 or 8
  /// @throws qlr::error unsupported: can_store(format) is false
  [[nodiscard]] std::vector<energies> operator()(const scale_format& format,
                                                 std::span<const int> bits) const {
    std::vector<float> stored = scales_;
    (void)encode_scales(stored, format);
    std::vector<energies> costs;
    for (const int width : bits) costs.push_back(cost_of_width(width, stored));
    return costs;
  }

private:
  [[nodiscard]] energies cost_of_width(int width, const std::vector<float>& stored) const {
    switch (width) {
    case 2:
      return cost_of_grid(codebook_grid<2>(normal_float_levels(2)), stored);
    case 3:
      return cost_of_grid(codebook_grid<3>(normal_float_levels(3)), stored);
    case 4:
      return cost_of_grid(codebook_grid<4>(normal_float_levels(4)), stored);
    default:
      require(width == 8, status_code::invalid_argument, "bits is ", width, ", allowed are 2, 3, 4 and 8");
      return cost_of_grid(codebook_grid<8>(normal_float_levels(8)), stored);
    }
  }

  template <class Grid>
  [[nodiscard]] energies cost_of_grid(const Grid& grid, const std::vector<float>& stored) const {
    std::vector<energies> rows(static_cast<std::size_t>(x_.rows()));
    for_each_range(run_, x_.rows(), rows_per_task(x_.cols()), [&](index_t begin, index_t end) {
      std::vector<float> error(static_cast<std::size_t>(x_.cols()));
      const index_t group = shape_.group_cols();
      for (index_t i = begin; i < end; ++i) {
        for (index_t g = 0, first = 0; first < x_.cols(); ++g, first += group) {
          store_errors(grid, x_.row(i) + first, std::min(group, x_.cols() - first),
                       stored[static_cast<std::size_t>(shape_.scale_index(i, g))], error.data() + first);
        }
        rows[static_cast<std::size_t>(i)] = weights_.row_energies(i, error.data(), x_.cols());
      }
    });
    energies sum; // in row order, so that it does not depend on who computed which row
    for (const energies& row : rows) {
      sum.frobenius += row.frobenius;
      sum.weighted += row.weighted;
    }
    return sum;
  }

  template <class Grid>
  static void store_errors(const Grid& grid, const float* QLR_RESTRICT x, index_t count, float scale,
                           float* QLR_RESTRICT error) {
    const scale_normaliser normalise(scale);
    for (index_t j = 0; j < count; ++j) {
      const float level = grid.decode(encode_value(grid, normalise, 0.0F, x[j]));
      error[j] = x[j] - decode_value(level, {scale, 0.0F});
    }
  }

  matrix_view<const float> x_;
  const metric& weights_;
  executor run_;
  quantized_layout shape_;
  std::vector<float> scales_;
};

} // namespace qlr
