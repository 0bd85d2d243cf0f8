// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>

#include <array>
#include <concepts>
#include <string_view>

namespace qlr {

/// How the product with Q is computed. The low-rank part, scales and all sums across blocks are in fp32
/// always.
///
/// A block is at most 64 columns that share one scale. With e = 2^-24, a_b = max |x_j| over block b, w_ij the
/// entries of Q, s_ib their scales and l the largest |level|, the error of y_i is at most
/// - exact: e (n + 8) sum_j |x_j| |w_ij|; with zero points |level| + |zero| stands for their difference
/// - bf16:  the above + sum_b a_b sum_{j in b} (|w_ij| + |s_ib| l) / 8000
/// - int8:  the above + sum_b a_b sum_{j in b} (|w_ij| + |s_ib| l) / 250
/// The terms with l vanish for levels that are multiples of one step (int, uint, mxint, bfp, fp4, q4_0,
/// iq4_nl).
enum class precision {
  exact, ///< fp32 activations and products
  bf16,  ///< 16-bit operands: activations of 14 bits per token and block, levels of 13, integer dot products;
         ///< at least the accuracy of bf16 operands where blocks have no extreme outliers, on any machine
  int8   ///< activations rounded to 8 bits per token and block, levels to 8; integer dot products (W4A8)
};

[[nodiscard]] constexpr std::string_view to_string(precision mode) {
  switch (mode) {
  case precision::exact:
    return "exact";
  case precision::bf16:
    return "bf16";
  case precision::int8:
    return "int8";
  }
  return "";
}

inline constexpr auto all_precisions =
    std::to_array<precision>({precision::exact, precision::bf16, precision::int8});

/// @throws qlr::error invalid_argument: no precision has this name
[[nodiscard]] inline precision parse_precision(std::string_view name) {
  for (const precision mode : all_precisions) {
    if (to_string(mode) == name) return mode;
  }
  fail(status_code::invalid_argument, "precision is '", name, "', allowed are exact, bf16, int8");
}

/// Element types of X and Y.
template <class T>
concept activation_scalar = std::same_as<T, float> || std::same_as<T, bfloat16> || std::same_as<T, float16>;

} // namespace qlr
