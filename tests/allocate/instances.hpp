// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/allocate/knapsack.hpp>
#include <qlr/core/random.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace qlr::test {

using instance = std::vector<std::vector<allocation_choice>>;

/// How the costs of an instance come about.
enum class instance_kind {
  uncorrelated,    ///< cost and size are independent
  rate_distortion, ///< cost falls as 4^-bits, matrices differ in size and weight, with noise
  correlated,      ///< cost is almost minus the size
  lattice          ///< few small numbers: many ties, duplicates and zeros
};

inline constexpr instance_kind all_kinds[] = {instance_kind::uncorrelated, instance_kind::rate_distortion,
                                              instance_kind::correlated, instance_kind::lattice};

/// Uniform in (0, 1).
[[nodiscard]] inline double uniform_at(std::uint64_t seed, index_t index) {
  return to_unit_interval(philox(seed, static_cast<std::uint64_t>(index))[0]);
}

/// `most` choices for each matrix, or when `is_ragged` 1 to `most`.
[[nodiscard]] inline instance random_instance(instance_kind kind, index_t matrices, index_t most,
                                              std::uint64_t seed, bool is_ragged = true) {
  instance result(static_cast<std::size_t>(matrices));
  for (index_t i = 0; i < matrices; ++i) {
    const auto weight = std::exp(2.0 * normal_at(seed + 1, i));
    const double elements = 64.0 * std::floor(1.0 + 64.0 * uniform_at(seed + 2, i));
    const double share = is_ragged ? uniform_at(seed + 3, i) : 1.0;
    const auto count =
        std::max<index_t>(1, static_cast<index_t>(std::ceil(static_cast<double>(most) * share)));
    for (index_t c = 0; c < count; ++c) {
      const double u = uniform_at(seed + 4, i * most + c);
      const double v = uniform_at(seed + 5, i * most + c);
      const double bits = 2.0 + 6.6 * u;
      allocation_choice choice;
      switch (kind) {
      case instance_kind::uncorrelated:
        choice = {v, static_cast<index_t>(1000.0 * u)};
        break;
      case instance_kind::rate_distortion:
        choice = {weight * elements * std::exp2(-2.0 * bits) * (1.0 + 0.3 * v),
                  static_cast<index_t>(bits * elements)};
        break;
      case instance_kind::correlated:
        choice = {1000.0 - std::floor(1000.0 * u) + 10.0 * v, static_cast<index_t>(1000.0 * u)};
        break;
      case instance_kind::lattice:
        choice = {std::floor(4.0 * v), static_cast<index_t>(4.0 * u)};
        break;
      }
      result[static_cast<std::size_t>(i)].push_back(choice);
    }
  }
  return result;
}

[[nodiscard]] inline index_t smallest_size(const instance& matrices) {
  index_t sum = 0;
  for (const auto& choices : matrices) {
    sum += std::min_element(choices.begin(), choices.end(), [](const auto& a, const auto& b) {
             return a.size < b.size;
           })->size;
  }
  return sum;
}

[[nodiscard]] inline index_t largest_size(const instance& matrices) {
  index_t sum = 0;
  for (const auto& choices : matrices) {
    sum += std::max_element(choices.begin(), choices.end(), [](const auto& a, const auto& b) {
             return a.size < b.size;
           })->size;
  }
  return sum;
}

/// The budget that lies at a share of the way from the smallest to the largest size.
[[nodiscard]] inline index_t budget_at(const instance& matrices, double share) {
  const index_t low = smallest_size(matrices);
  return low + static_cast<index_t>(share * static_cast<double>(largest_size(matrices) - low));
}

} // namespace qlr::test
