// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/scale_fit.hpp>
#include <qlr/quant/scale_format.hpp>

#include <algorithm>
#include <array>
#include <span>

namespace qlr {

/// Fractions of the rule's scale that the search starts from: three for grids of 3 bits and more, six below,
/// where the best scale is far from the rule's. More starts gain less than 0.3 % of the error.
[[nodiscard]] QLR_HOST_DEVICE inline std::span<const float> shrink_factors(bool is_coarse) {
  static constexpr std::array<float, 3> fine{1.0F, 0.8F, 0.65F};
  static constexpr std::array<float, 6> coarse{1.0F, 0.85F, 0.72F, 0.6F, 0.5F, 0.4F};
  return is_coarse ? std::span<const float>(coarse) : fine;
}

/// Least-squares refits after each start.
inline constexpr int scale_refits = 2;

/// True when the negative of every level is a level too, so that a negative scale offers nothing new.
template <grid_policy Grid>
[[nodiscard]] bool is_symmetric(const Grid& grid) {
  for (int code = 0; code < grid.num_codes(); ++code) {
    const float level = grid.decode(static_cast<code_t>(code));
    if (grid.decode(grid.encode(-level)) != -level) return false;
  }
  return true;
}

/// What the search may do besides changing the magnitude of a scale.
struct scale_search_context {
  scale_format format;         ///< candidates are rounded to it
  float unit = 1.0F;           ///< tensor_scaled formats: the tensor's scale
  bool allow_negative = false; ///< the grid is asymmetric and the format has a sign
};

/// Finds the scale of one block that minimises its weighted squared error.
///
/// From every shrink factor (and the negative scale, where the grid is asymmetric and the format has a sign)
/// it alternates between the nearest codes and the least-squares scale for those codes. Every candidate is
/// rounded to the storage format before it is judged, so the result is never worse than the rounded rule's
/// own scale.
/// @param weights   one weight per column of the block, or null for ones
/// @param start     what the scale rule found; its zero point is kept
/// @param previous  a further start, such as the scale of an earlier iteration; 0 for none
/// @tparam Block  matrix_view<const float>, or what fit_scale() is overloaded for
/// @complexity O(starts * scale_refits * size) grid encodings
template <grid_policy Grid, class Block>
[[nodiscard]] QLR_HOST_DEVICE block_scale search_scale(const Grid& grid, const Block& block,
                                                       const float* weights, block_scale start,
                                                       float previous, const scale_search_context& context) {
  const auto stored = [&](float scale) {
    if (context.format.is_double()) return scale;
    return context.unit * round_to(context.format.type, scale / context.unit);
  };
  block_scale best{stored(start.scale), start.zero};
  const float magnitude = start.scale < 0 ? -start.scale : start.scale;
  if (!(magnitude >= smallest_normal_float)) return best;
  const float unit = std::min(1.0F / magnitude, 0x1p126F);
  double least = fit_scale(grid, block, weights, best, unit).error;
  const auto descend = [&](float scale) {
    for (int refit = 0; refit <= scale_refits; ++refit) {
      const block_scale candidate{stored(scale), start.zero};
      if (!is_finite(candidate.scale) || candidate.scale == 0.0F) return;
      const scale_fit fit = fit_scale(grid, block, weights, candidate, unit);
      if (fit.error < least) {
        least = fit.error;
        best = candidate;
      }
      scale = fit.refitted();
      if (stored(scale) == candidate.scale) return;
    }
  };
  for (const float shrink : shrink_factors(grid.bits() <= 2)) {
    descend(start.scale * shrink);
    if (context.allow_negative) descend(-start.scale * shrink);
  }
  if (previous != 0.0F) descend(previous);
  return best;
}

} // namespace qlr
