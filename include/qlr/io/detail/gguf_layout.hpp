// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/detail/gguf_content.hpp>
#include <qlr/io/detail/gguf_header.hpp>
#include <qlr/io/detail/safetensors_layout.hpp>
#include <qlr/io/detail/shape.hpp>
#include <qlr/io/detail/text.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlr::io::detail {

/// What the header says about one tensor.
struct gguf_slot {
  std::string name;
  std::uint32_t type = 0;
  std::vector<index_t> shape; // slowest dimension first
  index_t num_bytes = 0;
};

/// Refuses what ggml would not load, and bytes that contradict the shape.
inline void check_gguf_slot(const gguf_slot& slot) {
  constexpr auto invalid = status_code::invalid_argument;
  const std::string subject = "tensor " + quote(slot.name) + ": ";
  constexpr std::size_t longest_name = 63; // ggml keeps 64 bytes, the last one ends the text
  require(!slot.name.empty() && slot.name.size() <= longest_name, invalid, subject, "the name has ",
          slot.name.size(), " bytes, allowed are 1 to ", longest_name);
  (void)json_string(slot.name, "the name of a tensor");
  constexpr std::size_t most_dimensions = 4;
  require(slot.shape.size() <= most_dimensions, invalid, subject, "shape has ", slot.shape.size(),
          " dimensions, allowed are at most ", most_dimensions);
  require(std::ranges::all_of(slot.shape, [](index_t extent) { return extent >= 0; }), invalid, subject,
          "shape is ", shape_text(slot.shape), ", all extents must be >= 0");
  const gguf_element* element = find_gguf_element(slot.type);
  require(element != nullptr, status_code::unsupported, subject, "type ", slot.type,
          " is not known, so the size of its data is not");
  std::vector<index_t> blocks = slot.shape;
  const index_t fastest = blocks.empty() ? 1 : blocks.back();
  require(fastest % element->block == 0, invalid, subject, "its rows have ", fastest, " elements, those of ",
          element->name, " are multiples of ", element->block);
  if (!blocks.empty()) blocks.back() /= element->block;
  const std::optional<index_t> expected = tensor_bytes(blocks, element->block_bytes);
  require(expected.has_value() && tensor_bytes(slot.shape, 1).has_value(), invalid, subject, "shape ",
          shape_text(slot.shape), " exceeds the address space");
  require(*expected == slot.num_bytes, invalid, subject, "shape ", shape_text(slot.shape), " of ",
          element->name, " takes ", *expected, " bytes, but ", slot.num_bytes, " are given");
}

[[nodiscard]] inline index_t gguf_alignment(const gguf_metadata& metadata) {
  const auto found = metadata.find("general.alignment");
  if (found == metadata.end()) return 32;
  const gguf_content& value = found->second;
  const bool is_number = value.type() == gguf_type::u32;
  const std::uint32_t alignment = is_number ? load_element<std::uint32_t>(value.bytes().data()) : 0;
  require(std::has_single_bit(alignment), status_code::invalid_argument, "general.alignment is ",
          is_number ? std::to_string(alignment) : "of another type",
          ", it must be a 32-bit unsigned integer and a power of two");
  return static_cast<index_t>(alignment);
}

[[nodiscard]] inline std::size_t padding_to(index_t alignment, std::size_t size) {
  const auto unit = static_cast<std::size_t>(alignment);
  return (unit - size % unit) % unit;
}

/// Everything before the data: tensors follow in the order of the slots, each padded to the alignment.
///
/// @throws qlr::error invalid_argument, unsupported: see write_gguf
[[nodiscard]] inline std::vector<std::byte> lay_out_gguf(const gguf_metadata& metadata,
                                                         std::span<const gguf_slot> slots) {
  const index_t alignment = gguf_alignment(metadata);
  std::vector<std::byte> header;
  append_bytes(header, std::string_view("GGUF"));
  append_number(header, std::uint32_t{3});
  append_number(header, static_cast<std::uint64_t>(slots.size()));
  append_number(header, static_cast<std::uint64_t>(metadata.size()));
  for (const auto& [key, value] : metadata) {
    constexpr std::size_t longest_key = 65535;
    require(!key.empty() && key.size() <= longest_key, status_code::invalid_argument, "a metadata key has ",
            key.size(), " bytes, allowed are 1 to ", longest_key);
    (void)json_string(key, "a metadata key");
    append_text(header, key);
    append_number(header, static_cast<std::uint32_t>(value.type()));
    value.append_to(header);
  }
  std::set<std::string_view> names;
  std::size_t offset = 0;
  for (const gguf_slot& slot : slots) {
    check_gguf_slot(slot);
    require(names.insert(slot.name).second, status_code::invalid_argument, "tensor ", quote(slot.name),
            " is given twice");
    append_text(header, slot.name);
    append_number(header, static_cast<std::uint32_t>(slot.shape.size()));
    for (std::size_t i = slot.shape.size(); i-- > 0;) {
      append_number(header, static_cast<std::uint64_t>(slot.shape[i]));
    }
    append_number(header, slot.type);
    append_number(header, static_cast<std::uint64_t>(offset));
    offset += static_cast<std::size_t>(slot.num_bytes);
    offset += padding_to(alignment, offset);
  }
  header.resize(header.size() + padding_to(alignment, header.size()));
  return header;
}

} // namespace qlr::io::detail
