// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>
#include <qlr/quant/concepts.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace qlr::detail {

/// Finds the nearest code for scales that are already there, in any table of levels, sorted or not.
class nearest_codes {
public:
  explicit nearest_codes(std::span<const float> levels) : levels_(levels) {
    for (std::size_t code = 0; code < levels.size(); ++code)
      sorted_.emplace_back(levels[code], static_cast<code_t>(code));
    std::ranges::stable_sort(sorted_, {}, &std::pair<float, code_t>::first);
  }

  /// The code whose value in this block is nearest to x; `current` where no other is nearer.
  [[nodiscard]] code_t find(double x, block_scale block, code_t current) const {
    if (block.scale == 0.0F) return current; // all codes decode to 0
    const double wanted = x / static_cast<double>(block.scale) + static_cast<double>(block.zero);
    const auto above =
        std::ranges::lower_bound(sorted_, wanted, {}, [](const std::pair<float, code_t>& entry) {
          return static_cast<double>(entry.first);
        });
    code_t best = current;
    double distance = std::fabs(wanted - static_cast<double>(levels_[current]));
    const auto consider = [&](const std::pair<float, code_t>& entry) {
      const double other = std::fabs(wanted - static_cast<double>(entry.first));
      if (other >= distance) return;
      distance = other;
      best = entry.second;
    };
    if (above != sorted_.begin()) consider(*(above - 1));
    if (above != sorted_.end()) consider(*above);
    return best;
  }

private:
  std::span<const float> levels_;
  std::vector<std::pair<float, code_t>> sorted_;
};

} // namespace qlr::detail
