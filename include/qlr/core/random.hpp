// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <array>
#include <cmath>
#include <cstdint>

namespace qlr {

/// Philox4x32-10: four random words for a counter and a key, without state, so element i is the same on any
/// thread.
///
/// @see Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011
[[nodiscard]] QLR_HOST_DEVICE constexpr std::array<std::uint32_t, 4> philox(std::uint64_t key,
                                                                            std::uint64_t counter) {
  std::uint32_t key0 = static_cast<std::uint32_t>(key);
  std::uint32_t key1 = static_cast<std::uint32_t>(key >> 32U);
  std::uint32_t x0 = static_cast<std::uint32_t>(counter);
  std::uint32_t x1 = static_cast<std::uint32_t>(counter >> 32U);
  std::uint32_t x2 = 0;
  std::uint32_t x3 = 0;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * x0;
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * x2;
    const std::uint32_t y0 = static_cast<std::uint32_t>(product1 >> 32U) ^ x1 ^ key0;
    const std::uint32_t y2 = static_cast<std::uint32_t>(product0 >> 32U) ^ x3 ^ key1;
    x1 = static_cast<std::uint32_t>(product1);
    x3 = static_cast<std::uint32_t>(product0);
    x0 = y0;
    x2 = y2;
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return {x0, x1, x2, x3};
}

/// Uniform in (0, 1): the middle of one of 2^32 equal cells.
[[nodiscard]] QLR_HOST_DEVICE constexpr double to_unit_interval(std::uint32_t word) {
  return (static_cast<double>(word) + 0.5) * 0x1p-32;
}

/// Element `index` of the standard normal sequence of `seed` (Box-Muller).
[[nodiscard]] QLR_HOST_DEVICE inline double normal_at(std::uint64_t seed, index_t index) {
  const std::array<std::uint32_t, 4> words = philox(seed, static_cast<std::uint64_t>(index));
  const double radius = std::sqrt(-2.0 * std::log(to_unit_interval(words[0])));
  return radius * std::cos(6.283185307179586 * to_unit_interval(words[1]));
}

/// A random word as a number that is uniform in (-sqrt(3), sqrt(3)): mean 0, variance 1.
[[nodiscard]] QLR_HOST_DEVICE constexpr float to_unit_variance(std::uint32_t word) {
  return static_cast<float>(3.4641016151377544 * (to_unit_interval(word) - 0.5));
}

} // namespace qlr
