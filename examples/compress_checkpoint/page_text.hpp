// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <common/markup.hpp>

#include <nlohmann/json.hpp>

#include <string>

/// NaN where the key is absent or its value no number that can be drawn.
[[nodiscard]] double number_of(const nlohmann::ordered_json& object, const char* key);

/// Empty where the key is absent or its value no text.
[[nodiscard]] std::string text_of(const nlohmann::ordered_json& object, const char* key);

/// The list below a key; an empty one where there is none.
[[nodiscard]] const nlohmann::ordered_json& list_of(const nlohmann::ordered_json& object, const char* key);

/// 1.23 GB.
[[nodiscard]] std::string bytes_text(double bytes);

/// 2 h 5 min, or 3.21 s.
[[nodiscard]] std::string duration_text(double seconds);
