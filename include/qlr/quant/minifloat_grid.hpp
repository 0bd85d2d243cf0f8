// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/concepts.hpp>

namespace qlr {

/// FP4 E2M1 of OCP MXFP4 and NVFP4: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives; bit 3 of a code is the
/// sign.
///
/// Midpoints go to the even mantissa, larger magnitudes saturate at 6. Negative zero (code 8) is never
/// produced.
class e2m1_grid {
public:
  [[nodiscard]] QLR_HOST_DEVICE static constexpr int bits() { return 4; }
  [[nodiscard]] QLR_HOST_DEVICE static constexpr int num_codes() { return 16; }

  [[nodiscard]] QLR_HOST_DEVICE static constexpr code_t encode(float value) {
    const float magnitude = value < 0 ? -value : value;
    const auto above = [](bool is_above) { return static_cast<unsigned>(is_above); };
    // Ties at 0.25, 1.25, 2.5, 5 go down (strict), at 0.75, 1.75, 3.5 up.
    const unsigned code = above(magnitude > 0.25F) + above(magnitude >= 0.75F) + above(magnitude > 1.25F) +
                          above(magnitude >= 1.75F) + above(magnitude > 2.5F) + above(magnitude >= 3.5F) +
                          above(magnitude > 5.0F);
    return static_cast<code_t>(code | (above(value < -0.25F) << 3U));
  }

  [[nodiscard]] QLR_HOST_DEVICE static constexpr float decode(code_t code) {
    const int exponent = (code >> 1) & 3; // bits: s ee m
    const int mantissa = code & 1;
    const float magnitude = exponent == 0 ? 0.5F * static_cast<float>(mantissa)
                                          : static_cast<float>((2 + mantissa) << (exponent - 1)) * 0.5F;
    return (code & 8) != 0 ? -magnitude : magnitude;
  }

  [[nodiscard]] QLR_HOST_DEVICE static constexpr float absmax_level() { return 6.0F; }
  [[nodiscard]] QLR_HOST_DEVICE static constexpr float lowest_level() { return -6.0F; }
};

static_assert(grid_policy<e2m1_grid>);

} // namespace qlr
