// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/config.hpp>

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace qlr {

/// Signed 64-bit size, offset and index: no product of two valid dimensions overflows it unnoticed.
using index_t = std::int64_t;

/// One code of a quantized value; at most 8 bits are used.
using code_t = std::uint8_t;

/// IEEE binary16: 1 sign, 5 exponent, 10 mantissa bits.
struct float16 {
  std::uint16_t bits = 0;
  friend constexpr bool operator==(float16, float16) = default;
};

/// bfloat16: the upper half of a binary32.
struct bfloat16 {
  std::uint16_t bits = 0;
  friend constexpr bool operator==(bfloat16, bfloat16) = default;
};

/// OCP E8M0 scale: 2^(bits - 127); 255 is NaN.
struct float8_e8m0 {
  std::uint8_t bits = 0;
  friend constexpr bool operator==(float8_e8m0, float8_e8m0) = default;
};

/// OCP E4M3 (no infinities, largest value 448): 1 sign, 4 exponent (bias 7), 3 mantissa bits.
struct float8_e4m3 {
  std::uint8_t bits = 0;
  friend constexpr bool operator==(float8_e4m3, float8_e4m3) = default;
};

/// Smallest normal binary32; statistics below it are treated as zero because their reciprocal overflows.
inline constexpr float smallest_normal_float = 1.17549435e-38F;

/// Widens exactly.
QLR_HOST_DEVICE constexpr float to_float(float value) {
  return value;
}

/// Widens exactly.
QLR_HOST_DEVICE constexpr float to_float(bfloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16U);
}

/// Widens exactly; subnormals, infinities and NaN included.
QLR_HOST_DEVICE constexpr float to_float(float16 value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000U) << 16U;
  const std::uint32_t magnitude = value.bits & 0x7FFFU;
  if (magnitude >= 0x7C00U) return std::bit_cast<float>(sign | 0x7F800000U | ((magnitude & 0x3FFU) << 13U));
  if (magnitude >= 0x0400U) return std::bit_cast<float>(sign | ((magnitude << 13U) + (112U << 23U)));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24F;
  return sign != 0 ? -subnormal : subnormal;
}

/// Widens exactly: 2^(bits - 127).
QLR_HOST_DEVICE constexpr float to_float(float8_e8m0 value) {
  if (value.bits == 0xFFU) return std::bit_cast<float>(0x7FC00000U);
  if (value.bits == 0) return 0x1p-127F;
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 23U);
}

/// Widens exactly.
QLR_HOST_DEVICE constexpr float to_float(float8_e4m3 value) {
  const std::uint32_t magnitude = value.bits & 0x7FU;
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x80U) << 24U;
  if (magnitude == 0x7FU) return std::bit_cast<float>(sign | 0x7FC00000U);
  if (magnitude >= 8U) return std::bit_cast<float>(sign | ((magnitude << 20U) + (120U << 23U)));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-9F;
  return sign != 0 ? -subnormal : subnormal;
}

/// Nearest integer, ties to even, for |value| < 2^22, in the default rounding mode.
///
/// Adding 1.5 * 2^23 leaves no fraction bits, so the sum is the rounded value; reading its bits instead of
/// subtracting keeps the result right under -ffast-math.
QLR_HOST_DEVICE constexpr int round_half_even(float value) {
  constexpr float shift = 12582912.0F;
  return std::bit_cast<std::int32_t>(value + shift) - std::bit_cast<std::int32_t>(shift);
}

/// Nearest bfloat16, ties to even; NaN stays NaN.
QLR_HOST_DEVICE constexpr bfloat16 to_bfloat16(float value) {
  const std::uint32_t word = std::bit_cast<std::uint32_t>(value);
  if ((word & 0x7FFFFFFFU) > 0x7F800000U) return {static_cast<std::uint16_t>((word >> 16U) | 0x40U)};
  return {static_cast<std::uint16_t>((word + 0x7FFFU + ((word >> 16U) & 1U)) >> 16U)};
}

