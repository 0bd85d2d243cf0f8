// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/block_statistics.hpp>
#include <qlr/quant/concepts.hpp>
#include <qlr/quant/scale_fit.hpp>

#include <algorithm>
#include <cmath>

namespace qlr {

// The rules see a block through the functions of block_statistics.hpp (and fit_squares), which are called
// unqualified: kernels overload them for blocks that many threads reduce together.

/// scale = max|x| / absmax_level: nothing saturates where both signs reach that level.
struct absmax_rule {
  static constexpr zero_point zeros = zero_point::none;

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& grid) const {
    return {largest_magnitude(block) / grid.absmax_level(), 0.0F};
  }
};

/// scale = max|x| itself, whatever the outermost level is: LQ-LoRA's end at 0.9999999.
struct largest_magnitude_rule {
  static constexpr zero_point zeros = zero_point::none;

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& /*grid*/) const {
    return {largest_magnitude(block), 0.0F};
  }
};

/// scale = (the element of largest magnitude) / lowest_level, so that this element is met exactly (ggml
/// Q4_0).
struct signed_max_rule {
  static constexpr zero_point zeros = zero_point::none;

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& grid) const {
    return {largest_signed(block) / grid.lowest_level(), 0.0F};
  }
};

/// Sums over a block for its levels at one scale, weighted with x^2.
struct squares_fit {
  double cross = 0;  ///< sum of x^2 level x
  double energy = 0; ///< sum of x^2 level^2

  QLR_HOST_DEVICE void add(float value, float level) {
    const auto x = static_cast<double>(value);
    const auto l = static_cast<double>(level);
    cross += rounded_product(x * x * l, x);
    energy += rounded_product(x * x * l, l);
  }
};

template <grid_policy Grid>
[[nodiscard]] QLR_HOST_DEVICE squares_fit fit_squares(matrix_view<const float> block, const Grid& grid,
                                                      const scale_normaliser& normalise) {
  squares_fit sum;
  for (index_t i = 0; i < block.rows(); ++i) {
    for (index_t j = 0; j < block.cols(); ++j)
      sum.add(block(i, j), grid.decode(grid.encode(normalise(block(i, j)))));
  }
  return sum;
}

/// The signed maximum, then one refit weighted with x^2 for the codes it gives (ggml IQ4_NL).
struct refitted_signed_max_rule {
  static constexpr zero_point zeros = zero_point::none;

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& grid) const {
    const float start = signed_max_rule{}.find(block, grid).scale;
    const auto [cross, energy] = fit_squares(block, grid, scale_normaliser(start));
    const double refitted = cross / energy;
    return {energy > 0 && is_finite(refitted) ? static_cast<float>(refitted) : start, 0.0F};
  }
};

/// scale = mean|x|, the least-squares scale of the sign grid.
struct mean_magnitude_rule {
  static constexpr zero_point zeros = zero_point::none;

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& grid) const {
    return {static_cast<float>(mean_magnitude(block)) / grid.absmax_level(), 0.0F};
  }
};

/// Whether the shared exponent of a block is the floor or the ceiling of log2(max|x|).
enum class exponent_rounding {
  floor, ///< OCP microscaling and QERA: a power-of-two maximum is exact, larger mantissas may saturate
  ceil   ///< LQER: nothing but a power-of-two maximum saturates
};

/// scale = 2^(e - shift), e the shared exponent of the block.
///
/// @tparam Rounding  how e is found
template <exponent_rounding Rounding>
struct shared_exponent_rule {
  static constexpr zero_point zeros = zero_point::none;
  int shift = 0; ///< exponent of the scale below e: position of the binary point in the grid

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& /*grid*/) const {
    const float largest = largest_magnitude(block);
    if (!(largest >= smallest_normal_float)) return {};
    const int exponent = Rounding == exponent_rounding::floor ? floor_log2(largest) : ceil_log2(largest);
    return {to_float(to_float8_e8m0(exponent - shift)), 0.0F};
  }
};

/// scale = (max - min) / (codes - 1) over a range that includes zero; zero point = round(-min / scale).
///
/// @see Frantar et al., GPTQ, arXiv 2210.17323: the grid of its reference implementation
struct min_max_rule {
  static constexpr zero_point zeros = zero_point::integer;

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& grid) const {
    if (block.is_empty()) return {};
    const auto [smallest, largest] = smallest_and_largest(block);
    const float low = std::min(smallest, 0.0F);
    const float high = std::max(largest, 0.0F);
    const auto steps = static_cast<float>(grid.num_codes() - 1);
    // Dividing first keeps high - low from overflowing.
    const float scale = high / steps - low / steps;
    return {scale, scale >= smallest_normal_float ? -low / scale : 0.0F};
  }
};

/// scale = (max - min) / (codes - 1), zero point = -min / scale unrounded: both ends of the range are met
/// exactly.
///
/// @see Li et al., LoftQ, arXiv 2310.08659: the uniform quantizer of its reference implementation, without
/// clipping
struct exact_range_rule {
  static constexpr zero_point zeros = zero_point::real;

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& grid) const {
    if (block.is_empty()) return {};
    const auto [smallest, largest] = smallest_and_largest(block);
    const auto steps = static_cast<float>(grid.num_codes() - 1);
    const float scale = largest / steps - smallest / steps;
    if (scale >= smallest_normal_float) return {scale, -smallest / scale};
    // A constant block is the offset alone: code 0 decodes to scale * (0 - zero).
    return {std::fabs(smallest), smallest > 0 ? -1.0F : 1.0F};
  }
};

static_assert(scale_policy<absmax_rule> && scale_policy<largest_magnitude_rule> &&
              scale_policy<signed_max_rule> && scale_policy<refitted_signed_max_rule>);
static_assert(scale_policy<mean_magnitude_rule> && scale_policy<min_max_rule> &&
              scale_policy<exact_range_rule>);
static_assert(scale_policy<shared_exponent_rule<exponent_rounding::floor>>);
static_assert(scale_policy<shared_exponent_rule<exponent_rounding::ceil>>);

} // namespace qlr
