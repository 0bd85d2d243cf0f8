// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/io/detail/bitsandbytes_state.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/quant/code_packing.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io::detail {

// Parts of a weight of bitsandbytes; how they belong together is documented in bitsandbytes.hpp.

inline constexpr index_t nested_map_size = 256;

/// @throws qlr::error malformed_file: no such tensor, or another number of elements
inline const tensor_info& bitsandbytes_part(const safetensors_file& file, const std::string& name,
                                            index_t count) {
  require(file.contains(name), status_code::malformed_file, "tensor ", quote(name), " is missing");
  const tensor_info& tensor = file.find(name);
  index_t elements = 1; // cannot overflow: the shape was checked against the bytes
  for (const index_t extent : tensor.shape) elements = extent == 0 ? 0 : elements * extent;
  require(elements == count, status_code::malformed_file, "tensor ", quote(name), " has ", elements,
          " elements, allowed are ", count);
  return tensor;
}

inline void check_part_type(const tensor_info& tensor, dtype type) {
  require(tensor.type == type, status_code::malformed_file, "tensor ", quote(tensor.name), " has the type ",
          quote(tensor.dtype_text), ", allowed is ", dtype_name(type));
}

/// A part of finite numbers as float.
///
/// @throws qlr::error malformed_file: missing, of another type or length, or not finite
inline std::vector<float> read_finite_part(const safetensors_file& file, const std::string& name,
                                           index_t count, bool allows_halves = false) {
  const tensor_info& tensor = bitsandbytes_part(file, name, count);
  const bool is_half = tensor.type == dtype::f16 || tensor.type == dtype::bf16;
  if (!(allows_halves && is_half)) check_part_type(tensor, dtype::f32);
  const matrix<float> values = file.read_matrix(name, flatten::trailing_dimensions);
  std::vector<float> result(values.data(), values.data() + values.size());
  for (std::size_t i = 0; i < result.size(); ++i) {
    require(is_finite(result[i]), status_code::malformed_file, "tensor ", quote(name), " holds ", result[i],
            " at ", i, ", every entry must be finite");
  }
  return result;
}

/// The table and the state of a weight of 4 bits.
inline std::pair<const bitsandbytes_table*, bitsandbytes_state> read_bitsandbytes_state(
    const safetensors_file& file, const std::string& name) {
  const bitsandbytes_table* table = nullptr;
  std::string state_name;
  for (const bitsandbytes_table& candidate : bitsandbytes_tables) {
    const std::string candidate_name = sentence(name, bitsandbytes_state_suffix, candidate.name);
    if (!file.contains(candidate_name)) continue;
    require(table == nullptr, status_code::malformed_file, "tensor ", quote(name),
            " has the state of both nf4 and fp4");
    table = &candidate;
    state_name = candidate_name;
  }
  require(table != nullptr, status_code::malformed_file, "tensor ", quote(name), " needs ",
          quote(sentence(name, bitsandbytes_state_suffix, "nf4")), " or the same with fp4, both are missing");
  check_part_type(file.find(state_name), dtype::u8);
  const std::span<const std::byte> bytes = file.bytes(state_name);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  bitsandbytes_state state = bitsandbytes_state_reader(text, sentence("tensor ", quote(state_name), ": "))
                                 .read(file.contains(name + ".nested_absmax"));
  require(state.quant_type == table->name, status_code::malformed_file, "tensor ", quote(state_name),
          ": quant_type is ", quote(state.quant_type), ", its name says ", table->name);
  return {table, std::move(state)};
}

/// bitsandbytes decodes with a table of its own, so that another one in the file would be ignored.
///
/// @throws qlr::error unsupported: a code table that differs by more than rounding
inline void check_bitsandbytes_table(const safetensors_file& file, const std::string& name,
                                     const bitsandbytes_table& table) {
  constexpr float rounding = 1e-6F;
  const std::vector<float> map = read_finite_part(file, name + ".quant_map", 16);
  for (std::size_t i = 0; i < map.size(); ++i) {
    require(std::fabs(map[i] - table.levels[i]) <= rounding, status_code::unsupported, "tensor ",
            quote(name + ".quant_map"), " holds ", map[i], " at ", i, ", ", table.name, " has ",
            table.levels[i]);
  }
}

/// The packed codes of `count` elements, the unused nibble cleared.
inline std::vector<std::uint8_t> read_bitsandbytes_codes(const safetensors_file& file,
                                                         const std::string& name, index_t count) {
  require(file.contains(name), status_code::malformed_file, "tensor ", quote(name), " is missing");
  const std::span<const std::byte> bytes = file.bytes(name); // of any type: quant_storage
  const index_t expected = count / 2 + count % 2;
  require(static_cast<index_t>(bytes.size()) == expected, status_code::malformed_file, "tensor ", quote(name),
          " has ", bytes.size(), " bytes, ", count, " elements of 4 bits need ", expected);
  const auto* const first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  std::vector<std::uint8_t> codes(first, first + bytes.size());
  if (count % 2 != 0) codes.back() &= 0xF0U;
  return codes;
}

