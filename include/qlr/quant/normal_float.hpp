// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/quant/detail/lq_lora_levels.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace qlr {

/// The three published ways to build the levels of an NF-k codebook; they agree to 1.2e-7.
enum class normal_float_construction {
  bitsandbytes, ///< the hard-coded NF4 table; other widths by the formula behind it
  loftq,        ///< the formula on single-precision probabilities, as LoftQ evaluates it
  lq_lora       ///< the same quantiles evaluated in single precision throughout, as LQ-LoRA does
};

/// NF4 exactly as bitsandbytes stores it (QLoRA, PEFT and Hugging Face checkpoints).
inline constexpr std::array<float, 16> nf4_bitsandbytes_levels{-1.0F,
                                                               -0.6961928009986877F,
                                                               -0.5250730514526367F,
                                                               -0.39491748809814453F,
                                                               -0.28444138169288635F,
                                                               -0.18477343022823334F,
                                                               -0.09105003625154495F,
                                                               0.0F,
                                                               0.07958029955625534F,
                                                               0.16093020141124725F,
                                                               0.24611230194568634F,
                                                               0.33791524171829224F,
                                                               0.44070982933044434F,
                                                               0.5626170039176941F,
                                                               0.7229568362236023F,
                                                               1.0F};

/// Quantile of the standard normal distribution: the z with P(Z <= z) = probability, for 0 < probability < 1.
///
/// @accuracy relative 1e-15: a rational start (P. J. Acklam) with two Halley steps on erfc
[[nodiscard]] inline double normal_quantile(double probability) {
  constexpr std::array<double, 6> a{-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                                    1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  constexpr std::array<double, 5> b{-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                                    6.680131188771972e+01, -1.328068155288572e+01};
  constexpr std::array<double, 6> c{-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                                    -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  constexpr std::array<double, 4> d{7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                                    3.754408661907416e+00};
  if (probability > 0.5) return -normal_quantile(1.0 - probability);
  double z = 0;
  if (probability < 0.02425) {
    const double q = std::sqrt(-2.0 * std::log(probability));
    z = (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
        ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1.0);
  } else {
    const double q = probability - 0.5;
    const double r = q * q;
    z = (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
        (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1.0);
  }
  for (int step = 0; step < 2; ++step) {
    const double excess = 0.5 * std::erfc(-z * 0.70710678118654752440) - probability;
    const double newton = excess * 2.50662827463100050242 * std::exp(0.5 * z * z);
    z -= newton / (1.0 + 0.5 * z * newton);
  }
  return z;
}

namespace detail {

/// Tail probability shared by all constructions, the mean of 1 - 1/32 and 1 - 1/30 to seven digits.
inline constexpr float normal_float_tail = 0.9677083F;

/// Point `index` of `count` equally spaced ones from first to last, in single precision and from the nearer
/// end.
inline double single_precision_linspace(float first, float last, int count, int index) {
  const float step = (last - first) / static_cast<float>(count - 1);
  const float offset = step * static_cast<float>(index < count / 2 ? index : count - 1 - index);
  return static_cast<double>(index < count / 2 ? first + offset : last - offset);
}

/// 2^(bits-1) positive levels, zero, and 2^(bits-1) - 1 negative levels, all divided by the largest.
inline std::vector<float> normal_float_by_formula(int bits) {
  const int half = 1 << (bits - 1);
  const auto quantile = [](double probability) { return static_cast<float>(normal_quantile(probability)); };
  const float largest = quantile(static_cast<double>(normal_float_tail));
  std::vector<float> levels{0.0F};
  for (const int count : {half, half - 1}) {
    const float sign = count == half ? 1.0F : -1.0F;
    for (int i = 0; i < count; ++i) {
      const double probability = single_precision_linspace(normal_float_tail, 0.5F, count + 1, i);
      levels.push_back(sign * (quantile(probability) / largest));
    }
  }
  std::sort(levels.begin(), levels.end());
  return levels;
}

} // namespace detail

/// Levels of the NF-k codebook, ascending, -1 to 1 with an exact zero.
///
/// @param bits  2, 3, 4 or 8
/// @throws qlr::error invalid_argument: any other width
/// @see Dettmers et al., QLoRA, arXiv 2305.14314; Li et al., LoftQ, arXiv 2310.08659; Guo et al., LQ-LoRA,
/// 2311.12023
[[nodiscard]] inline std::vector<float> normal_float_levels(
    int bits, normal_float_construction construction = normal_float_construction::bitsandbytes) {
  require(bits == 2 || bits == 3 || bits == 4 || bits == 8, status_code::invalid_argument, "bits is ", bits,
          ", normal-float codebooks exist for 2, 3, 4 and 8");
  const auto copy = [](const auto& table) { return std::vector<float>(table.begin(), table.end()); };
  if (construction == normal_float_construction::lq_lora) {
    if (bits == 2) return copy(detail::lq_lora_nf2_levels);
    if (bits == 3) return copy(detail::lq_lora_nf3_levels);
    return bits == 4 ? copy(detail::lq_lora_nf4_levels) : copy(detail::lq_lora_nf8_levels);
  }
  if (bits == 4 && construction == normal_float_construction::bitsandbytes)
    return copy(nf4_bitsandbytes_levels);
  return detail::normal_float_by_formula(bits);
}

} // namespace qlr
