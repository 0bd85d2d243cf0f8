// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>

#include <string>

/// The report on a checkpoint as one HTML document that refers to nothing outside of it and runs no script.
///
/// Names and texts are shown as they are, whatever they hold; what is absent or no finite number is a dash.
/// A chart of very many layers shows a part of them and says so; the tables have all.
/// @param[in] report  what compress_checkpoint writes as JSON
/// @throws std::exception  a list holds something other than what the report has there
[[nodiscard]] std::string report_page(const nlohmann::ordered_json& report);
