// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

/// The text with control bytes as \xNN: names come from files, they must not steer a terminal or break a
/// line.
///
/// @param kept  control bytes that stay as they are
[[nodiscard]] inline std::string printable(std::string_view text, std::string_view kept = {}) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string result;
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    const bool is_harmless = byte >= 0x20U && byte != 0x7FU;
    if (is_harmless || kept.find(character) != std::string_view::npos) {
      result += character;
    } else {
      result += "\\x";
      result += digits[byte >> 4U];
      result += digits[byte & 0xFU];
    }
  }
  return result;
}
