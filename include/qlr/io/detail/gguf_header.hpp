// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/detail/byte_cursor.hpp>
#include <qlr/io/detail/gguf_value.hpp>
#include <qlr/io/detail/shape.hpp>
#include <qlr/io/detail/text.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

/// One tensor as a GGUF file describes it.
struct gguf_tensor_info {
  std::string name;
  std::uint32_t type = 0;     ///< number of the element type in the file
  std::string type_text;      ///< its name such as "Q4_0", or "type 99" for a number that is not known
  bool is_known = false;      ///< false: listed, and the size of its data is a guess
  std::vector<index_t> shape; ///< slowest dimension first, so the reverse of the file; empty for a scalar
  index_t begin_bytes = 0;    ///< position in the data part, which starts after the tensor descriptions
  index_t num_bytes = 0;      ///< of an unknown type: up to the next tensor or the end of the file
};

namespace detail {

struct gguf_element {
  std::uint32_t number;
  std::string_view name;
  index_t block; // elements along the fastest dimension that are stored together
  index_t block_bytes;
};

inline constexpr std::array gguf_elements = {
    gguf_element{0, "F32", 1, 4},         gguf_element{1, "F16", 1, 2},
    gguf_element{2, "Q4_0", 32, 18},      gguf_element{3, "Q4_1", 32, 20},
    gguf_element{6, "Q5_0", 32, 22},      gguf_element{7, "Q5_1", 32, 24},
    gguf_element{8, "Q8_0", 32, 34},      gguf_element{9, "Q8_1", 32, 36},
    gguf_element{10, "Q2_K", 256, 84},    gguf_element{11, "Q3_K", 256, 110},
    gguf_element{12, "Q4_K", 256, 144},   gguf_element{13, "Q5_K", 256, 176},
    gguf_element{14, "Q6_K", 256, 210},   gguf_element{15, "Q8_K", 256, 292},
    gguf_element{16, "IQ2_XXS", 256, 66}, gguf_element{17, "IQ2_XS", 256, 74},
    gguf_element{18, "IQ3_XXS", 256, 98}, gguf_element{19, "IQ1_S", 256, 50},
    gguf_element{20, "IQ4_NL", 32, 18},   gguf_element{21, "IQ3_S", 256, 110},
    gguf_element{22, "IQ2_S", 256, 82},   gguf_element{23, "IQ4_XS", 256, 136},
    gguf_element{24, "I8", 1, 1},         gguf_element{25, "I16", 1, 2},
    gguf_element{26, "I32", 1, 4},        gguf_element{27, "I64", 1, 8},
    gguf_element{28, "F64", 1, 8},        gguf_element{29, "IQ1_M", 256, 56},
    gguf_element{30, "BF16", 1, 2},       gguf_element{34, "TQ1_0", 256, 54},
    gguf_element{35, "TQ2_0", 256, 66},   gguf_element{39, "MXFP4", 32, 17},
};

[[nodiscard]] inline const gguf_element* find_gguf_element(std::uint32_t number) {
  const auto found = std::ranges::find(gguf_elements, number, &gguf_element::number);
  return found != gguf_elements.end() ? &*found : nullptr;
}

/// A checked header: every range lies in the data part and fits its shape.
struct gguf_header {
  std::uint32_t version = 0;
  index_t alignment = 32;
  std::map<std::string, gguf_value, std::less<>> metadata;
  std::vector<gguf_tensor_info> tensors;                   // in file order
  std::map<std::string, std::size_t, std::less<>> by_name; // indices into tensors
  std::span<const std::byte> data;
};

[[nodiscard]] inline bool has_gguf_magic(std::span<const std::byte> contents) {
  constexpr std::string_view magic = "GGUF";
  return contents.size() >= magic.size() &&
         std::ranges::equal(std::as_bytes(std::span(magic)), contents.first(magic.size()));
}

/// Reads the parts of a header in order; `where` starts every message.
class gguf_parser {
public:
  gguf_parser(std::span<const std::byte> contents, std::string_view where)
      : contents_(contents), cursor_(contents, where), where_(where) {}