/// Nested scales decoded as bitsandbytes does: the product is rounded before the sum.
inline std::vector<float> decode_nested(std::span<const std::uint8_t> codes, const std::vector<float>& map,
                                        const std::vector<float>& supers, const bitsandbytes_state& state) {
  std::vector<float> scales(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const float super = supers[i / static_cast<std::size_t>(state.nested_block)];
    scales[i] = qlr::detail::rounded_product_plus(map[codes[i]], super, state.nested_offset);
  }
  return scales;
}

inline stored_scales plain_scales(const std::vector<float>& values) {
  stored_scales scales{{scale_coding::plain, scale_type::fp32}, static_cast<index_t>(values.size()), {}, {}};
  scales.codes.resize(4 * values.size());
  if (!values.empty()) std::memcpy(scales.codes.data(), values.data(), scales.codes.size());
  return scales;
}

inline stored_scales read_bitsandbytes_scales(const safetensors_file& file, const std::string& name,
                                              const bitsandbytes_state& state) {
  const index_t elements = state.rows * state.cols;
  const index_t count = elements / state.block + (elements % state.block != 0 ? 1 : 0);
  if (state.nested_block == 0) return plain_scales(read_finite_part(file, name + ".absmax", count, true));
  check_part_type(bitsandbytes_part(file, name + ".absmax", count), dtype::u8);
  const auto* const first = reinterpret_cast<const std::uint8_t*>(file.bytes(name + ".absmax").data());
  std::vector<std::uint8_t> codes(first, first + count);
  const std::vector<float> map = read_finite_part(file, name + ".nested_quant_map", nested_map_size);
  const index_t num_supers = (count + state.nested_block - 1) / state.nested_block;
  const std::vector<float> supers = read_finite_part(file, name + ".nested_absmax", num_supers);
  const std::vector<float> values = decode_nested(codes, map, supers, state);
  for (std::size_t i = 0; i < values.size(); ++i) {
    require(is_finite(values[i]), status_code::malformed_file, "the nested scale of block ", i, " of ",
            quote(name), " is not finite");
  }
  bool is_dynamic_map = true;
  for (int i = 0; i < nested_map_size; ++i) {
    is_dynamic_map =
        is_dynamic_map && map[static_cast<std::size_t>(i)] == dynamic_map().decode(static_cast<code_t>(i));
  }
  const scale_format nested = nested_bitsandbytes();
  if (!is_dynamic_map || state.nested_block != nested.block) return plain_scales(values);
  stored_scales scales{nested, count, std::move(codes), {}, state.nested_offset};
  scales.supers.resize(4 * supers.size());
  std::memcpy(scales.supers.data(), supers.data(), scales.supers.size());
  return scales;
}

/// SCB of a weight of 8 bits, one for each row; the other parts are checked.
inline std::vector<float> read_int8_scales(const safetensors_file& file, const std::string& name) {
  require(file.contains(name), status_code::malformed_file, "tensor ", quote(name), " is missing");
  const tensor_info& weight = file.find(name);
  check_part_type(weight, dtype::i8);
  require(weight.shape.size() == 2 && weight.shape[0] > 0 && weight.shape[1] > 0, status_code::malformed_file,
          "tensor ", quote(name), " has the shape ", shape_text(weight.shape),
          ", allowed are two dimensions, none of them 0");
  require(name.ends_with(".weight"), status_code::malformed_file, "tensor ", quote(name),
          " is of 8 bits, allowed are names that end in '.weight'");
  const std::string module = name.substr(0, name.size() - std::string_view("weight").size());
  if (file.contains(module + "weight_format")) {
    const std::string format = module + "weight_format";
    check_part_type(bitsandbytes_part(file, format, 1), dtype::u8);
    const auto number = static_cast<int>(file.bytes(format)[0]);
    require(number == 0, status_code::unsupported, "tensor ", quote(format), " holds ", number,
            ", supported is 0: row by row");
  }
  std::vector<float> scales = read_finite_part(file, module + "SCB", weight.shape[0]);
  for (const float scale : scales) {
    require(std::fabs(scale) <= std::numeric_limits<float>::max() / 128, status_code::malformed_file,
            "tensor ", quote(module + "SCB"), " holds ", scale, ", beyond what float32 can decode");
  }
  return scales;
}

