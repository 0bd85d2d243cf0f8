// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <bit>
#include <concepts>
#include <cstdint>

namespace qlr::cuda::detail {

// Instructions without state, each with a host form that gives the same bits (NaN payloads excepted). A pair
// is two numbers of a 16-bit type in one register, the first in the low half.

/// Nearest number of a 16-bit type; fp16 overflows to infinity.
template <class T>
[[nodiscard]] QLR_HOST_DEVICE inline T to_half(float value) {
#if defined(__CUDA_ARCH__)
  T out;
  if constexpr (std::same_as<T, float16>) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
  } else {
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
  }
  return out;
#else
  if constexpr (std::same_as<T, float16>) {
    return to_float16(value);
  } else {
    return to_bfloat16(value);
  }
#endif
}

/// Widens exactly.
template <class T>
[[nodiscard]] QLR_HOST_DEVICE inline float half_to_float(T value) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::same_as<T, float16>) {
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(value.bits));
    return out;
  }
#endif
  return to_float(value);
}

[[nodiscard]] QLR_HOST_DEVICE constexpr std::uint32_t make_pair(std::uint16_t first, std::uint16_t second) {
  return first | (static_cast<std::uint32_t>(second) << 16U);
}

/// A pair of nearest numbers.
template <class T>
[[nodiscard]] QLR_HOST_DEVICE inline std::uint32_t to_pair(float first, float second) {
#if defined(__CUDA_ARCH__)
  std::uint32_t out;
  if constexpr (std::same_as<T, float16>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(second), "f"(first));
  }
  return out;
#else
  return make_pair(to_half<T>(first).bits, to_half<T>(second).bits);
#endif
}

template <class T>
[[nodiscard]] QLR_HOST_DEVICE inline float first_of(std::uint32_t pair) {
  return half_to_float(T{static_cast<std::uint16_t>(pair & 0xFFFFU)});
}
template <class T>
[[nodiscard]] QLR_HOST_DEVICE inline float second_of(std::uint32_t pair) {
  return half_to_float(T{static_cast<std::uint16_t>(pair >> 16U)});
}

/// Products of two pairs, rounded once.
template <class T>
[[nodiscard]] QLR_HOST_DEVICE inline std::uint32_t multiply_pairs(std::uint32_t a, std::uint32_t b) {
#if defined(__CUDA_ARCH__)
  std::uint32_t out;
  if constexpr (std::same_as<T, float16>) {
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  } else { // mul.bf16x2 needs sm_90
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(0x80008000U));
  }
  return out;
#else
  return to_pair<T>(first_of<T>(a) * first_of<T>(b), second_of<T>(a) * second_of<T>(b));
#endif
}

/// Differences of two pairs, rounded once.
template <class T>
[[nodiscard]] QLR_HOST_DEVICE inline std::uint32_t subtract_pairs(std::uint32_t a, std::uint32_t b) {
#if defined(__CUDA_ARCH__)
  std::uint32_t out;
  if constexpr (std::same_as<T, float16>) {
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  } else { // sub.bf16x2 needs sm_90: a + b * -1
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(b), "r"(0xBF80BF80U), "r"(a));
  }
  return out;
#else
  return to_pair<T>(first_of<T>(a) - first_of<T>(b), second_of<T>(a) - second_of<T>(b));
#endif
}

/// Products of a pair with two fp32 numbers, rounded once.
template <class T>
[[nodiscard]] QLR_HOST_DEVICE inline std::uint32_t scale_pair(std::uint32_t pair, float first, float second) {
  return to_pair<T>(first_of<T>(pair) * first, second_of<T>(pair) * second);
}

/// 1 in both halves.
template <class T>
[[nodiscard]] QLR_HOST_DEVICE constexpr std::uint32_t pair_of_ones() {
  return std::same_as<T, float16> ? 0x3C003C00U : 0x3F803F80U;
}

/// 32 bits of high:low from bit `shift` (0 to 31) on.
[[nodiscard]] QLR_HOST_DEVICE inline std::uint32_t shift_words(std::uint32_t low, std::uint32_t high,
                                                               int shift) {
#if defined(__CUDA_ARCH__)
  return __funnelshift_r(low, high, static_cast<std::uint32_t>(shift));
#else
  return static_cast<std::uint32_t>(((static_cast<std::uint64_t>(high) << 32U) | low) >> shift);
#endif
}

/// Eight or sixteen bytes that are loaded or stored by one instruction.
struct alignas(8) word_pair {
  std::uint32_t words[2];
};
struct alignas(16) quad {
  std::uint32_t words[4];
};
struct alignas(8) float_pair {
  float values[2];
};
struct alignas(16) float_quad {
  float values[4];
};

} // namespace qlr::cuda::detail