  [[nodiscard]] gguf_header parse() {
    require(has_gguf_magic(contents_), malformed, where_, "the file does not start with the bytes GGUF");
    (void)cursor_.take(4, "the magic");
    parse_version();
    const auto num_tensors = cursor_.read<std::uint64_t>("the number of tensors");
    const auto num_values = cursor_.read<std::uint64_t>("the number of metadata values");
    constexpr std::uint64_t smallest_value = 13;  // empty key, type, one byte
    constexpr std::uint64_t smallest_tensor = 24; // empty name, no dimensions, type, offset
    check_count("metadata values", num_values, smallest_value);
    for (std::uint64_t i = 0; i < num_values; ++i) parse_value();
    parse_alignment();
    check_count("tensors", num_tensors, smallest_tensor);
    for (std::uint64_t i = 0; i < num_tensors; ++i) parse_tensor();
    locate_data();
    check_ranges();
    return std::move(header_);
  }

private:
  static constexpr auto malformed = status_code::malformed_file;

  void parse_version() {
    header_.version = cursor_.read<std::uint32_t>("the version");
    const bool is_swapped = header_.version != 0 && (header_.version & 0xFFFFU) == 0;
    require(!is_swapped, status_code::unsupported, where_, "the file is big-endian");
    require(header_.version == 2 || header_.version == 3, status_code::unsupported, where_, "version is ",
            header_.version, ", readable are 2 and 3");
  }

  void check_count(std::string_view what, std::uint64_t count, std::uint64_t smallest) const {
    require(count <= cursor_.num_left() / smallest, malformed, where_, "the number of ", what, " is ", count,
            ", but only ", cursor_.num_left(), " bytes are left");
  }

  void parse_value() {
    const std::string key(read_gguf_text(cursor_, "the key of a metadata value"));
    const std::string subject = sentence(where_, "metadata ", quote(key), ": ");
    const gguf_type type = read_gguf_type(cursor_, subject);
    const gguf_value value = read_gguf_value(cursor_, type, subject, 0);
    require(header_.metadata.emplace(key, value).second, malformed, subject, "it is given twice");
  }

  void parse_alignment() {
    const auto found = header_.metadata.find("general.alignment");
    if (found == header_.metadata.end()) return;
    const gguf_value& value = found->second;
    require(value.type() == gguf_type::u32, malformed, where_, "general.alignment is of value type ",
            static_cast<std::uint32_t>(value.type()), ", it must be of type 4, a 32-bit unsigned integer");
    header_.alignment = value.integer().value_or(0);
    require(std::has_single_bit(static_cast<std::uint64_t>(header_.alignment)), malformed, where_,
            "general.alignment is ", header_.alignment, ", it must be a power of two");
  }

  void parse_tensor() {
    gguf_tensor_info tensor;
    tensor.name = read_gguf_text(cursor_, "the name of a tensor");
    const std::string subject = sentence(where_, "tensor ", quote(tensor.name), ": ");
    parse_shape(tensor, subject);
    tensor.type = cursor_.read<std::uint32_t>("the type of a tensor");
    const auto offset = cursor_.read<std::uint64_t>("the offset of a tensor");
    require(offset <= largest_index, malformed, subject, "offset ", offset, " exceeds the address space");
    tensor.begin_bytes = static_cast<index_t>(offset);
    require(tensor.begin_bytes % header_.alignment == 0, malformed, subject, "offset ", offset,
            " is not a multiple of the alignment ", header_.alignment);
    find_size(tensor, subject);
    const auto [place, is_new] = header_.by_name.emplace(tensor.name, header_.tensors.size());
    require(is_new, malformed, subject, "it is given twice");
    header_.tensors.push_back(std::move(tensor));
  }

