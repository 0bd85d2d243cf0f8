// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

/// Shown for what is absent or no finite number.
inline constexpr const char* dash = "&#8211;";

/// The text for HTML and SVG, also between quotes. Control and direction characters and bytes that are no
/// UTF-8 are shown as \xNN or \u{N}.
[[nodiscard]] std::string escaped(std::string_view text);

/// At most so many bytes of a text, its end, which tells one name from another; cut between characters.
[[nodiscard]] std::string_view end_of(std::string_view text, std::size_t longest);

/// NaN where the key is absent or its value no number that can be drawn.
[[nodiscard]] double number_of(const nlohmann::ordered_json& object, const char* key);

/// Empty where the key is absent or its value no text.
[[nodiscard]] std::string text_of(const nlohmann::ordered_json& object, const char* key);

/// The list below a key; an empty one where there is none.
[[nodiscard]] const nlohmann::ordered_json& list_of(const nlohmann::ordered_json& object, const char* key);

/// A number with so many digits that count.
[[nodiscard]] std::string number_text(double value, int digits = 4);

/// 1.23 GB.
[[nodiscard]] std::string bytes_text(double bytes);

/// 2 h 5 min, or 3.21 s.
[[nodiscard]] std::string duration_text(double seconds);
