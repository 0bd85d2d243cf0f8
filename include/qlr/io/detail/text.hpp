// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>

namespace qlr::io::detail {

/// The text in single quotes, shortened after 120 bytes, control bytes as \xNN.
///
/// Names and values in messages come from untrusted files: they must not steer a terminal or flood a log.
[[nodiscard]] inline std::string quote(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  constexpr std::size_t longest = 120;
  std::string result = "'";
  for (const char character : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte < 0x20U || byte == 0x7FU) {
      result += "\\x";
      result += digits[byte >> 4U];
      result += digits[byte & 0xFU];
    } else {
      result += character;
    }
  }
  result += text.size() > longest ? "...'" : "'";
  return result;
}

/// The operating system's reason for an errno value; unlike strerror it is safe in threads.
[[nodiscard]] inline std::string reason(int error_number) {
  return std::generic_category().message(error_number);
}

} // namespace qlr::io::detail
