// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/concepts.hpp>

namespace qlr {

/// What happens half-way between two integers.
enum class tie_rule {
  half_even, ///< to the even one (torch.round, CUDA rint)
  half_up,   ///< to the larger one (ggml Q4_0)
  half_away  ///< to the one of larger magnitude (C's roundf, ggml Q8_0)
};

/// Consecutive integers lowest ... highest; code 0 is `code_zero_level`.
///
/// @tparam Ties  how exact midpoints are rounded
template <tie_rule Ties = tie_rule::half_even>
class uniform_grid {
public:
  /// @param bits             width of a code, 1 to 8
  /// @param lowest           smallest integer that is used
  /// @param highest          largest integer that is used
  /// @param code_zero_level  the integer that code 0 stands for
  constexpr uniform_grid(int bits, int lowest, int highest, int code_zero_level)
      : bits_(bits), code_zero_level_(code_zero_level), lowest_(static_cast<float>(lowest)),
        highest_(static_cast<float>(highest)) {}

  [[nodiscard]] QLR_HOST_DEVICE constexpr int bits() const { return bits_; }
  [[nodiscard]] QLR_HOST_DEVICE constexpr int num_codes() const { return 1 << bits_; }

  [[nodiscard]] QLR_HOST_DEVICE constexpr code_t encode(float value) const {
    const float bounded = value < lowest_ ? lowest_ : (value > highest_ ? highest_ : value);
    if constexpr (Ties == tie_rule::half_even) {
      return static_cast<code_t>(round_half_even(bounded) - code_zero_level_);
    } else if constexpr (Ties == tie_rule::half_away) {
      // Adding one half first would round 0.49999997 up; what truncation leaves is exact.
      const float magnitude = bounded < 0 ? -bounded : bounded;
      const int whole = static_cast<int>(magnitude);
      const int rounded = magnitude - static_cast<float>(whole) >= 0.5F ? whole + 1 : whole;
      return static_cast<code_t>((bounded < 0 ? -rounded : rounded) - code_zero_level_);
    } else {
      // The sum is positive, so truncation is floor.
      const float shifted = bounded - static_cast<float>(code_zero_level_) + 0.5F;
      const float top = highest_ - static_cast<float>(code_zero_level_);
      return static_cast<code_t>(static_cast<int>(shifted < top ? shifted : top));
    }
  }

  [[nodiscard]] QLR_HOST_DEVICE constexpr float decode(code_t code) const {
    return static_cast<float>(static_cast<int>(code) + code_zero_level_);
  }

  [[nodiscard]] QLR_HOST_DEVICE constexpr float absmax_level() const { return highest_; }
  [[nodiscard]] QLR_HOST_DEVICE constexpr float lowest_level() const { return lowest_; }

private:
  int bits_;
  int code_zero_level_;
  float lowest_;
  float highest_;
};

/// Two's complement range -2^(bits-1) ... 2^(bits-1) - 1, stored with offset 2^(bits-1).
template <tie_rule Ties = tie_rule::half_even>
[[nodiscard]] constexpr uniform_grid<Ties> signed_grid(int bits) {
  const int half = 1 << (bits - 1);
  return {bits, -half, half - 1, -half};
}

/// -(2^(bits-1) - 1) ... 2^(bits-1) - 1, stored with offset 2^(bits-1); code 0 is read but never written.
template <tie_rule Ties>
[[nodiscard]] constexpr uniform_grid<Ties> symmetric_grid(int bits) {
  const int half = 1 << (bits - 1);
  return {bits, 1 - half, half - 1, -half};
}

/// 0 ... 2^bits - 1, for scales with a zero point.
[[nodiscard]] constexpr uniform_grid<> unsigned_grid(int bits) {
  return {bits, 0, (1 << bits) - 1, 0};
}

/// Sign and bits - 1 mantissa bits: -(2^(bits-1) - 1) ... 2^(bits-1) - 1, the grid of MXINT and block
/// floating point.
[[nodiscard]] constexpr uniform_grid<> mantissa_grid(int bits) {
  const int half = 1 << (bits - 1);
  return {bits, 1 - half, half - 1, -half};
}

static_assert(grid_policy<uniform_grid<tie_rule::half_even>>);
static_assert(grid_policy<uniform_grid<tie_rule::half_up>>);
static_assert(grid_policy<uniform_grid<tie_rule::half_away>>);

} // namespace qlr
