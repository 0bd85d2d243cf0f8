// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/io/detail/tensor_info.hpp>
#include <qlr/io/detail/text.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io::detail {

/// The reference implementation has no limit; real tensors have at most 8.
inline constexpr std::size_t max_tensor_dimensions = 16;

/// Receives the events of the JSON parser and collects the tensors and the metadata.
///
/// Events instead of a document tree, so that duplicate keys are seen, a wrong value is refused where it
/// stands, and neither nesting nor the number of values costs memory that the result does not need.
class safetensors_handler {
public:
  using json = nlohmann::json;

  explicit safetensors_handler(std::string_view where) : where_(where) {}

  std::vector<tensor_info> tensors;
  std::map<std::string, std::string> metadata;

  bool null() { return scalar("null"); }
  bool boolean(bool value) { return scalar(value ? "true" : "false"); }
  // The parser calls this one only for numbers with a minus sign.
  bool number_integer(json::number_integer_t value) {
    return scalar(sentence("-", std::uint64_t{0} - static_cast<std::uint64_t>(value)));
  }
  bool number_unsigned(json::number_unsigned_t value) {
    if (value > static_cast<std::uint64_t>(std::numeric_limits<index_t>::max()))
      return scalar(sentence(value));
    if (place_ == place::shape) return add_extent(static_cast<index_t>(value));
    if (place_ == place::offsets) return add_offset(static_cast<index_t>(value));
    return scalar(sentence(value));
  }
  bool number_float(json::number_float_t /*value*/, const std::string& text) { return scalar(quote(text)); }
  bool string(std::string& text) {
    if (place_ == place::metadata) {
      require(metadata.emplace(key_, std::move(text)).second, status_code::malformed_file, where_,
              "__metadata__ has two entries ", quote(key_));
      return true;
    }
    if (place_ == place::tensor && key_ == "dtype") {
      tensors.back().dtype_text = std::move(text);
      tensors.back().type = find_dtype(tensors.back().dtype_text);
      return true;
    }
    return scalar(quote(text));
  }
  bool binary(json::binary_t& /*value*/) { return scalar("binary data"); } // not part of JSON text

  bool start_object(std::size_t /*size*/) {
    switch (place_) {
    case place::outside:
      return enter(place::root);
    case place::root:
      return key_ == "__metadata__" ? enter(place::metadata) : start_tensor();
    default:
      return start_ignored("an object");
    }
  }
  bool end_object() { return end_container(); }
  bool start_array(std::size_t /*size*/) {
    if (place_ == place::tensor && key_ == "shape") return enter(place::shape);
    if (place_ == place::tensor && key_ == "data_offsets") return enter(place::offsets);
    return start_ignored("an array");
  }
  bool end_array() {
    if (place_ == place::offsets) {
      require(num_offsets_ == 2, status_code::malformed_file, where_, tensor(), "data_offsets holds ",
              num_offsets_, " numbers, allowed are exactly 2");
    }
    return end_container();
  }
  bool key(std::string& name) {
    if (place_ == place::ignored) return true;
    key_ = std::move(name);
    if (place_ == place::root && key_ == "__metadata__") note_once(has_metadata_, "");
    if (place_ != place::tensor) return true;
    if (key_ == "dtype") note_once(has_dtype_, tensor());
    if (key_ == "shape") note_once(has_shape_, tensor());
    if (key_ == "data_offsets") note_once(has_offsets_, tensor());
    return true;
  }
  bool parse_error(std::size_t position, const std::string& token, const json::exception& /*error*/) {
    fail(status_code::malformed_file, where_, "the header is not valid JSON at its byte ", position,
         ", near ", quote(token));
  }

private:
  enum class place { outside, root, metadata, tensor, shape, offsets, ignored };

  bool enter(place next) {
    place_ = next;
    return true;
  }

  bool start_tensor() {
    tensors.emplace_back();
    tensors.back().name = key_;
    has_dtype_ = has_shape_ = has_offsets_ = false;
    num_offsets_ = 0;
    return enter(place::tensor);
  }

  bool end_container() {
    switch (place_) {
    case place::shape:
    case place::offsets:
      return enter(place::tensor);
    case place::tensor:
      check_complete();
      return enter(place::root);
    case place::metadata:
      return enter(place::root);
    case place::ignored:
      return --ignored_depth_ == 0 ? enter(place::tensor) : true;
    default:
      return enter(place::outside);
    }
  }

  // Unknown fields of a tensor may hold anything, as in the reference implementation.
  [[nodiscard]] bool is_ignored() const {
    return place_ == place::ignored ||
           (place_ == place::tensor && key_ != "dtype" && key_ != "shape" && key_ != "data_offsets");
  }

  bool start_ignored(std::string_view found) {
    if (!is_ignored()) refuse(found);
    constexpr int deepest = 16;
    require(++ignored_depth_ <= deepest, status_code::malformed_file, where_, tensor(),
            "a field is nested more than ", deepest, " levels deep");
    return enter(place::ignored);
  }

  bool scalar(std::string_view found) {
    if (!is_ignored()) refuse(found);
    return true;
  }

  [[noreturn]] void refuse(std::string_view found) const {
    constexpr auto malformed = status_code::malformed_file;
    constexpr auto largest = std::numeric_limits<index_t>::max();
    switch (place_) {
    case place::metadata:
      fail(malformed, where_, "__metadata__ entry ", quote(key_), " is ", found, ", allowed is a string");
    case place::shape:
    case place::offsets:
      fail(malformed, where_, tensor(), key_, " holds ", found, ", allowed are integers 0 ... ", largest);
    case place::tensor:
      fail(malformed, where_, tensor(), key_, " is ", found, ", allowed is ",
           key_ == "dtype" ? "a string" : "an array of integers");
    default:
      fail(malformed, where_, "header entry ", quote(key_), " is ", found, ", allowed is an object");
    }
  }

  bool add_extent(index_t extent) {
    std::vector<index_t>& shape = tensors.back().shape;
    require(shape.size() < max_tensor_dimensions, status_code::malformed_file, where_, tensor(),
            "shape has more than ", max_tensor_dimensions, " dimensions");
    shape.push_back(extent);
    return true;
  }

  bool add_offset(index_t offset) {
    if (num_offsets_ == 0) tensors.back().begin_bytes = offset;
    if (num_offsets_ == 1) tensors.back().end_bytes = offset;
    ++num_offsets_;
    return true;
  }

  void note_once(bool& seen, std::string_view owner) const {
    require(!seen, status_code::malformed_file, where_, owner, key_, " is given twice");
    seen = true;
  }

  void check_complete() const {
    const std::string_view missing = !has_dtype_ ? "dtype" : !has_shape_ ? "shape" : "data_offsets";
    require(has_dtype_ && has_shape_ && has_offsets_, status_code::malformed_file, where_, tensor(), missing,
            " is missing");
  }

  [[nodiscard]] std::string tensor() const { return "tensor " + quote(tensors.back().name) + ": "; }

  std::string_view where_; // start of every message: the file
  place place_ = place::outside;
  std::string key_;
  int ignored_depth_ = 0;
  index_t num_offsets_ = 0;
  bool has_metadata_ = false;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
};

} // namespace qlr::io::detail
