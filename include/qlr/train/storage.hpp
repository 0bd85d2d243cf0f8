// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/random.hpp>
#include <qlr/core/types.hpp>

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace qlr::train {

/// A type that parameters are stored in: fp32, bf16, or double where gradients are to be checked.
template <class T>
concept storage_scalar = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bfloat16>;

/// What is computed with: double for double, float for the others.
template <storage_scalar Storage>
using compute_t = std::conditional_t<std::same_as<Storage, double>, double, float>;

/// A stored number, widened exactly.
template <storage_scalar Storage>
[[nodiscard]] constexpr compute_t<Storage> load(Storage stored) {
  if constexpr (std::same_as<Storage, bfloat16>) {
    return to_float(stored);
  } else {
    return stored;
  }
}

/// bf16 rounded up or down at random, so that its mean is the value.
///
/// Rounding to nearest would lose every update below 2^-9 of a parameter; this keeps them in the mean.
/// @param word  random bits, of which 16 are used
/// @see Gupta et al., Deep learning with limited numerical precision, ICML 2015
[[nodiscard]] constexpr bfloat16 to_bfloat16_at_random(float value, std::uint32_t word) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  // Not beyond the largest finite number; infinity and NaN go the deterministic way.
  if ((bits & 0x7FFFFFFFU) >= 0x7F7F0000U) return to_bfloat16(value);
  return {static_cast<std::uint16_t>((bits + (word & 0xFFFFU)) >> 16U)};
}

/// A number as it is stored: rounded to nearest.
template <storage_scalar Storage>
[[nodiscard]] constexpr Storage store(compute_t<Storage> value) {
  if constexpr (std::same_as<Storage, bfloat16>) {
    return to_bfloat16(value);
  } else {
    return value;
  }
}

} // namespace qlr::train
