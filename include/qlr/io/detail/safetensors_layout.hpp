// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/io/detail/safetensors_header.hpp>
#include <qlr/io/detail/shape.hpp>
#include <qlr/io/detail/tensor_info.hpp>
#include <qlr/io/detail/text.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace qlr::io::detail {

/// The start of a file, and the order in which the tensors follow it.
struct safetensors_layout {
  std::string header; // length prefix and padded JSON
  std::vector<std::size_t> order;
};

/// The text as a JSON string.
[[nodiscard]] inline std::string json_string(const std::string& text, std::string_view what) {
  using nlohmann::json;
  // This mode drops what is not UTF-8 instead of throwing a foreign exception; a difference shows that it
  // did.
  std::string result = json(text).dump(-1, ' ', false, json::error_handler_t::ignore);
  const json reread = json::parse(result, nullptr, false);
  require(reread.is_string() && reread.get_ref<const std::string&>() == text, status_code::invalid_argument,
          what, " ", quote(text), " is not valid UTF-8");
  return result;
}

inline void check_entry(const tensor_entry& tensor) {
  constexpr auto invalid = status_code::invalid_argument;
  const std::string subject = "tensor " + quote(tensor.name) + ": ";
  require(tensor.name != "__metadata__", invalid, subject, "the name is reserved");
  require(tensor.shape.size() <= max_tensor_dimensions, invalid, subject, "shape has ", tensor.shape.size(),
          " dimensions, allowed are at most ", max_tensor_dimensions);
  require(std::ranges::all_of(tensor.shape, [](index_t extent) { return extent >= 0; }), invalid, subject,
          "shape is ", shape_text(tensor.shape), ", all extents must be >= 0");
  const std::optional<index_t> expected = tensor_bytes(tensor.shape, dtype_bytes(tensor.type));
  require(expected.has_value(), invalid, subject, "shape ", shape_text(tensor.shape),
          " exceeds the address space");
  require(tensor.bytes.size() == static_cast<std::size_t>(*expected), invalid, subject, "shape ",
          shape_text(tensor.shape), " of ", dtype_name(tensor.type), " takes ", *expected, " bytes, but ",
          tensor.bytes.size(), " are given");
}

/// Wide elements first, so that without gaps each tensor starts at a multiple of its element size; the same
/// order as the reference implementation, so that the files are equal byte for byte.
[[nodiscard]] inline std::vector<std::size_t> sort_for_alignment(std::span<const tensor_entry> tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    return std::tie(tensors[b].type, tensors[a].name) < std::tie(tensors[a].type, tensors[b].name);
  });
  return order;
}

inline void check_names_differ(std::span<const tensor_entry> tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const tensor_entry& tensor : tensors) names.emplace_back(tensor.name);
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice != names.end()) {
    fail(status_code::invalid_argument, "tensor ", quote(*twice), " is given twice, names must differ");
  }
}

[[nodiscard]] inline std::string metadata_json(const std::map<std::string, std::string>& metadata) {
  std::string text;
  for (const auto& [key, value] : metadata) {
    if (!text.empty()) text += ',';
    text += json_string(key, "metadata key") + ':' + json_string(value, "metadata value");
  }
  return "\"__metadata__\":{" + text + '}';
}

/// {"dtype":...,"shape":[...],"data_offsets":[begin,end]} behind its name.
[[nodiscard]] inline std::string tensor_json(const tensor_entry& tensor, index_t begin, index_t end) {
  std::string shape;
  for (const index_t extent : tensor.shape) shape += sentence(shape.empty() ? "" : ",", extent);
  return sentence(json_string(tensor.name, "tensor name"), R"(:{"dtype":")", dtype_name(tensor.type),
                  R"(","shape":[)", shape, R"(],"data_offsets":[)", begin, ",", end, "]}");
}

/// Length prefix and JSON text, padded with spaces so that the data part starts at a multiple of 8 bytes.
[[nodiscard]] inline std::string finish_header(std::string json) {
  json.append((8 - json.size() % 8) % 8, ' ');
  require(json.size() <= max_safetensors_header_bytes, status_code::invalid_argument,
          "the safetensors header has ", json.size(), " bytes, allowed are at most ",
          max_safetensors_header_bytes);
  const std::uint64_t length = json.size();
  std::string prefix(safetensors_prefix_bytes, '\0');
  std::memcpy(prefix.data(), &length, sizeof length);
  return prefix + json;
}

/// Checks everything that is to be written and lays it out.
[[nodiscard]] inline safetensors_layout lay_out_safetensors(
    std::span<const tensor_entry> tensors, const std::map<std::string, std::string>& metadata) {
  for (const tensor_entry& tensor : tensors) check_entry(tensor);
  check_names_differ(tensors);
  safetensors_layout layout;
  layout.order = sort_for_alignment(tensors);
  std::string json = "{";
  if (!metadata.empty()) json += metadata_json(metadata);
  index_t begin = 0;
  for (const std::size_t i : layout.order) {
    const auto bytes = static_cast<index_t>(tensors[i].bytes.size());
    require(bytes <= std::numeric_limits<index_t>::max() - begin, status_code::invalid_argument,
            "the tensors together exceed the address space");
    if (json.size() > 1) json += ',';
    json += tensor_json(tensors[i], begin, begin + bytes);
    begin += bytes;
  }
  layout.header = finish_header(json + '}');
  return layout;
}

} // namespace qlr::io::detail
