// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/detail/byte_cursor.hpp>
#include <qlr/io/detail/convert.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

class gguf_value;

/// Types of a metadata value in a GGUF file, numbered as there.
enum class gguf_type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

namespace detail {

/// Bytes of a value of each type in the order of the enumerators; 0 = varies.
inline constexpr std::array<std::uint64_t, 13> gguf_value_bytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

[[nodiscard]] inline gguf_value read_gguf_value(byte_cursor& cursor, gguf_type type, std::string_view where,
                                                int depth);

} // namespace detail

/// One checked metadata value of a GGUF file; refers to the file's memory.
class gguf_value {
public:
  [[nodiscard]] gguf_type type() const { return type_; }
  /// Type of the elements of an array; otherwise type().
  [[nodiscard]] gguf_type element_type() const { return element_type_; }
  /// Elements of an array; otherwise 1.
  [[nodiscard]] index_t count() const { return count_; }

  /// As stored: of a text its characters, of an array its elements one after the other.
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  /// The bytes of a text; nothing for another type.
  [[nodiscard]] std::optional<std::string_view> text() const {
    if (type_ != gguf_type::text) return std::nullopt;
    return std::string_view(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
  }

  /// An integer of any width; nothing for another type or a value above 2^63 - 1.
  [[nodiscard]] std::optional<index_t> integer() const {
    switch (type_) {
    case gguf_type::u8:
      return load<std::uint8_t>();
    case gguf_type::i8:
      return load<std::int8_t>();
    case gguf_type::u16:
      return load<std::uint16_t>();
    case gguf_type::i16:
      return load<std::int16_t>();
    case gguf_type::u32:
      return load<std::uint32_t>();
    case gguf_type::i32:
      return load<std::int32_t>();
    case gguf_type::i64:
      return load<std::int64_t>();
    case gguf_type::u64: {
      const auto value = load<std::uint64_t>();
      if (value > static_cast<std::uint64_t>(std::numeric_limits<index_t>::max())) return std::nullopt;
      return static_cast<index_t>(value);
    }
    default:
      return std::nullopt;
    }
  }

  /// A floating-point number or an integer; nothing for another type.
  [[nodiscard]] std::optional<double> number() const {
    if (type_ == gguf_type::f32) return static_cast<double>(load<float>());
    if (type_ == gguf_type::f64) return load<double>();
    if (type_ == gguf_type::u64) return static_cast<double>(load<std::uint64_t>());
    const std::optional<index_t> value = integer();
    return value ? std::optional(static_cast<double>(*value)) : std::nullopt;
  }

  /// A boolean; nothing for another type.
  [[nodiscard]] std::optional<bool> boolean() const {
    return type_ == gguf_type::boolean ? std::optional(load<std::uint8_t>() != 0) : std::nullopt;
  }

  /// The elements of an array, in order; nothing for another type.
  [[nodiscard]] std::vector<gguf_value> elements() const {
    std::vector<gguf_value> result;
    if (type_ != gguf_type::array) return result;
    detail::byte_cursor cursor(bytes_,
                               {}); // cannot fail: the same bytes were walked when the file was opened
    for (index_t i = 0; i < count_; ++i) {
      result.push_back(detail::read_gguf_value(cursor, element_type_, {}, 1));
    }
    return result;
  }

private:
  friend gguf_value detail::read_gguf_value(detail::byte_cursor&, gguf_type, std::string_view, int);

  gguf_value(gguf_type type, gguf_type element_type, index_t count, std::span<const std::byte> bytes)
      : type_(type), element_type_(element_type), count_(count), bytes_(bytes) {}

  template <class T>
  [[nodiscard]] T load() const {
    return detail::load_element<T>(bytes_.data());
  }

  gguf_type type_;
  gguf_type element_type_;
  index_t count_;
  std::span<const std::byte> bytes_; // of a text its characters, of an array its elements as stored
};

namespace detail {

[[nodiscard]] inline gguf_type read_gguf_type(byte_cursor& cursor, std::string_view where) {
  const auto number = cursor.read<std::uint32_t>("a value type");
  require(number < gguf_value_bytes.size(), status_code::malformed_file, where, "value type is ", number,
          ", allowed are 0 ... ", gguf_value_bytes.size() - 1);
  return static_cast<gguf_type>(number);
}

[[nodiscard]] inline std::string_view read_gguf_text(byte_cursor& cursor, std::string_view what) {
  const auto num_bytes = cursor.read<std::uint64_t>(what);
  return cursor.read_text(num_bytes, what);
}

/// Walks `count` elements and returns their bytes.
[[nodiscard]] inline std::span<const std::byte> take_gguf_elements(byte_cursor& cursor, gguf_type type,
                                                                   std::uint64_t count,
                                                                   std::string_view where, int depth) {
  const std::uint64_t element_bytes = gguf_value_bytes[static_cast<std::size_t>(type)];
  const std::uint64_t smallest = element_bytes != 0 ? element_bytes : sizeof(std::uint64_t);
  require(count <= cursor.num_left() / smallest, status_code::malformed_file, where, "an array has ", count,
          " elements of at least ", smallest, " bytes, but only ", cursor.num_left(), " bytes are left");
  byte_cursor walk = cursor;
  // Numbers need no walk; booleans do because of their range.
  const bool is_number = element_bytes != 0 && type != gguf_type::boolean;
  for (std::uint64_t i = 0; !is_number && i < count; ++i) (void)read_gguf_value(walk, type, where, depth + 1);
  const std::uint64_t num_bytes = is_number ? count * element_bytes : walk.position() - cursor.position();
  return cursor.take(num_bytes, "an array");
}

/// Reads and checks one value of a type; arrays in arrays up to eight deep, so that the stack stays small.
inline gguf_value read_gguf_value(byte_cursor& cursor, gguf_type type, std::string_view where, int depth) {
  constexpr int largest_depth = 8;
  if (type == gguf_type::text)
    return {type, type, 1, std::as_bytes(std::span(read_gguf_text(cursor, "a text")))};
  if (type == gguf_type::array) {
    require(depth < largest_depth, status_code::unsupported, where, "arrays are nested more than ",
            largest_depth, " deep");
    const gguf_type element_type = read_gguf_type(cursor, where);
    const auto count = cursor.read<std::uint64_t>("the length of an array");
    const std::span<const std::byte> bytes = take_gguf_elements(cursor, element_type, count, where, depth);
    return {type, element_type, static_cast<index_t>(count), bytes};
  }
  const auto bytes = cursor.take(gguf_value_bytes[static_cast<std::size_t>(type)], "a value");
  require(type != gguf_type::boolean || std::to_integer<int>(bytes[0]) <= 1, status_code::malformed_file,
          where, "a boolean is ", std::to_integer<int>(bytes[0]), ", allowed are 0 and 1");
  return {type, type, 1, bytes};
}

} // namespace detail

} // namespace qlr::io
