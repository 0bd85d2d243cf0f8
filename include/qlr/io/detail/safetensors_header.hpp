// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/io/detail/convert.hpp>
#include <qlr/io/detail/safetensors_handler.hpp>
#include <qlr/io/detail/shape.hpp>
#include <qlr/io/detail/tensor_info.hpp>
#include <qlr/io/detail/text.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace qlr::io::detail {

/// Bytes in front of the header: its length as a 64-bit integer.
inline constexpr std::size_t safetensors_prefix_bytes = 8;

/// The limit of the reference implementation.
inline constexpr std::size_t max_safetensors_header_bytes = 100'000'000;

/// A checked header: every range lies in the data part and fits its shape.
struct safetensors_header {
  std::vector<tensor_info> tensors;       // in file order
  std::vector<std::size_t> order_by_name; // indices into tensors
  std::map<std::string, std::string> metadata;
  std::span<const std::byte> data;
};

/// The JSON text, once the length prefix is found to be within the file.
[[nodiscard]] inline std::string_view find_header_text(std::span<const std::byte> contents,
                                                       std::string_view where) {
  constexpr auto malformed = status_code::malformed_file;
  require(contents.size() >= safetensors_prefix_bytes, malformed, where, "the file has ", contents.size(),
          " bytes, its header length alone takes ", safetensors_prefix_bytes);
  const auto length = load_element<std::uint64_t>(contents.data());
  require(length <= max_safetensors_header_bytes, malformed, where, "the header length is ", length,
          " bytes, allowed are at most ", max_safetensors_header_bytes);
  const std::size_t available = contents.size() - safetensors_prefix_bytes;
  require(length <= available, malformed, where, "the header length is ", length, " bytes, but only ",
          available, " follow");
  const std::span<const std::byte> bytes = contents.subspan(safetensors_prefix_bytes, length);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  require(!text.empty() && text.front() == '{', malformed, where, "the header starts with ",
          quote(text.substr(0, 1)), ", allowed is '{': it must be a JSON object");
  // The JSON parser takes a zero byte for the end of its input and would not look at what follows.
  const std::size_t zero = text.find('\0');
  require(zero == std::string_view::npos, malformed, where, "the header has a zero byte at its byte ", zero);
  return text;
}

/// Checks the range of one tensor against its shape and the size of the data part.
inline void check_range(const tensor_info& tensor, index_t data_bytes, std::string_view where) {
  constexpr auto malformed = status_code::malformed_file;
  const std::string subject = sentence(where, "tensor ", quote(tensor.name), ": ");
  require(tensor.begin_bytes <= tensor.end_bytes, malformed, subject, "data_offsets begin at ",
          tensor.begin_bytes, " and end before it, at ", tensor.end_bytes);
  require(tensor.end_bytes <= data_bytes, malformed, subject, "data_offsets end at ", tensor.end_bytes,
          ", but the data part has ", data_bytes, " bytes");
  // One byte per element still catches a shape that overflows when the size of the type is not known.
  const std::optional<index_t> expected =
      tensor_bytes(tensor.shape, tensor.type ? dtype_bytes(*tensor.type) : 1);
  require(expected.has_value(), malformed, subject, "shape ", shape_text(tensor.shape), " of ",
          quote(tensor.dtype_text), " exceeds the address space");
  const index_t found = tensor.end_bytes - tensor.begin_bytes;
  require(!tensor.type || found == *expected, malformed, subject, "data_offsets span ", found,
          " bytes, but shape ", shape_text(tensor.shape), " of ", tensor.dtype_text, " takes ", *expected);
}

/// Checks that the tensors, sorted by range, cover the data part without overlap and without holes.
inline void check_coverage(std::span<const tensor_info> tensors, index_t data_bytes, std::string_view where) {
  constexpr auto malformed = status_code::malformed_file;
  index_t covered = 0;
  for (const tensor_info& tensor : tensors) {
    require(tensor.begin_bytes >= covered, malformed, where, "tensor ", quote(tensor.name),
            " begins at byte ", tensor.begin_bytes, " of the data part and overlaps another that ends at ",
            covered);
    require(tensor.begin_bytes == covered, malformed, where, "bytes ", covered, " ... ", tensor.begin_bytes,
            " of the data part, before tensor ", quote(tensor.name), ", belong to no tensor");
    covered = tensor.end_bytes;
  }
  require(covered == data_bytes, malformed, where, "the tensors end at byte ", covered,
          " of the data part, but it has ", data_bytes, " bytes");
}

/// Indices of the tensors by ascending name.
[[nodiscard]] inline std::vector<std::size_t> sort_by_name(std::span<const tensor_info> tensors,
                                                           std::string_view where) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto name_of = [&](std::size_t i) -> const std::string& { return tensors[i].name; };
  std::ranges::sort(order, {}, name_of);
  const auto twice = std::ranges::adjacent_find(order, {}, name_of);
  if (twice != order.end()) {
    fail(status_code::malformed_file, where, "tensor ", quote(name_of(*twice)), " is given twice");
  }
  return order;
}

/// Parses and checks everything but the values of the tensors; `where` starts every message.
[[nodiscard]] inline safetensors_header parse_safetensors(std::span<const std::byte> contents,
                                                          std::string_view where) {
  const std::string_view text = find_header_text(contents, where);
  safetensors_handler handler(where);
  nlohmann::json::sax_parse(text.begin(), text.end(), &handler); // errors leave through the handler

  safetensors_header header;
  header.tensors = std::move(handler.tensors);
  header.metadata = std::move(handler.metadata);
  header.data = contents.subspan(safetensors_prefix_bytes + text.size());
  const auto data_bytes = static_cast<index_t>(header.data.size());
  for (const tensor_info& tensor : header.tensors) check_range(tensor, data_bytes, where);
  std::ranges::sort(header.tensors, {}, [](const tensor_info& tensor) {
    return std::tie(tensor.begin_bytes, tensor.end_bytes, tensor.name);
  });
  header.order_by_name = sort_by_name(header.tensors, where);
  check_coverage(header.tensors, data_bytes, where);
  return header;
}

} // namespace qlr::io::detail