/// Nearest binary16, ties to even; overflow gives infinity, NaN stays NaN.
QLR_HOST_DEVICE constexpr float16 to_float16(float value) {
  const std::uint32_t word = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (word >> 16U) & 0x8000U;
  const std::uint32_t magnitude = word & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return {static_cast<std::uint16_t>(sign | 0x7E00U)};
  if (magnitude >= 0x477FF000U) return {static_cast<std::uint16_t>(sign | 0x7C00U)}; // >= 65520
  if (magnitude >= 0x38800000U) {                                                    // normal: >= 2^-14
    const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13U) & 1U) - (112U << 23U);
    return {static_cast<std::uint16_t>(sign | (rounded >> 13U))};
  }
  // Subnormal: 2^-24 is one unit; adding 0.5 aligns that unit with the last mantissa bit of the sum.
  const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
  return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(aligned) - 0x3F000000U))};
}

/// Nearest E4M3, ties to even, saturating at 448; NaN stays NaN.
QLR_HOST_DEVICE constexpr float8_e4m3 to_float8_e4m3(float value) {
  const std::uint32_t word = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (word >> 24U) & 0x80U;
  const std::uint32_t magnitude = word & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return {static_cast<std::uint8_t>(sign | 0x7FU)};
  if (magnitude >= 0x43E00000U) return {static_cast<std::uint8_t>(sign | 0x7EU)}; // >= 448
  if (magnitude >= 0x3C800000U) {                                                 // normal: >= 2^-6
    const std::uint32_t rounded = magnitude + 0x7FFFFU + ((magnitude >> 20U) & 1U) - (120U << 23U);
    return {static_cast<std::uint8_t>(sign | (rounded >> 20U))};
  }
  const int units = round_half_even(std::bit_cast<float>(magnitude) * 0x1p9F);
  return {static_cast<std::uint8_t>(sign | static_cast<std::uint32_t>(units))};
}

/// floor(log2(value)) of a positive finite value, subnormals included.
QLR_HOST_DEVICE constexpr int floor_log2(float value) {
  const std::uint32_t word = std::bit_cast<std::uint32_t>(value);
  if ((word >> 23U) != 0) return static_cast<int>(word >> 23U) - 127;
  return static_cast<int>(std::bit_cast<std::uint32_t>(value * 0x1p64F) >> 23U) - 127 - 64;
}

/// ceil(log2(value)) of a positive finite value, subnormals included.
QLR_HOST_DEVICE constexpr int ceil_log2(float value) {
  const int exponent = floor_log2(value);
  const float scaled = exponent < -126 ? value * 0x1p64F : value;
  return exponent + ((std::bit_cast<std::uint32_t>(scaled) & 0x7FFFFFU) != 0 ? 1 : 0);
}

/// 2^exponent as E8M0, clamped to 2^-127 ... 2^127.
QLR_HOST_DEVICE constexpr float8_e8m0 to_float8_e8m0(int exponent) {
  const int clamped = exponent < -127 ? -127 : (exponent > 127 ? 127 : exponent);
  return {static_cast<std::uint8_t>(clamped + 127)};
}

/// a * b rounded to the type, on a device also where a sum follows that a compiler would fuse it with.
///
/// Kernels then give the results of the expression as it is written; on the CPU -ffp-contract decides.
template <std::floating_point T>
QLR_HOST_DEVICE constexpr T rounded_product(T a, T b) {
#if defined(__CUDA_ARCH__)
  if (!std::is_constant_evaluated()) {
    if constexpr (std::same_as<T, float>) return __fmul_rn(a, b);
    if constexpr (std::same_as<T, double>) return __dmul_rn(a, b);
  }
#endif
  return a * b;
}

/// True for everything but NaN and infinities; immune to -ffast-math.
QLR_HOST_DEVICE constexpr bool is_finite(float value) {
  return (std::bit_cast<std::uint32_t>(value) & 0x7F800000U) != 0x7F800000U;
}

/// @copydoc is_finite(float)
QLR_HOST_DEVICE constexpr bool is_finite(double value) {
  return (std::bit_cast<std::uint64_t>(value) & 0x7FF0000000000000U) != 0x7FF0000000000000U;
}

/// An element type that a weight matrix may have.
template <class T>
concept weight_scalar = std::same_as<T, float> || std::same_as<T, double>;

} // namespace qlr
