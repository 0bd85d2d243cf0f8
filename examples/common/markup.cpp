// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <common/markup.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>

namespace {

struct character {
  std::uint32_t code = 0;
  std::size_t length = 0; // in bytes; 0: no UTF-8
};

std::uint32_t byte_at(std::string_view text, std::size_t i) {
  return static_cast<unsigned char>(text[i]);
}

character first_of(std::string_view text) {
  constexpr std::array<std::uint32_t, 5> smallest{0, 0, 0x80, 0x800, 0x10000}; // by length
  const std::uint32_t lead = byte_at(text, 0);
  if (lead < 0x80U) return {lead, 1};
  const std::size_t length = lead >= 0xF0U ? 4 : lead >= 0xE0U ? 3 : 2;
  if (lead < 0xC2U || lead > 0xF4U || text.size() < length) return {};
  std::uint32_t code = lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte_at(text, i) & 0xC0U) != 0x80U) return {};
    code = (code << 6U) | (byte_at(text, i) & 0x3FU);
  }
  const bool is_surrogate = code >= 0xD800U && code < 0xE000U;
  if (code < smallest.at(length) || code > 0x10FFFFU || is_surrogate) return {};
  return {code, length};
}

/// Not so: what has no look of its own, turns the direction of writing, or must not be in XML.
bool is_shown(std::uint32_t code) {
  constexpr std::array<std::array<std::uint32_t, 2>, 8> hidden{{{0, 0x1F},
                                                                {0x7F, 0x9F},
                                                                {0x61C, 0x61C},
                                                                {0x200B, 0x200F},
                                                                {0x2028, 0x202E},
                                                                {0x2060, 0x206F},
                                                                {0xFDD0, 0xFDEF},
                                                                {0xFEFF, 0xFEFF}}};
  if ((code & 0xFFFEU) == 0xFFFEU || code >= 0xE0000U) return false;
  return std::none_of(hidden.begin(), hidden.end(),
                      [&](const auto& range) { return code >= range[0] && code <= range[1]; });
}

template <class... Values>
std::string formatted(const char* format, Values... values) {
  std::array<char, 64> text{};
  (void)std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

std::string_view entity_of(std::uint32_t code) {
  switch (code) {
  case '&':
    return "&amp;";
  case '<':
    return "&lt;";
  case '>':
    return "&gt;";
  case '"':
    return "&quot;";
  case '\'':
    return "&#39;";
  default:
    return {};
  }
}

} // namespace

std::string escaped(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const character next = first_of(text);
    const std::size_t length = std::max<std::size_t>(next.length, 1);
    if (next.length == 0 || (next.length == 1 && !is_shown(next.code))) {
      result += formatted("\\x%02x", byte_at(text, 0));
    } else if (!is_shown(next.code)) {
      result += formatted("\\u{%x}", next.code);
    } else {
      const std::string_view entity = entity_of(next.code);
      result += entity.empty() ? text.substr(0, length) : entity;
    }
    text.remove_prefix(length);
  }
  return result;
}

std::string_view end_of(std::string_view text, std::size_t longest) {
  if (text.size() <= longest) return text;
  text.remove_prefix(text.size() - longest);
  while (!text.empty() && (byte_at(text, 0) & 0xC0U) == 0x80U) text.remove_prefix(1);
  return text;
}

std::string number_text(double value, int digits) {
  if (!std::isfinite(value)) return dash;
  const double size = std::abs(value);
  if (size >= std::pow(10, digits) && size < 1e15) return formatted("%.0f", value);
  return formatted("%.*g", digits, value);
}
