// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/matmul_arguments.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

namespace qlr::cuda::detail {

/// Nearest number of a 16-bit type.
template <class T>
[[nodiscard]] QLR_HOST_DEVICE constexpr T round_to_half(float value) {
  if constexpr (std::same_as<T, float16>) {
    return to_float16(value);
  } else {
    static_assert(std::same_as<T, bfloat16>);
    return to_bfloat16(value);
  }
}

/// Numbers in the narrowest of fp16, bf16 and fp32 that changes none.
struct number_array {
  number_kind kind = number_kind::fp16;
  std::vector<std::uint8_t> bytes;
};

[[nodiscard]] inline number_array to_narrowest(std::span<const float> numbers) {
  const auto all_fit = [&](auto round) {
    return std::all_of(numbers.begin(), numbers.end(),
                       [&](float number) { return to_float(round(number)) == number; });
  };
  const auto store = [&](number_kind kind, auto round) {
    using number_type = decltype(round(0.0F));
    number_array out{kind, std::vector<std::uint8_t>(numbers.size() * sizeof(number_type))};
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const number_type number = round(numbers[i]);
      std::memcpy(out.bytes.data() + i * sizeof number, &number, sizeof number);
    }
    return out;
  };
  if (all_fit(to_float16)) return store(number_kind::fp16, to_float16);
  if (all_fit(to_bfloat16)) return store(number_kind::bf16, to_bfloat16);
  return store(number_kind::fp32, [](float value) { return value; });
}

/// The largest magnitude.
template <class Numbers>
[[nodiscard]] float largest_magnitude(const Numbers& numbers) {
  float largest = 0;
  for (const float number : numbers) largest = std::max(largest, std::fabs(number));
  return largest;
}

/// The exponent e that brings a magnitude into [1, 2) when it is divided by 2^e; 0 for zero.
[[nodiscard]] inline int exponent_of(float magnitude) {
  return magnitude > 0 ? floor_log2(magnitude) : 0;
}

} // namespace qlr::cuda::detail
