// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>

#include <cmath>

namespace qlr::train {

/// When LoQT merges its low-rank part: at steps 0, interval, and then at gaps of interval + int(growth^k),
/// k = 1, 2, ...
///
/// @see Loeschcke et al., LoQT, arXiv 2405.16528, section 3.3; the gaps are those of the authors' code
struct loqt_schedule {
  index_t interval = 100; ///< 1 and above
  double growth = 1.2;    ///< 0 and above; 0 = a constant interval

  /// @throws qlr::error invalid_argument: an interval below 1, growth that is negative or NaN
  [[nodiscard]] bool is_refresh_step(index_t step) const {
    require(interval >= 1, status_code::invalid_argument, "interval is ", interval,
            ", allowed are 1 and above");
    require(growth >= 0, status_code::invalid_argument, "growth is ", growth, ", allowed are 0 and above");
    if (step <= 0) return step == 0;
    index_t left = step; // steps that are left to go from the latest refresh
    for (int k = 0; left > 0; ++k) {
      if (left < interval) return false;
      left -= interval;
      const double extra = k == 0 ? 0.0 : std::floor(std::pow(growth, k));
      // A number below 2^62 fits an index; beyond, no step is that far.
      if (!(extra < 0x1p62) || static_cast<index_t>(extra) > left) return false;
      left -= static_cast<index_t>(extra);
    }
    return true;
  }
};

} // namespace qlr::train
