// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/detail/json_object.hpp>
#include <qlr/io/detail/shape.hpp>
#include <qlr/io/detail/text.hpp>
#include <qlr/quant/normal_float.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io::detail {

/// A code table that is built into bitsandbytes' kernels.
struct bitsandbytes_table {
  std::string_view name; ///< "nf4" or "fp4"
  std::array<float, 16> levels;
};

/// FP4 is sorted by code, not by value: bit 3 is the sign, the largest magnitude has code 3.
inline constexpr std::array<bitsandbytes_table, 2> bitsandbytes_tables{
    {{"nf4", nf4_bitsandbytes_levels},
     {"fp4",
      {0.0F, 0.0625F / 12.0F, 8.0F / 12.0F, 1.0F, 4.0F / 12.0F, 0.5F, 2.0F / 12.0F, 0.25F, -0.0F,
       -0.0625F / 12.0F, -8.0F / 12.0F, -1.0F, -4.0F / 12.0F, -0.5F, -2.0F / 12.0F, -0.25F}}}};

/// Elements per scale that bitsandbytes accepts; 32 only in versions of 2026.
inline constexpr std::array<index_t, 8> bitsandbytes_blocks{32, 64, 128, 256, 512, 1024, 2048, 4096};
inline constexpr std::string_view bitsandbytes_block_names = "32, 64, 128, 256, 512, 1024, 2048 and 4096";

inline constexpr std::array<std::string_view, 3> bitsandbytes_dtypes{"bfloat16", "float16", "float32"};
inline constexpr std::string_view bitsandbytes_state_suffix = ".quant_state.bitsandbytes__";

[[nodiscard]] inline bool is_bitsandbytes_block(index_t block) {
  return std::ranges::find(bitsandbytes_blocks, block) != bitsandbytes_blocks.end();
}
[[nodiscard]] inline bool is_bitsandbytes_dtype(std::string_view dtype) {
  return std::ranges::find(bitsandbytes_dtypes, dtype) != bitsandbytes_dtypes.end();
}

/// What the JSON object of a 4-bit tensor says.
struct bitsandbytes_state {
  std::string quant_type;
  index_t block = 64;
  std::string dtype;
  index_t rows = 0;
  index_t cols = 0;
  index_t nested_block = 0; ///< 0: the scales are plain
  float nested_offset = 0;
};

/// As bitsandbytes writes it; the names of its members are those of its QuantState.
[[nodiscard]] inline std::string state_text(const bitsandbytes_state& state) {
  nlohmann::ordered_json object;
  object["quant_type"] = state.quant_type;
  object["blocksize"] = state.block;
  object["dtype"] = state.dtype;
  object["shape"] = {state.rows, state.cols};
  if (state.nested_block > 0) {
    object["nested_blocksize"] = state.nested_block;
    object["nested_dtype"] = "float32";
    object["nested_offset"] = static_cast<double>(state.nested_offset); // every digit of the float
  }
  return object.dump();
}

/// Reads the members of one state and names them in messages.
class bitsandbytes_state_reader {
public:
  /// @param where  start of every message
  /// @throws qlr::error malformed_file: more than 4096 bytes, or no JSON object
  bitsandbytes_state_reader(std::string_view text, std::string where) : where_(std::move(where)) {
    constexpr std::size_t most_bytes = 4096;
    constexpr int deepest = 4;
    check(text.size() <= most_bytes, "it has ", text.size(), " bytes, allowed are at most ", most_bytes);
    std::optional<nlohmann::ordered_json> object = parse_json_object(text, deepest);
    check(object.has_value(), "it is not a JSON object");
    object_ = std::move(*object);
  }

  /// @param is_nested  the file has nested scales
  /// @throws qlr::error malformed_file: a member is missing, of another type, or outside its range
  /// @throws qlr::error unsupported: not two dimensions, or nested scales of another type than float32
  [[nodiscard]] bitsandbytes_state read(bool is_nested) const {
    bitsandbytes_state state;
    state.quant_type = text("quant_type");
    state.block = block("blocksize");
    state.dtype = text("dtype");
    check(is_bitsandbytes_dtype(state.dtype), "dtype is ", quote(state.dtype),
          ", allowed are bfloat16, float16 and float32");
    read_shape(state);
    if (!is_nested) return state;
    state.nested_block = block("nested_blocksize");
    const std::string nested_dtype = text("nested_dtype");
    require(nested_dtype == "float32", status_code::unsupported, where_, "nested_dtype is ",
            quote(nested_dtype), ", supported is float32");
    const nlohmann::ordered_json& offset = member("nested_offset");
    check(offset.is_number(), "nested_offset is not a number");
    const auto value = offset.get<double>();
    check(std::fabs(value) <= static_cast<double>(std::numeric_limits<float>::max()), "nested_offset is ",
          value, ", it must be finite in float");
    state.nested_offset = static_cast<float>(value);
    return state;
  }

private:
  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    require(condition, status_code::malformed_file, where_, parts...);
  }

  [[nodiscard]] const nlohmann::ordered_json& member(const char* name) const {
    const auto found = object_.find(name);
    check(found != object_.end(), name, " is missing");
    return *found;
  }

  [[nodiscard]] std::string text(const char* name) const {
    const nlohmann::ordered_json& value = member(name);
    check(value.is_string(), name, " is not a text");
    return value.get<std::string>();
  }

  [[nodiscard]] index_t block(const char* name) const {
    const std::optional<index_t> value = whole_member(member(name));
    check(value && is_bitsandbytes_block(*value), name, " is ",
          quote(member(name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)),
          ", allowed are ", bitsandbytes_block_names);
    return *value;
  }

  void read_shape(bitsandbytes_state& state) const {
    const nlohmann::ordered_json& shape = member("shape");
    check(shape.is_array(), "shape is not an array");
    require(shape.size() == 2, status_code::unsupported, where_, "shape has ", shape.size(),
            " dimensions, supported are 2");
    std::vector<index_t> extents;
    for (const nlohmann::ordered_json& extent : shape) {
      const std::optional<index_t> value = whole_member(extent);
      check(value && *value > 0, "shape holds ",
            quote(extent.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)),
            ", allowed are whole numbers above 0");
      extents.push_back(*value);
    }
    check(tensor_bytes(extents, 4).has_value(), "shape ", shape_text(extents), " has too many elements");
    state.rows = extents[0];
    state.cols = extents[1];
  }

  std::string where_;
  nlohmann::ordered_json object_;
};

/// A table and the code in it of each of 16 levels.
struct bitsandbytes_codes {
  const bitsandbytes_table* table = nullptr;
  std::array<std::uint8_t, 16> code_of{};
};

/// The table that holds every level, in whatever order; nothing where there is none.
[[nodiscard]] inline std::optional<bitsandbytes_codes> match_bitsandbytes_table(const float* levels) {
  for (const bitsandbytes_table& table : bitsandbytes_tables) {
    bitsandbytes_codes result{&table, {}};
    bool is_complete = true;
    for (std::size_t i = 0; i < 16 && is_complete; ++i) {
      const auto is_level = [&](float x) { // -0 has a code of its own in FP4
        return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(levels[i]);
      };
      const std::span<const float> all(table.levels);
      const auto code = std::distance(all.begin(), std::ranges::find_if(all, is_level));
      is_complete = code < 16;
      if (is_complete) result.code_of[i] = static_cast<std::uint8_t>(code);
    }
    if (is_complete) return result;
  }
  return std::nullopt;
}

} // namespace qlr::io::detail
