// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <cstddef>
#include <cstring>
#include <type_traits>

namespace qlr::io::detail {

/// Reads one element at an address of any alignment.
template <class T>
[[nodiscard]] T load_element(const std::byte* source) {
  T value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

/// The stored element as float: exact, or rounded to nearest where T is wider.
template <class T>
[[nodiscard]] float element_to_float(const std::byte* source) {
  if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<float>(load_element<T>(source));
  } else {
    return to_float(load_element<T>(source));
  }
}

/// Converts `count` consecutive elements.
template <class T>
void convert_elements(const std::byte* source, index_t count, float* target) {
  if constexpr (std::is_same_v<T, float>) {
    // memcpy must not see the null pointer that an empty range may have
    if (count > 0) std::memcpy(target, source, static_cast<std::size_t>(count) * sizeof(float));
  } else {
    constexpr auto element_bytes = static_cast<index_t>(sizeof(T));
    for (index_t i = 0; i < count; ++i) target[i] = element_to_float<T>(source + i * element_bytes);
  }
}

} // namespace qlr::io::detail
