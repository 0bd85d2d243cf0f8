// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlr::io {

/// Element types of a safetensors file, in the order of the reference implementation: by size, then as there.
enum class dtype : std::uint8_t {
  boolean,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  f64,
  i64,
  u64
};

namespace detail {

struct dtype_traits {
  std::string_view name;
  index_t bytes;
};

// In the order of the enumerators.
inline constexpr std::array<dtype_traits, 15> all_dtypes = {{{"BOOL", 1},
                                                             {"U8", 1},
                                                             {"I8", 1},
                                                             {"F8_E5M2", 1},
                                                             {"F8_E4M3", 1},
                                                             {"I16", 2},
                                                             {"U16", 2},
                                                             {"F16", 2},
                                                             {"BF16", 2},
                                                             {"I32", 4},
                                                             {"U32", 4},
                                                             {"F32", 4},
                                                             {"F64", 8},
                                                             {"I64", 8},
                                                             {"U64", 8}}};
static_assert(all_dtypes.size() == static_cast<std::size_t>(dtype::u64) + 1);

} // namespace detail

/// The name used in safetensors files, such as "BF16".
[[nodiscard]] constexpr std::string_view dtype_name(dtype type) {
  return detail::all_dtypes[static_cast<std::size_t>(type)].name;
}

/// Bytes of one element.
[[nodiscard]] constexpr index_t dtype_bytes(dtype type) {
  return detail::all_dtypes[static_cast<std::size_t>(type)].bytes;
}

/// The type of that safetensors name, or nothing when it is not one of dtype.
[[nodiscard]] constexpr std::optional<dtype> find_dtype(std::string_view name) {
  for (std::size_t i = 0; i < detail::all_dtypes.size(); ++i) {
    if (detail::all_dtypes[i].name == name) return static_cast<dtype>(i);
  }
  return std::nullopt;
}

/// One tensor as the header of a safetensors file describes it.
struct tensor_info {
  std::string name;
  std::string dtype_text;     ///< as written in the file
  std::optional<dtype> type;  ///< empty when dtype_text is not one of dtype: listed, but not convertible
  std::vector<index_t> shape; ///< empty for a scalar
  index_t begin_bytes = 0; ///< range [begin_bytes, end_bytes) in the data part, which starts after the header
  index_t end_bytes = 0;
};

/// One tensor to be written: row-major elements, not copied.
struct tensor_entry {
  std::string name;
  dtype type = dtype::f32;
  std::vector<index_t> shape;
  std::span<const std::byte> bytes;
};

/// One tensor to be written, with its elements.
struct owned_tensor {
  std::string name;
  dtype type = dtype::f32;
  std::vector<index_t> shape;
  std::vector<std::byte> bytes;

  [[nodiscard]] tensor_entry entry() const { return {name, type, shape, bytes}; }
};

} // namespace qlr::io
