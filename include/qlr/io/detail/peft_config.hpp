// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>
#include <qlr/io/detail/json_object.hpp>
#include <qlr/io/detail/name_pattern.hpp>
#include <qlr/io/detail/text.hpp>
#include <qlr/io/mapped_file.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io::detail {

/// What adapter_config.json says about the scale of each pair.
class peft_config {
public:
  /// @param where  start of every message
  /// @throws qlr::error malformed_file: not a JSON object, or a field of another type or outside its range
  /// @throws qlr::error unsupported: a pattern beyond name_pattern
  peft_config(std::string_view text, std::string where) : where_(std::move(where)), text_(text) {
    constexpr int deepest = 16;
    const std::optional<json> object = parse_json_object(text, deepest);
    check(object.has_value(), "it is not a JSON object");
    const json& config = *object;
    rank_ = field(config, "r");
    if (rank_) (void)whole_rank(*rank_);
    alpha_ = field(config, "lora_alpha");
    if (const auto found = config.find("use_rslora"); found != config.end() && !found->is_null()) {
      check(found->is_boolean(), "use_rslora is not true or false");
      is_root_ = found->get<bool>();
    }
    rank_patterns_ = patterns(config, "rank_pattern");
    alpha_patterns_ = patterns(config, "alpha_pattern");
    for (const auto& [pattern, rank] : rank_patterns_) (void)whole_rank(rank);
  }

  /// The text of the file.
  [[nodiscard]] const std::string& text() const { return text_; }

  /// s = alpha / r, or alpha / sqrt(r) with use_rslora.
  ///
  /// @param module  its name in the base model
  /// @param rank    rows of lora_A
  /// @throws qlr::error malformed_file: another rank is written here, or the scale is not finite
  [[nodiscard]] float scale_of(std::string_view module, index_t rank) const {
    const std::optional<double> wanted = find(rank_patterns_, module, rank_);
    check(!wanted || whole_rank(*wanted) == rank, "the rank of ", quote(module), " is ", wanted.value_or(0.0),
          ", its tensors have ", rank);
    const auto r = static_cast<double>(rank);
    const double alpha = find(alpha_patterns_, module, alpha_).value_or(r);
    const auto scale = static_cast<float>(alpha / (is_root_ ? std::sqrt(r) : r));
    check(is_finite(scale), "lora_alpha of ", quote(module), " is ", alpha, ", out of range");
    return scale;
  }

private:
  using json = nlohmann::ordered_json; // the first pattern that matches counts
  using pattern_list = std::vector<std::pair<name_pattern, double>>;

  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    require(condition, status_code::malformed_file, where_, parts...);
  }

  [[nodiscard]] index_t whole_rank(double rank) const {
    check(rank >= 1 && rank <= 1e9 && rank == std::floor(rank), "a rank is ", rank,
          ", allowed are whole numbers from 1 to 1e9");
    return static_cast<index_t>(rank);
  }

  [[nodiscard]] std::optional<double> field(const json& object, const char* name) const {
    const auto found = object.find(name);
    if (found == object.end() || found->is_null()) return std::nullopt;
    check(found->is_number(), name, " is not a number");
    return found->template get<double>();
  }

  [[nodiscard]] pattern_list patterns(const json& config, const char* name) const {
    constexpr std::size_t most = 10000;
    pattern_list result;
    const auto found = config.find(name);
    if (found == config.end() || found->is_null()) return result;
    check(found->is_object() && found->size() <= most, name, " is not an object of at most ", most,
          " entries");
    for (const auto& [pattern, value] : found->items()) {
      check(value.is_number(), name, ": ", quote(pattern), " is not a number");
      result.emplace_back(name_pattern(pattern, where_), value.template get<double>());
    }
    return result;
  }

  static std::optional<double> find(const pattern_list& patterns, std::string_view module,
                                    std::optional<double> otherwise) {
    for (const auto& [pattern, value] : patterns) {
      if (pattern.matches(module)) return value;
    }
    return otherwise;
  }

  std::string where_;
  std::string text_;
  std::optional<double> rank_;
  std::optional<double> alpha_;
  bool is_root_ = false;
  pattern_list rank_patterns_;
  pattern_list alpha_patterns_;
};

} // namespace qlr::io::detail
