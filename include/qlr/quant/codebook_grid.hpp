// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/quant/concepts.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <limits>
#include <span>

namespace qlr {

/// Which neighbour an exact midpoint between two levels goes to.
enum class midpoint_rule {
  lower, ///< the smaller level (NF4 in bitsandbytes, LoftQ, LQ-LoRA)
  upper  ///< the larger level (ggml IQ4_NL)
};

namespace detail {
#if defined(__CUDA_ARCH__)
inline constexpr int most_counted_bits = 2; // a GPU compares at half its rate and looks up faster
#else
inline constexpr int most_counted_bits = 4;
#endif

/// The largest float below a finite nonzero value or zero.
constexpr float next_below(float value) {
  const auto word = std::bit_cast<std::uint32_t>(value);
  if ((word & 0x7FFFFFFFU) == 0) return std::bit_cast<float>(0x80000001U);
  return std::bit_cast<float>((word >> 31U) != 0 ? word + 1U : word - 1U);
}
} // namespace detail

/// A sorted table of at most 2^Bits levels; code = number of thresholds below the value.
///
/// @tparam Bits  width of a code, 1 to 8
/// @memory 2 * 2^Bits floats, inside the object
template <int Bits>
  requires(Bits >= 1 && Bits <= 8)
class codebook_grid {
public:
  static constexpr std::size_t capacity = std::size_t{1} << Bits;

  /// @param levels  2 to 2^Bits levels, strictly ascending and finite
  /// @param ties    which level an exact midpoint goes to
  /// @throws qlr::error invalid_argument: wrong number of levels, or levels not ascending and finite
  explicit constexpr codebook_grid(std::span<const float> levels, midpoint_rule ties = midpoint_rule::lower)
      : num_codes_(static_cast<int>(levels.size())) {
    if (num_codes_ < 2 || num_codes_ > static_cast<int>(capacity)) {
      fail(status_code::invalid_argument, "levels has ", num_codes_, " entries, a ", Bits,
           "-bit codebook needs 2 to ", capacity);
    }
    levels_.fill(levels.back());
    thresholds_.fill(std::numeric_limits<float>::infinity()); // never below a finite value
    for (std::size_t i = 0; i < levels.size(); ++i) {
      levels_[i] = levels[i];
      if (!is_finite(levels[i]) || (i > 0 && levels[i] <= levels[i - 1])) {
        fail(status_code::invalid_argument, "levels[", i, "] is ", levels[i],
             ", levels must be finite and strictly ascending");
      }
      if (i == 0) continue;
      const float midpoint = 0.5F * levels[i - 1] + 0.5F * levels[i];
      // Codes count strict comparisons, so a midpoint that goes up is lowered by one unit in the last place.
      const float threshold = ties == midpoint_rule::lower ? midpoint : detail::next_below(midpoint);
      // The midpoint of neighbouring floats is rounded to one of them; each level keeps its own side.
      thresholds_[i - 1] = std::clamp(threshold, levels[i - 1], detail::next_below(levels[i]));
    }
    const float low = levels_[0] < 0 ? -levels_[0] : levels_[0];
    const float high = levels.back() < 0 ? -levels.back() : levels.back();
    absmax_level_ = low > high ? low : high;
  }

  [[nodiscard]] QLR_HOST_DEVICE static constexpr int bits() { return Bits; }
  [[nodiscard]] QLR_HOST_DEVICE constexpr int num_codes() const { return num_codes_; }

  [[nodiscard]] QLR_HOST_DEVICE constexpr code_t encode(float value) const {
    if constexpr (Bits <= detail::most_counted_bits) {
      // Counting beats searching: up to 15 compares without a dependency or a table look-up.
      int rank = 0;
      QLR_UNROLL
      for (std::size_t i = 0; i + 1 < capacity; ++i) rank += value > thresholds_[i] ? 1 : 0;
      return static_cast<code_t>(rank);
    } else {
      unsigned rank = 0; // multiplied instead of branched on: the outcome of a comparison is unpredictable
      for (unsigned step = capacity / 2; step > 0; step /= 2) {
        rank += static_cast<unsigned>(value > thresholds_[rank + step - 1]) * step;
      }
      return static_cast<code_t>(rank);
    }
  }

  [[nodiscard]] QLR_HOST_DEVICE constexpr float decode(code_t code) const {
    // GCC 12 at -O3 vectorises a look-up by the result of a single comparison wrongly (fit_scale's loop).
    if constexpr (Bits == 1) return code != 0 ? levels_[1] : levels_[0];
    return levels_[code];
  }
  [[nodiscard]] QLR_HOST_DEVICE constexpr float absmax_level() const { return absmax_level_; }
  [[nodiscard]] QLR_HOST_DEVICE constexpr float lowest_level() const { return levels_[0]; }

private:
  std::array<float, capacity> levels_{};
  std::array<float, capacity> thresholds_{}; // the last one is never reached
  float absmax_level_ = 0;
  int num_codes_;
};

static_assert(grid_policy<codebook_grid<1>> && grid_policy<codebook_grid<4>> &&
              grid_policy<codebook_grid<8>>);

/// ggml IQ4_NL levels, to be multiplied with an fp16 scale.
inline constexpr std::array<float, 16> iq4_nl_levels{-127, -104, -83, -65, -49, -35, -22, -10,
                                                     1,    13,   25,  38,  53,  69,  89,  113};

/// One bit: minus or plus the scale; zero counts as plus.
inline constexpr std::array<float, 2> sign_levels{-1, 1};

} // namespace qlr
