// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/page_text.hpp>

#include <array>
#include <cmath>
#include <limits>

double number_of(const nlohmann::ordered_json& object, const char* key) {
  constexpr double largest = 1e30; // differences and squares of what is drawn must not overflow
  constexpr double absent = std::numeric_limits<double>::quiet_NaN();
  if (!object.is_object() || !object.contains(key) || !object.at(key).is_number()) return absent;
  const auto value = object.at(key).get<double>();
  return std::abs(value) <= largest ? value : absent;
}

std::string text_of(const nlohmann::ordered_json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object.at(key).is_string()) return {};
  return object.at(key).get<std::string>();
}

const nlohmann::ordered_json& list_of(const nlohmann::ordered_json& object, const char* key) {
  static const nlohmann::ordered_json empty = nlohmann::ordered_json::array();
  if (!object.is_object() || !object.contains(key) || !object.at(key).is_array()) return empty;
  return object.at(key);
}

std::string bytes_text(double bytes) {
  constexpr std::array<const char*, 5> units{"bytes", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  for (; bytes >= 999.5 && unit + 1 < units.size(); ++unit) bytes /= 1000;
  return std::isfinite(bytes) ? number_text(bytes, 3) + "&#160;" + units.at(unit) : dash;
}

std::string duration_text(double seconds) {
  if (!(std::abs(seconds) >= 59.95)) return std::isfinite(seconds) ? number_text(seconds, 3) + " s" : dash;
  const double minutes = std::floor(seconds / 60);
  if (std::abs(seconds) < 3600)
    return number_text(minutes) + " min " + number_text(std::floor(seconds - 60 * minutes)) + " s";
  const double hours = std::floor(minutes / 60);
  return number_text(hours) + " h " + number_text(minutes - 60 * hours) + " min";
}
