// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/concepts.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace qlr {

/// Divides values by one scale through its reciprocal; a scale of zero or below the normal range gives 0.
///
/// bitsandbytes and ggml multiply by the reciprocal too, so codes agree with theirs to the last bit.
class scale_normaliser {
public:
  QLR_HOST_DEVICE explicit constexpr scale_normaliser(float scale) {
    const float magnitude = scale < 0 ? -scale : scale;
    if (!(magnitude >= smallest_normal_float)) return;
    // The reciprocal of a huge scale would be subnormal: move 2^-64 to the value.
    const bool is_huge = magnitude > 0x1p125F;
    before_ = is_huge ? 0x1p-64F : 1.0F;
    reciprocal_ = 1.0F / (is_huge ? scale * 0x1p-64F : scale);
  }

  QLR_HOST_DEVICE constexpr float operator()(float value) const {
    return rounded_product(value * before_, reciprocal_);
  }

private:
  float before_ = 0;
  float reciprocal_ = 0;
};

/// The code of one value: normalise, add the zero point, take the nearest level.
template <grid_policy Grid>
[[nodiscard]] QLR_HOST_DEVICE constexpr code_t encode_value(const Grid& grid,
                                                            const scale_normaliser& normalise, float zero,
                                                            float value) {
  return grid.encode(normalise(value) + zero);
}

/// The value of one level; every backend multiplies with exactly this.
[[nodiscard]] QLR_HOST_DEVICE constexpr float decode_value(float level, block_scale scale) {
  return rounded_product(level - scale.zero, scale.scale);
}

/// A value on the grid of one block.
struct rounded_value {
  code_t code = 0;
  float value = 0; ///< what the code decodes to
};

/// Nearest code of x in a block with this scale, and what it decodes to.
template <grid_policy Grid>
[[nodiscard]] QLR_HOST_DEVICE constexpr rounded_value round_value(const Grid& grid, block_scale scale,
                                                                  float x) {
  const code_t code = encode_value(grid, scale_normaliser(scale.scale), scale.zero, x);
  return {code, decode_value(grid.decode(code), scale)};
}

/// Weighted squared error of a block at one scale, and the least-squares scale for the codes it gives.
struct scale_fit {
  double error = 0;  ///< sum of w ((x - scale (level - zero)) unit)^2
  double cross = 0;  ///< sum of w x (level - zero)
  double energy = 0; ///< sum of w (level - zero)^2

  /// The scale that minimises the error for these codes; 0 when every level is zero.
  [[nodiscard]] QLR_HOST_DEVICE float refitted() const {
    const double scale = energy > 0 ? cross / energy : 0.0;
    return std::fabs(scale) <= static_cast<double>(std::numeric_limits<float>::max())
               ? static_cast<float>(scale)
               : 0.0F;
  }
};

/// One element's part in the sums of scale_fit.
struct scale_fit_terms {
  float error;
  float cross;
  float energy;
};

/// Parts of element x with its weight; the normaliser is that of the scale, the unit as in fit_scale().
template <grid_policy Grid>
[[nodiscard]] QLR_HOST_DEVICE constexpr scale_fit_terms terms_of(const Grid& grid,
                                                                 const scale_normaliser& normalise,
                                                                 block_scale scale, float unit, float weight,
                                                                 float x) {
  const float level = grid.decode(encode_value(grid, normalise, scale.zero, x));
  const float difference = (x - decode_value(level, scale)) * unit;
  const float weighted = weight * (level - scale.zero);
  return {rounded_product(weight * difference, difference), rounded_product(weighted, x),
          rounded_product(weighted, level - scale.zero)};
}

/// Encodes a block at one scale without storing the codes and measures the fit.
///
/// @param[in] block    (rows, cols), contiguous rows
/// @param[in] weights  cols weights of the squared errors, or null for ones
/// @param     unit     errors are multiplied with it first: about 1 / scale, so that squares stay in range
template <grid_policy Grid>
[[nodiscard]] QLR_HOST_DEVICE scale_fit fit_scale(const Grid& grid, matrix_view<const float> block,
                                                  const float* weights, block_scale scale, float unit) {
  // Partial sums in fixed lanes: the compiler may vectorise them without reordering additions, and 64 float
  // terms lose less than the errors being compared differ by; between chunks the sums are kept in double.
  constexpr index_t lanes = 16;
  constexpr index_t chunk = 4 * lanes;
  const scale_normaliser normalise(scale.scale);
  scale_fit fit;
  for (index_t i = 0; i < block.rows(); ++i) {
    for (index_t first = 0; first < block.cols(); first += chunk) {
      const float* QLR_RESTRICT x = block.row(i) + first;
      const index_t count = std::min(chunk, block.cols() - first);
      float error[lanes] = {};
      float cross[lanes] = {};
      float energy[lanes] = {};
      const auto add = [&](index_t j, index_t lane) {
        const float weight = weights != nullptr ? weights[first + j] : 1.0F;
        const scale_fit_terms terms = terms_of(grid, normalise, scale, unit, weight, x[j]);
        error[lane] += terms.error;
        cross[lane] += terms.cross;
        energy[lane] += terms.energy;
      };
      index_t j = 0;
      for (; j + lanes <= count; j += lanes) {
        QLR_DEVICE_UNROLL
        for (index_t lane = 0; lane < lanes; ++lane) add(j + lane, lane);
      }
      if (j < count) {
        QLR_DEVICE_UNROLL
        for (index_t lane = 0; lane < lanes; ++lane) {
          if (j + lane < count) add(j + lane, lane);
        }
      }
      QLR_DEVICE_UNROLL
      for (index_t lane = 0; lane < lanes; ++lane) {
        fit.error += static_cast<double>(error[lane]);
        fit.cross += static_cast<double>(cross[lane]);
        fit.energy += static_cast<double>(energy[lane]);
      }
    }
  }
  return fit;
}

} // namespace qlr
