// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>

#include <string>

/// All compressed layers, and below what was noted about them.
[[nodiscard]] std::string layer_table(const nlohmann::ordered_json& tensors);

/// The tensors that were left as they are.
[[nodiscard]] std::string kept_table(const nlohmann::ordered_json& kept);
