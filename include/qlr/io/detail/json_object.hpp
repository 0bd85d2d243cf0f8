// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace qlr::io::detail {

/// A JSON object from an untrusted file, its members in the order of the text.
///
/// @param deepest  most levels of nesting, the object itself being the first
/// @returns nothing for text that is no JSON, no object, or nested deeper
[[nodiscard]] inline std::optional<nlohmann::ordered_json> parse_json_object(std::string_view text,
                                                                             int deepest) {
  using json = nlohmann::ordered_json;
  bool is_deep = false;
  json object = json::parse(
      text.begin(), text.end(),
      [&](int depth, json::parse_event_t /*event*/, json& /*value*/) {
        is_deep = is_deep || depth > deepest;
        return depth <= deepest;
      },
      false);
  if (is_deep || !object.is_object()) return std::nullopt;
  return object;
}

/// A member that is a whole number of 0 and above; nothing where it is missing or anything else.
[[nodiscard]] inline std::optional<index_t> whole_member(const nlohmann::ordered_json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<std::uint64_t>();
  if (number > static_cast<std::uint64_t>(std::numeric_limits<index_t>::max())) return std::nullopt;
  return static_cast<index_t>(number);
}

} // namespace qlr::io::detail
