// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/io/detail/convert.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace qlr::io::detail {

/// The bytes of an untrusted file from front to back; every step is checked against its end.
class byte_cursor {
public:
  /// @param where  start of every message; must outlive the cursor
  byte_cursor(std::span<const std::byte> contents, std::string_view where)
      : contents_(contents), where_(where) {}

  [[nodiscard]] std::size_t position() const { return position_; }
  [[nodiscard]] std::size_t num_left() const { return contents_.size() - position_; }

  /// The next `num_bytes` bytes; `what` names them in the message when fewer are left.
  [[nodiscard]] std::span<const std::byte> take(std::uint64_t num_bytes, std::string_view what) {
    require(num_bytes <= num_left(), status_code::malformed_file, where_, what, " at byte ", position_, ": ",
            num_bytes, " bytes are needed, but only ", num_left(), " are left");
    const auto taken = contents_.subspan(position_, static_cast<std::size_t>(num_bytes));
    position_ += taken.size();
    return taken;
  }

  /// The next little-endian number.
  template <class T>
  [[nodiscard]] T read(std::string_view what) {
    return load_element<T>(take(sizeof(T), what).data());
  }

  /// The next `num_bytes` bytes as text.
  [[nodiscard]] std::string_view read_text(std::uint64_t num_bytes, std::string_view what) {
    const std::span<const std::byte> bytes = take(num_bytes, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

private:
  std::span<const std::byte> contents_;
  std::string_view where_;
  std::size_t position_ = 0;
};

} // namespace qlr::io::detail
