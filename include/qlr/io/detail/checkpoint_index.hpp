// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/io/detail/safetensors_layout.hpp>
#include <qlr/io/detail/text.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace qlr::io::detail {

// {"metadata": {"total_size": bytes of all tensors}, "weight_map": {tensor: file}}

using shard_map = std::map<std::string, std::string>; // tensor to file

/// Refuses the name of a file that could lie elsewhere than beside the index.
inline void check_shard_name(std::string_view name, std::string_view where) {
  constexpr std::string_view ending = ".safetensors";
  const bool is_plain = std::ranges::all_of(name, [](char character) {
    return static_cast<unsigned char>(character) >= 0x20U && character != '/' && character != '\\' &&
           character != ':';
  });
  const bool is_allowed = is_plain && !name.starts_with('.') && name.find("..") == std::string_view::npos &&
                          name.size() > ending.size() && name.ends_with(ending);
  require(is_allowed, status_code::malformed_file, where, "weight_map names the file ", quote(name),
          ", allowed are names that end with ", ending, ", without '/', '\\', ':' and '..'");
}

/// Receives the events of the JSON parser and collects the weight map; see safetensors_handler.
class checkpoint_index_handler {
public:
  using json = nlohmann::json;

  explicit checkpoint_index_handler(std::string_view where) : where_(where) {}

  shard_map shards;

  bool null() { return scalar("null"); }
  bool boolean(bool /*value*/) { return scalar("a truth value"); }
  bool number_integer(json::number_integer_t /*value*/) { return scalar("a number"); }
  bool number_unsigned(json::number_unsigned_t /*value*/) { return scalar("a number"); }
  bool number_float(json::number_float_t /*value*/, const std::string& /*text*/) {
    return scalar("a number");
  }
  bool binary(json::binary_t& /*value*/) { return scalar("binary data"); } // not part of JSON text
  bool string(std::string& text) {
    if (!is_in_map()) return scalar("a text");
    check_shard_name(text, where_);
    require(shards.emplace(key_, std::move(text)).second, status_code::malformed_file, where_,
            "weight_map has two entries ", quote(key_));
    return true;
  }

  bool start_object(std::size_t /*size*/) { return enter(depth_ == 1 && key_ == "weight_map"); }
  bool end_object() { return leave(); }
  bool start_array(std::size_t /*size*/) {
    if (depth_ == 0 || (depth_ == 1 && key_ == "weight_map")) refuse("an array");
    return enter(false);
  }
  bool end_array() { return leave(); }
  bool key(std::string& name) {
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& token, const json::exception& /*error*/) {
    fail(status_code::malformed_file, where_, "it is not valid JSON at its byte ", position, ", near ",
         quote(token));
  }

  void check_complete() const {
    require(has_map_, status_code::malformed_file, where_, "weight_map is missing");
  }

private:
  [[nodiscard]] bool is_in_map() const { return is_map_ && depth_ == 2; }

  bool enter(bool is_map) {
    constexpr int deepest = 16;
    if (is_in_map()) refuse("an object or array");
    require(++depth_ <= deepest, status_code::malformed_file, where_, "it is nested more than ", deepest,
            " levels deep");
    if (!is_map) return true;
    require(!has_map_, status_code::malformed_file, where_, "weight_map is given twice");
    is_map_ = has_map_ = true;
    return true;
  }

  bool leave() {
    if (--depth_ == 1) is_map_ = false;
    return true;
  }

  bool scalar(std::string_view found) {
    const bool is_ignored = depth_ > 0 && !is_in_map() && !(depth_ == 1 && key_ == "weight_map");
    if (!is_ignored) refuse(found);
    return true;
  }

  [[noreturn]] void refuse(std::string_view found) const {
    constexpr auto malformed = status_code::malformed_file;
    if (depth_ == 0) fail(malformed, where_, "it is ", found, ", allowed is an object");
    if (depth_ == 1) fail(malformed, where_, "weight_map is ", found, ", allowed is an object");
    fail(malformed, where_, "weight_map entry ", quote(key_), " is ", found, ", allowed is a text");
  }

  std::string_view where_; // start of every message: the file
  std::string key_;
  int depth_ = 0;
  bool is_map_ = false; // inside weight_map
  bool has_map_ = false;
};

/// The file of each tensor; `where` starts every message.
///
/// @throws qlr::error malformed_file: not such an index, or a file elsewhere
[[nodiscard]] inline shard_map parse_checkpoint_index(std::span<const std::byte> contents,
                                                      std::string_view where) {
  constexpr auto malformed = status_code::malformed_file;
  require(contents.size() <= max_safetensors_header_bytes, malformed, where, "it has ", contents.size(),
          " bytes, allowed are at most ", max_safetensors_header_bytes);
  const std::string_view text(reinterpret_cast<const char*>(contents.data()), contents.size());
  // The JSON parser takes a zero byte for the end of its input and would not look at what follows.
  const std::size_t zero = text.find('\0');
  require(zero == std::string_view::npos, malformed, where, "it has a zero byte at its byte ", zero);
  checkpoint_index_handler handler(where);
  nlohmann::json::sax_parse(text.begin(), text.end(), &handler); // errors leave through the handler
  handler.check_complete();
  return std::move(handler.shards);
}

/// The text of an index.
///
/// @throws qlr::error invalid_argument: a name is not UTF-8
[[nodiscard]] inline std::string checkpoint_index_text(const shard_map& shards, index_t total_bytes) {
  std::string entries;
  for (const auto& [tensor, file] : shards) {
    if (!entries.empty()) entries += ',';
    entries += "\n    " + json_string(tensor, "tensor name") + ": " + json_string(file, "file name");
  }
  return sentence("{\n  \"metadata\": {\n    \"total_size\": ", total_bytes, "\n  },\n  \"weight_map\": {",
                  entries, "\n  }\n}\n");
}

} // namespace qlr::io::detail
