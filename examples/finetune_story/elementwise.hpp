// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>

// Loops that compilers turn into vector instructions, with the same bits wherever the memory lies: Eigen's
// sums and exponentials treat what is in front of an aligned address differently.

/// Sums that are kept side by side.
inline constexpr qlr::index_t lanes = 16;

/// term(0) combined with ... term(count - 1).
template <class T, class Term, class Combine>
[[nodiscard]] T combine_terms(qlr::index_t count, T neutral, Term&& term, Combine&& combine) {
  T results[lanes];
  for (T& result : results) result = neutral;
  qlr::index_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (qlr::index_t j = 0; j < lanes; ++j) results[j] = combine(results[j], term(i + j));
  }
  for (qlr::index_t j = 0; i < count; ++i, ++j) results[j] = combine(results[j], term(i));
  for (qlr::index_t half = lanes / 2; half > 0; half /= 2) {
    for (qlr::index_t j = 0; j < half; ++j) results[j] = combine(results[j], results[j + half]);
  }
  return results[0];
}

/// sum_i a[i] b[i]
template <std::floating_point T>
[[nodiscard]] T dot_product(const T* a, const T* b, qlr::index_t count) {
  return combine_terms(
      count, T{0}, [&](qlr::index_t i) { return a[i] * b[i]; }, [](T x, T y) { return x + y; });
}

/// The largest of at least one number.
template <std::floating_point T>
[[nodiscard]] T largest_of(const T* values, qlr::index_t count) {
  return combine_terms(
      count, -std::numeric_limits<T>::infinity(), [&](qlr::index_t i) { return values[i]; },
      [](T x, T y) { return x < y ? y : x; });
}

/// e^x without a table or a branch, to about two units in the last place; below -87 it is e^-87, above 88
/// e^88, and NaN stays NaN. With x = n log(2) + r, the powers of r are a Taylor polynomial: |r| <= 0.35, so
/// its first missing term is below 2^-24.
[[nodiscard]] inline float exponential(float x) {
  x = x < -87.0F ? -87.0F : x;
  x = x > 88.0F ? 88.0F : x;
  constexpr float round_to_integer = 0x1.8p23F; // adding it leaves no bits for a fraction
  const float shifted = x * 1.44269504F + round_to_integer;
  const float n = shifted - round_to_integer;
  const float r = (x - n * 0x1.62e4p-1F) - n * 1.42860677e-6F; // log(2) in two parts, the first exact times n
  float power = 1.0F / 5040.0F;
  power = power * r + 1.0F / 720.0F;
  power = power * r + 1.0F / 120.0F;
  power = power * r + 1.0F / 24.0F;
  power = power * r + 1.0F / 6.0F;
  power = power * r + 0.5F;
  power = power * r + 1.0F;
  power = power * r + 1.0F;
  const std::uint32_t exponent = (std::bit_cast<std::uint32_t>(shifted) + 127U) << 23U;
  return power * std::bit_cast<float>(exponent);
}

[[nodiscard]] inline double exponential(double x) {
  return std::exp(x);
}

/// Replaces count >= 1 numbers by softmax(scale * numbers).
///
/// @returns the logarithm of the sum of e^(scale * number)
template <std::floating_point T>
T apply_softmax(T* values, qlr::index_t count, T scale) {
  const T largest = largest_of(values, count);
  for (qlr::index_t i = 0; i < count; ++i) values[i] = exponential(scale * (values[i] - largest));
  const T sum = combine_terms(
      count, T{0}, [&](qlr::index_t i) { return values[i]; }, [](T x, T y) { return x + y; });
  const T factor = T{1} / sum;
  for (qlr::index_t i = 0; i < count; ++i) values[i] *= factor;
  return scale * largest + std::log(sum);
}
