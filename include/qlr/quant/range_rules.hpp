// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/block_statistics.hpp>
#include <qlr/quant/concepts.hpp>
#include <qlr/quant/scale_rules.hpp>
#include <qlr/quant/scale_search.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace qlr {

namespace detail {

/// Sums over a block of integers c = the nearest to x / scale with 0 <= c + zero <= top.
struct integer_fit {
  double cross = 0;  ///< sum of c x unit
  double energy = 0; ///< sum of c^2
};

/// One element's part in the sums of integer_fit, as floats.
class integer_rounder {
public:
  struct terms {
    float cross;
    float energy;
  };

  QLR_HOST_DEVICE integer_rounder(float scale, float zero, float top, float unit)
      : unit_(unit), inverse_(1.0F / (scale * unit)), low_(-zero), high_(top - zero) {}

  QLR_HOST_DEVICE terms operator()(float x) const {
    const float value = x * unit_;
    const float ratio = value * inverse_;
    const float bounded = ratio < low_ ? low_ : (ratio > high_ ? high_ : ratio);
    const auto integer = static_cast<float>(round_half_even(bounded));
    return {rounded_product(integer, value), integer * integer}; // the square is exact
  }

private:
  float unit_;
  float inverse_;
  float low_;
  float high_;
};

[[nodiscard]] QLR_HOST_DEVICE inline integer_fit fit_integers(matrix_view<const float> block, float scale,
                                                              float zero, float top, float unit) {
  // Partial sums in fixed lanes, as in fit_scale.
  constexpr index_t lanes = 16;
  constexpr index_t chunk = 4 * lanes;
  const integer_rounder round(scale, zero, top, unit);
  integer_fit fit;
  for (index_t i = 0; i < block.rows(); ++i) {
    for (index_t first = 0; first < block.cols(); first += chunk) {
      const float* QLR_RESTRICT x = block.row(i) + first;
      const index_t count = std::min(chunk, block.cols() - first);
      float cross[lanes] = {};
      float energy[lanes] = {};
      const auto add = [&](index_t j, index_t lane) {
        const integer_rounder::terms terms = round(x[j]);
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
        fit.cross += static_cast<double>(cross[lane]);
        fit.energy += static_cast<double>(energy[lane]);
      }
    }
  }
  return fit;
}

} // namespace detail

/// scale = max(max - min, 1e-5) / (codes - 1) over the range of the block as it is; zero point =
/// round(-min / scale), as far as it is a code.
///
/// A block without both signs saturates where it is far from zero: its zero point would lie outside the
/// codes.
/// @see LoRAQuant, arXiv 2510.26690: the round to nearest of its reference implementation
struct tight_range_rule {
  static constexpr zero_point zeros = zero_point::integer;
  static constexpr float smallest_range = 1e-5F;

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& grid) const {
    if (block.is_empty() || largest_magnitude(block) == 0.0F) return {};
    const auto [smallest, largest] = smallest_and_largest(block);
    const auto steps = static_cast<float>(grid.num_codes() - 1);
    const float scale = std::max(largest / steps - smallest / steps, smallest_range / steps);
    return {scale, -smallest / scale};
  }
};

/// scale = sum|x| / group_size, also in a last group that is shorter: its mean is diluted.
///
/// @see LoRAQuant, arXiv 2510.26690: its reference implementation fills the last group with zeros
struct padded_mean_rule {
  static constexpr zero_point zeros = zero_point::none;
  index_t group_size = 0; ///< 0: the block's own size

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& grid) const {
    const block_scale mean = mean_magnitude_rule{}.find(block, grid);
    if (group_size <= block.size()) return mean;
    const double share = static_cast<double>(block.size()) / static_cast<double>(group_size);
    return {static_cast<float>(static_cast<double>(mean.scale) * share), 0.0F};
  }
};

/// Scale and integer zero point that together minimise the squared error of a block, for unsigned_grid.
///
/// For the zero points around that of min_max_rule (all of them where a code has 2 bits) and several scales
/// it alternates between the nearest integers and the least-squares scale for them. Never worse than
/// min_max_rule with its scale rounded to `type`.
/// @complexity O(50 size)
struct searched_range_rule {
  static constexpr zero_point zeros = zero_point::integer;
  scale_type type = scale_type::fp16; ///< how the scales will be stored

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& grid) const {
    const block_scale start = round_parts(min_max_rule{}.find(block, grid), grid);
    if (!(start.scale >= smallest_normal_float)) return {};
    if (!is_finite(start.scale)) return start; // refused when it is stored
    const float unit = std::min(1.0F / start.scale, 0x1p126F);
    const block_scale found = search(block, start, unit, static_cast<float>(grid.num_codes() - 1));
    const auto error_of = [&](block_scale scale) {
      return fit_scale(grid, block, nullptr, scale, unit).error;
    };
    return error_of(found) < error_of(start) ? found : start;
  }

private:
  /// As they are stored.
  template <grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale round_parts(block_scale scale, const Grid& grid) const {
    const auto top = static_cast<float>(grid.num_codes() - 1);
    return {round_to(type, scale.scale),
            static_cast<float>(round_half_even(std::clamp(scale.zero, 0.0F, top)))};
  }

  template <class Block>
  [[nodiscard]] QLR_HOST_DEVICE block_scale search(const Block& block, block_scale start, float unit,
                                                   float top) const {
    using detail::fit_integers; // unqualified below, see scale_rules.hpp
    constexpr float reach = 2;
    const auto [smallest, largest] = smallest_and_largest(block);
    const float last = std::min(top, start.zero + reach);
    block_scale best = start;
    double least = std::numeric_limits<double>::infinity();
    for (float zero = std::max(0.0F, start.zero - reach); zero <= last; ++zero) {
      // Just wide enough for both ends, as far as there are codes on their side of zero.
      const float above = zero < top ? largest / (top - zero) : 0.0F;
      const float below = zero > 0 ? -smallest / zero : 0.0F;
      const float widest = std::max(above, below);
      for (const float shrink : shrink_factors(top <= 3)) {
        float scale = widest * shrink;
        for (int refit = 0; refit <= scale_refits; ++refit) {
          const float stored = round_to(type, scale);
          if (!(stored >= smallest_normal_float) || !is_finite(stored)) break;
          const detail::integer_fit fit = fit_integers(block, stored, zero, top, unit);
          const double step = static_cast<double>(stored) * static_cast<double>(unit);
          const double loss =
              step * (rounded_product(step, fit.energy) - 2.0 * fit.cross); // error less that of zeros
          if (loss < least) {
            least = loss;
            best = {stored, zero};
          }
          if (!(fit.energy > 0)) break;
          const auto refitted = static_cast<float>(fit.cross / fit.energy / static_cast<double>(unit));
          if (round_to(type, refitted) == stored) break;
          scale = refitted;
        }
      }
    }
    return best;
  }
};

static_assert(scale_policy<tight_range_rule> && scale_policy<padded_mean_rule> &&
              scale_policy<searched_range_rule>);

} // namespace qlr
