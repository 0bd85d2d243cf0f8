// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

/// What the charts show of one compressed layer.
struct page_layer {
  std::string name;
  std::string kind;         // last part of the module's name
  std::optional<int> block; // first number among the parts of the name
  double error = 0;         // NaN: absent, as bits
  double bits = 0;
  std::vector<double> decay; // singular values, divided by the first, as far as they are positive
  std::size_t series = 0;    // position of its kind
};

/// A kind of layers, or those that are too many for a colour of their own.
struct page_series {
  std::string name;
  std::size_t num_layers = 0;
  bool is_rest = false;
};

struct page_layers {
  std::vector<page_layer> layers; // in the order of the report
  std::vector<page_series> series;
};

/// Kinds with a colour of their own; what is left has one more.
inline constexpr std::size_t max_series = 8;

[[nodiscard]] page_layers read_layers(const nlohmann::ordered_json& tensors);