  void parse_shape(gguf_tensor_info& tensor, std::string_view subject) {
    constexpr std::uint32_t most_dimensions = 4;
    const auto num_dimensions = cursor_.read<std::uint32_t>("the number of dimensions of a tensor");
    require(num_dimensions <= most_dimensions, malformed, subject, "it has ", num_dimensions,
            " dimensions, allowed are at most ", most_dimensions);
    for (std::uint32_t i = 0; i < num_dimensions; ++i) {
      const auto extent = cursor_.read<std::uint64_t>("the shape of a tensor");
      require(extent <= largest_index, malformed, subject, "extent ", extent, " exceeds the address space");
      tensor.shape.insert(tensor.shape.begin(), static_cast<index_t>(extent));
    }
  }

  void find_size(gguf_tensor_info& tensor, std::string_view subject) const {
    const gguf_element* element = find_gguf_element(tensor.type);
    tensor.is_known = element != nullptr;
    tensor.type_text = element != nullptr ? std::string(element->name) : sentence("type ", tensor.type);
    std::vector<index_t> blocks = tensor.shape;
    const index_t block = element != nullptr ? element->block : 1;
    const index_t fastest = blocks.empty() ? 1 : blocks.back();
    require(fastest % block == 0, malformed, subject, "its fastest extent is ", fastest,
            ", it must be a multiple of ", block, ", the block of ", tensor.type_text);
    if (!blocks.empty()) blocks.back() /= block;
    // One byte per element still catches a shape that overflows when the size of the type is not known.
    const std::optional<index_t> num_bytes =
        tensor_bytes(blocks, element != nullptr ? element->block_bytes : 1);
    require(num_bytes.has_value() && tensor_bytes(tensor.shape, 1).has_value(), malformed, subject, "shape ",
            shape_text(tensor.shape), " of ", tensor.type_text, " exceeds the address space");
    tensor.num_bytes = element != nullptr ? *num_bytes : 0;
  }

  void locate_data() {
    const auto alignment = static_cast<std::size_t>(header_.alignment);
    const std::size_t padding = (alignment - cursor_.position() % alignment) % alignment;
    header_.data = contents_.subspan(cursor_.position() + std::min(padding, cursor_.num_left()));
  }

  /// Checks that every tensor lies in the data part and none overlaps another.
  void check_ranges() {
    const auto data_bytes = static_cast<index_t>(header_.data.size());
    std::vector<std::size_t> order(header_.tensors.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, {}, [&](std::size_t i) {
      return std::pair(header_.tensors[i].begin_bytes, header_.tensors[i].num_bytes);
    });
    for (std::size_t i = 0; i < order.size(); ++i) {
      gguf_tensor_info& tensor = header_.tensors[order[i]];
      const bool is_last = i + 1 == order.size();
      const index_t end = is_last ? data_bytes : header_.tensors[order[i + 1]].begin_bytes;
      require(tensor.begin_bytes <= data_bytes && tensor.num_bytes <= data_bytes - tensor.begin_bytes,
              malformed, where_, "tensor ", quote(tensor.name), ": ", tensor.num_bytes, " bytes at offset ",
              tensor.begin_bytes, " go beyond the data part, which has ", data_bytes, " bytes");
      if (!tensor.is_known) tensor.num_bytes = std::min(end, data_bytes) - tensor.begin_bytes;
      require(tensor.num_bytes == 0 || is_last || tensor.begin_bytes + tensor.num_bytes <= end, malformed,
              where_, "tensor ", quote(tensor.name), ": its data up to offset ",
              tensor.begin_bytes + tensor.num_bytes, " overlaps another tensor at ", end);
    }
  }

  static constexpr auto largest_index = static_cast<std::uint64_t>(std::numeric_limits<index_t>::max());

  std::span<const std::byte> contents_;
  byte_cursor cursor_;
  std::string_view where_;
  gguf_header header_;
};

} // namespace detail

} // namespace qlr::io