/// Elements per scale that bitsandbytes would use for this layout, where there is such a number.
///
/// @throws qlr::error unsupported: groups that bitsandbytes does not have
inline index_t bitsandbytes_block(const quantized_layout& layout) {
  const index_t group = layout.num_scales() == 1 ? layout.rows * layout.cols : layout.group_cols();
  if (layout.num_scales() == 1) { // any block that holds all will do
    for (const index_t block : bitsandbytes_blocks) {
      if (block >= group) return block;
    }
  }
  require(is_bitsandbytes_block(group), status_code::unsupported, "group_size is ", group,
          ", bitsandbytes has blocks of ", bitsandbytes_block_names);
  require(layout.rows == 1 || layout.cols % group == 0, status_code::unsupported, "group_size is ", group,
          ", which does not divide the ", layout.cols,
          " columns: the blocks of bitsandbytes run on into the next row");
  return group;
}

/// The table of a matrix that bitsandbytes can hold.
///
/// @throws qlr::error as bitsandbytes_tensors
inline bitsandbytes_codes check_representable(const quantized_matrix_view& q) {
  const quantized_layout& layout = q.layout;
  require(layout.rows > 0 && layout.cols > 0, status_code::invalid_argument, "q is ", layout.rows, " x ",
          layout.cols, ", it must not be empty");
  require(layout.bits == 4, status_code::unsupported, "bits is ", layout.bits,
          ", bitsandbytes writes codes of 4");
  require(layout.zeros == zero_point::none, status_code::unsupported,
          "q has zero points, bitsandbytes has none");
  const std::optional<bitsandbytes_codes> codes = match_bitsandbytes_table(q.levels);
  require(codes.has_value(), status_code::unsupported,
          "the levels of q are neither NF4 nor FP4 as bitsandbytes has them, its kernels know no others");
  return *codes;
}

/// The codes row after row, element 2i in the high nibble of byte i, numbered as bitsandbytes numbers them.
inline std::vector<std::byte> flat_codes(const quantized_matrix_view& q, const bitsandbytes_codes& codes) {
  const index_t cols = q.cols();
  std::vector<std::byte> bytes(static_cast<std::size_t>((q.rows() * cols + 1) / 2), std::byte{0});
  std::vector<code_t> row(static_cast<std::size_t>(cols));
  for (index_t i = 0; i < q.rows(); ++i) {
    unpack_codes(q.layout.order, q.codes + i * q.layout.row_bytes(), cols, q.layout.bits, row.data());
    for (index_t j = 0; j < cols; ++j) {
      const index_t element = i * cols + j;
      const unsigned code = codes.code_of[row[static_cast<std::size_t>(j)]];
      bytes[static_cast<std::size_t>(element / 2)] |=
          static_cast<std::byte>(element % 2 == 0 ? code << 4U : code);
    }
  }
  return bytes;
}

inline owned_tensor float_tensor(std::string name, std::span<const float> values) {
  const std::span<const std::byte> bytes = std::as_bytes(values);
  return {std::move(name), dtype::f32, {static_cast<index_t>(values.size())}, {bytes.begin(), bytes.end()}};
}

inline owned_tensor byte_tensor(std::string name, std::span<const std::byte> bytes) {
  return {std::move(name), dtype::u8, {static_cast<index_t>(bytes.size())}, {bytes.begin(), bytes.end()}};
}

inline owned_tensor state_tensor(const std::string& name, const bitsandbytes_state& state) {
  const std::string text = state_text(state);
  return byte_tensor(sentence(name, bitsandbytes_state_suffix, state.quant_type),
                     std::as_bytes(std::span(text)));
}

/// Appends the tensors of the scales and notes in the state whether they are nested.
inline void add_bitsandbytes_scales(const std::string& name, const quantized_matrix_view& q,
                                    bitsandbytes_state& state, std::vector<owned_tensor>& tensors) {
  const scales_view& scales = q.scales;
  std::vector<float> values(static_cast<std::size_t>(scales.count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = decode_scale(scales, static_cast<index_t>(i));
    require(is_finite(values[i]), status_code::non_finite, "the scale of block ", i, " is ", values[i],
            ", it must be finite");
  }
  const bool is_nested = scales.format.coding == scale_coding::double_mean &&
                         scales.format.type == scale_type::fp32 && is_bitsandbytes_block(scales.format.block);
  if (!is_nested) {
    tensors.push_back(float_tensor(name + ".absmax", values));
    return;
  }
  state.nested_block = scales.format.block;
  state.nested_offset = scales.base;
  std::vector<float> supers(static_cast<std::size_t>(scale_super_bytes(scales.format, scales.count) / 4));
  std::memcpy(supers.data(), scales.supers, 4 * supers.size());
  std::array<float, nested_map_size> map{};
  for (std::size_t i = 0; i < map.size(); ++i) map[i] = dynamic_map().decode(static_cast<code_t>(i));
  tensors.push_back(byte_tensor(name + ".absmax", std::as_bytes(std::span(scales.codes, values.size()))));
  tensors.push_back(float_tensor(name + ".nested_absmax", supers));
  tensors.push_back(float_tensor(name + ".nested_quant_map", map));
}

} // namespace qlr::io::detail
