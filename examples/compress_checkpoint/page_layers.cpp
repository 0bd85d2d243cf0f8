// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/page_layers.hpp>

#include <compress_checkpoint/page_text.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <string_view>

namespace {

std::vector<std::string_view> parts_of(std::string_view name) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    parts.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// At most six digits: others are part of a name.
bool is_number(std::string_view part) {
  return !part.empty() && part.size() <= 6 && part.find_first_not_of("0123456789") == std::string_view::npos;
}

/// model.layers.3.self_attn.q_proj.weight is q_proj in block 3; mlp.0 and mlp.2 are two kinds.
void find_place(page_layer& layer) {
  std::vector<std::string_view> parts = parts_of(layer.name);
  if (parts.size() > 1 && parts.back() == "weight") parts.pop_back();
  const auto block = std::ranges::find_if(parts, is_number);
  if (block != parts.end()) {
    layer.block = std::stoi(std::string(*block));
    parts.erase(block);
  }
  std::size_t begin = parts.size();
  while (begin > 0 && is_number(parts[begin - 1])) --begin;
  begin -= begin > 0 ? 1 : 0;
  for (std::size_t i = begin; i < parts.size(); ++i) {
    layer.kind += layer.kind.empty() ? "" : ".";
    layer.kind += parts[i];
  }
  if (layer.kind.empty()) layer.kind = "unnamed";
}

std::vector<double> decay_of(const nlohmann::ordered_json& values) {
  constexpr double smallest = 1e-8; // about what is left of a float
  std::vector<double> decay;
  double first = 0;
  for (const auto& value : values) {
    const double number = value.is_number() ? value.get<double>() : 0.0;
    if (decay.empty()) first = number;
    const double share = number / first;
    if (!(first > 0) || !(share >= smallest) || !(share <= 1 / smallest)) break;
    decay.push_back(share);
  }
  return decay;
}

/// Kinds as they come; where there are more than colours, the rarest are one more.
std::vector<page_series> find_series(const std::vector<page_layer>& layers) {
  std::vector<page_series> found;
  std::map<std::string_view, std::size_t> places;
  for (const page_layer& layer : layers) {
    const auto [place, is_new] = places.emplace(layer.kind, found.size());
    if (is_new) found.push_back({layer.kind, 0, false});
    ++found[place->second].num_layers;
  }
  if (found.size() <= max_series) return found;
  std::vector<std::size_t> order(found.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater{}, [&](std::size_t i) { return found[i].num_layers; });
  std::sort(order.begin(), order.begin() + max_series);
  std::vector<page_series> result;
  page_series rest{"other kinds", layers.size(), true};
  for (std::size_t i = 0; i < max_series; ++i) {
    result.push_back(found[order[i]]);
    rest.num_layers -= result.back().num_layers;
  }
  result.push_back(rest);
  return result;
}

} // namespace

page_layers read_layers(const nlohmann::ordered_json& tensors) {
  page_layers result;
  for (const auto& tensor : tensors) {
    page_layer layer;
    layer.name = text_of(tensor, "name");
    layer.error = number_of(tensor, "relative_error");
    layer.bits = number_of(tensor, "bits_per_weight");
    layer.decay = decay_of(list_of(tensor, "singular_values"));
    find_place(layer);
    result.layers.push_back(std::move(layer));
  }
  result.series = find_series(result.layers);
  for (page_layer& layer : result.layers) {
    const auto same = std::ranges::find_if(result.series, [&](const page_series& series) {
      return series.is_rest || series.name == layer.kind;
    });
    layer.series = static_cast<std::size_t>(same - result.series.begin());
  }
  return result;
}
