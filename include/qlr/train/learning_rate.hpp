// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>

#include <algorithm>
#include <cmath>

namespace qlr::train {

/// How the learning rate falls after the warm-up.
enum class rate_decay { none, linear, cosine };

/// The learning rate of each step: it rises linearly over warmup_steps, then falls towards final_fraction of
/// its top, which step num_steps would have.
struct learning_rate_schedule {
  double highest = 1e-3;
  index_t num_steps = 1; ///< of the whole run
  index_t warmup_steps = 0;
  rate_decay decay = rate_decay::none;
  double final_fraction = 0;

  /// The rate of step 0, 1, ..., num_steps - 1.
  [[nodiscard]] double at(index_t step) const {
    if (step < warmup_steps)
      return highest * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
    const auto length = static_cast<double>(std::max<index_t>(1, num_steps - warmup_steps));
    const double progress = std::min(1.0, static_cast<double>(step - warmup_steps) / length);
    double share = 1;
    if (decay == rate_decay::linear) share = 1 - progress;
    if (decay == rate_decay::cosine) share = 0.5 * (1 + std::cos(3.141592653589793 * progress));
    return highest * (final_fraction + (1 - final_fraction) * share);
  }
};

/// @throws qlr::error invalid_argument: a rate, number of steps or fraction that is not allowed
inline void validate(const learning_rate_schedule& schedule) {
  require(schedule.highest >= 0 && is_finite(schedule.highest), status_code::invalid_argument,
          "learning rate is ", schedule.highest, ", allowed are 0 and above");
  require(schedule.num_steps >= 0 && schedule.warmup_steps >= 0, status_code::invalid_argument, "steps are ",
          schedule.num_steps, " with ", schedule.warmup_steps, " of warm-up, allowed are 0 and above");
  require(schedule.final_fraction >= 0 && schedule.final_fraction <= 1, status_code::invalid_argument,
          "final_fraction is ", schedule.final_fraction, ", allowed are 0 to 1");
}

} // namespace qlr::train
