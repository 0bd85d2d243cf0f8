// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

/// Shown for what is absent or no finite number.
inline constexpr const char* dash = "&#8211;";

/// The text for HTML and SVG, also between quotes. Control and direction characters and bytes that are no
/// UTF-8 are shown as \xNN or \u{N}.
[[nodiscard]] std::string escaped(std::string_view text);

/// At most so many bytes of a text, its end, which tells one name from another; cut between characters.
[[nodiscard]] std::string_view end_of(std::string_view text, std::size_t longest);

/// A number with so many digits that count.
[[nodiscard]] std::string number_text(double value, int digits = 4);
