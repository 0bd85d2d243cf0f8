// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io::detail {

/// A module of the base model and the rank of its factors.
using module_rank = std::pair<std::string, index_t>;

/// The rank that most modules have, the smaller of two; PEFT's own default without any.
[[nodiscard]] inline index_t most_frequent_rank(std::span<const module_rank> modules) {
  std::map<index_t, std::size_t> counts;
  for (const auto& [module, rank] : modules) ++counts[rank];
  if (counts.empty()) return 8;
  return std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; })->first;
}

/// A name as a pattern of PEFT. Dots stay as they are: older versions look the whole name up.
[[nodiscard]] inline std::string name_as_pattern(std::string_view name) {
  std::string pattern;
  for (const char c : name) {
    if (std::string_view("\\*+?()[]{}|^$").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

/// True when PEFT takes the pattern of one name for another: a dot stands for any character.
[[nodiscard]] inline bool is_taken_for(std::string_view pattern, std::string_view name) {
  if (name.size() < pattern.size()) return false;
  const std::size_t first = name.size() - pattern.size();
  if (first > 0 && name[first - 1] != '.') return false;
  return std::ranges::equal(pattern, name.substr(first), [](char p, char c) { return p == '.' || p == c; });
}

/// Patterns for the modules whose rank is not `usual`.
///
/// PEFT takes the first pattern that matches a name or all that follows one of its dots. Longer names
/// therefore come first, at one length those with fewer dots, and a usual module that the name of another
/// would match has a pattern of its own.
[[nodiscard]] inline nlohmann::ordered_json rank_patterns(std::span<const module_rank> modules,
                                                          index_t usual) {
  std::vector<module_rank> ordered;
  std::vector<std::string_view> exceptions;
  for (const module_rank& module : modules) {
    if (module.first.empty()) continue;
    ordered.push_back(module);
    if (module.second != usual) exceptions.push_back(module.first);
  }
  std::ranges::stable_sort(ordered, {}, [](const module_rank& module) {
    return std::pair(-static_cast<index_t>(module.first.size()), std::ranges::count(module.first, '.'));
  });
  nlohmann::ordered_json result = nlohmann::ordered_json::object();
  for (const auto& [module, rank] : ordered) {
    const auto is_taken = [&name = module](std::string_view other) { return is_taken_for(other, name); };
    if (std::ranges::any_of(exceptions, is_taken)) result.emplace(name_as_pattern(module), rank);
  }
  return result;
}

/// adapter_config.json of an adapter whose scales are all 1: lora_alpha = r for each module.
///
/// Modules are listed by their whole names.
/// @param base_model  empty: not known
/// @param task        as PEFT names it; empty: not known
[[nodiscard]] inline std::string peft_config_text(std::span<const module_rank> modules,
                                                  const std::string& base_model, const std::string& task) {
  using json = nlohmann::ordered_json;
  const auto text_or_null = [](const std::string& text) { return text.empty() ? json(nullptr) : json(text); };
  const index_t rank = most_frequent_rank(modules);
  std::set<std::string> names;
  for (const auto& [module, own] : modules) {
    if (!module.empty()) names.insert(module);
  }
  const json patterns = rank_patterns(modules, rank);
  json config;
  config["peft_type"] = "LORA";
  config["task_type"] = text_or_null(task);
  config["base_model_name_or_path"] = text_or_null(base_model);
  config["inference_mode"] = true;
  config["r"] = rank;
  config["lora_alpha"] = rank;
  config["rank_pattern"] = patterns;
  config["alpha_pattern"] = patterns;
  config["target_modules"] = names;
  config["use_rslora"] = false;
  config["use_dora"] = false;
  config["lora_dropout"] = 0.0;
  config["bias"] = "none";
  config["fan_in_fan_out"] = false;
  config["init_lora_weights"] = true;
  config["modules_to_save"] = nullptr;
  return config.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

} // namespace qlr::io::detail
