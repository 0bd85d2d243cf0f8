// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>
#include <qlr/io/detail/gguf_value.hpp>
#include <qlr/io/detail/safetensors_layout.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace qlr::io {

namespace detail {

inline void append_bytes(std::vector<std::byte>& target, std::string_view text) {
  const std::size_t at = target.size();
  target.resize(at + text.size());
  if (!text.empty()) std::memcpy(target.data() + at, text.data(), text.size());
}

template <class T>
void append_number(std::vector<std::byte>& target, T value) {
  const std::size_t at = target.size();
  target.resize(at + sizeof value);
  std::memcpy(target.data() + at, &value, sizeof value);
}

inline void append_text(std::vector<std::byte>& target, std::string_view text) {
  append_number(target, static_cast<std::uint64_t>(text.size()));
  append_bytes(target, text);
}

template <class T>
concept gguf_number = std::same_as<T, std::uint8_t> || std::same_as<T, std::int8_t> ||
    std::same_as<T, std::uint16_t> || std::same_as<T, std::int16_t> || std::same_as<T, std::uint32_t> ||
    std::same_as<T, std::int32_t> || std::same_as<T, std::uint64_t> || std::same_as<T, std::int64_t> ||
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bool>;

template <gguf_number T>
[[nodiscard]] constexpr gguf_type gguf_type_of() {
  if constexpr (std::same_as<T, bool>) return gguf_type::boolean;
  if constexpr (std::same_as<T, float>) return gguf_type::f32;
  if constexpr (std::same_as<T, double>) return gguf_type::f64;
  constexpr bool is_signed = std::is_signed_v<T>;
  if constexpr (sizeof(T) == 1) return is_signed ? gguf_type::i8 : gguf_type::u8;
  if constexpr (sizeof(T) == 2) return is_signed ? gguf_type::i16 : gguf_type::u16;
  if constexpr (sizeof(T) == 4) return is_signed ? gguf_type::i32 : gguf_type::u32;
  return is_signed ? gguf_type::i64 : gguf_type::u64;
}

} // namespace detail

/// A metadata value to be written: a number of the type given, a text, or an array of either.
class gguf_content {
public:
  template <detail::gguf_number T>
  gguf_content(T value) // NOLINT(google-explicit-constructor)
      : type_(detail::gguf_type_of<T>()), element_type_(type_) {
    detail::append_number(bytes_, value);
  }
  /// @throws qlr::error invalid_argument: not UTF-8
  gguf_content(std::string_view text) // NOLINT(google-explicit-constructor)
      : type_(gguf_type::text), element_type_(type_) {
    (void)detail::json_string(std::string(text), "a metadata text");
    detail::append_bytes(bytes_, text);
  }
  gguf_content(const std::string& text) // NOLINT(google-explicit-constructor)
      : gguf_content(std::string_view(text)) {}
  gguf_content(const char* text) // NOLINT(google-explicit-constructor)
      : gguf_content(std::string_view(text)) {}
  template <detail::gguf_number T>
    requires(!std::same_as<T, bool>)
  gguf_content(const std::vector<T>& values) // NOLINT(google-explicit-constructor)
      : type_(gguf_type::array), element_type_(detail::gguf_type_of<T>()), count_(values.size()) {
    for (const T value : values) detail::append_number(bytes_, value);
  }
  /// @throws qlr::error invalid_argument: not UTF-8
  gguf_content(const std::vector<std::string>& texts) // NOLINT(google-explicit-constructor)
      : type_(gguf_type::array), element_type_(gguf_type::text), count_(texts.size()) {
    for (const std::string& text : texts) {
      (void)detail::json_string(text, "a metadata text");
      detail::append_text(bytes_, text);
    }
  }
  /// A copy of what another file holds.
  gguf_content(const gguf_value& value) // NOLINT(google-explicit-constructor)
      : type_(value.type()), element_type_(value.element_type()),
        count_(static_cast<std::size_t>(value.count())), bytes_(value.bytes().begin(), value.bytes().end()) {}

  [[nodiscard]] gguf_type type() const { return type_; }
  /// Without the length of a text or an array.
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  /// Appends it as it stands behind its type in a file.
  void append_to(std::vector<std::byte>& target) const {
    if (type_ == gguf_type::text) detail::append_number(target, static_cast<std::uint64_t>(bytes_.size()));
    if (type_ == gguf_type::array) {
      detail::append_number(target, static_cast<std::uint32_t>(element_type_));
      detail::append_number(target, static_cast<std::uint64_t>(count_));
    }
    target.insert(target.end(), bytes_.begin(), bytes_.end());
  }

private:
  gguf_type type_;
  gguf_type element_type_;
  std::size_t count_ = 1;
  std::vector<std::byte> bytes_;
};

/// Metadata to be written; stored in the order of the keys.
using gguf_metadata = std::map<std::string, gguf_content, std::less<>>;

} // namespace qlr::io
