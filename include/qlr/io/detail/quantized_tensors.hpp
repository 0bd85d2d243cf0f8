// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/factor_storage.hpp>
#include <qlr/io/detail/layout_text.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace qlr::io::detail {

// How a quantized matrix lies in a safetensors file is documented in serialize.hpp.

/// Collects tensors and metadata; owns what the tensors point to where no one else does.
class quantized_writer {
public:
  void add_quantized(const std::string& prefix, const quantized_matrix& q) {
    const quantized_layout& layout = q.layout();
    const auto shape_of = [](index_t count) { return std::vector<index_t>{count}; };
    describe(prefix, q);
    add(prefix + ".codes", dtype::u8, {q.rows(), layout.row_bytes()}, q.codes().data(), layout.code_bytes());
    add(prefix + ".levels", dtype::f32, shape_of(static_cast<index_t>(q.levels().size())), q.levels().data(),
        static_cast<index_t>(4 * q.levels().size()));
    const stored_scales& scales = q.scales();
    const auto code_bytes = static_cast<index_t>(scales.codes.size());
    const auto super_bytes = static_cast<index_t>(scales.supers.size());
    if (layout.scales.is_double()) {
      add(prefix + ".scales", dtype::u8, shape_of(code_bytes), scales.codes.data(), code_bytes);
      const index_t width = scale_type_bytes(layout.scales.type);
      add(prefix + ".supers", dtype_of(layout.scales.type), shape_of(super_bytes / width),
          scales.supers.data(), super_bytes);
    } else {
      add(prefix + ".scales", dtype_of(layout.scales.type), shape_of(scales.count), scales.codes.data(),
          code_bytes);
    }
    if (layout.zeros == zero_point::none) return;
    const bool is_real = layout.zeros == zero_point::real;
    add(prefix + ".zeros", is_real ? dtype::f32 : dtype::u8,
        shape_of(is_real ? layout.num_scales() : layout.zero_bytes()), q.zeros().data(), layout.zero_bytes());
  }

  void add_factor(const std::string& name, const matrix<float>& factor, factor_storage storage) {
    if (storage == factor_storage::fp32) {
      add(name, dtype::f32, {factor.rows(), factor.cols()}, factor.data(), 4 * factor.size());
      return;
    }
    std::vector<float16> halves(static_cast<std::size_t>(factor.size()));
    for (index_t i = 0; i < factor.size(); ++i) {
      const float value = factor.data()[i];
      const float16 half = to_float16(value);
      require(to_float(half) == value, status_code::invalid_argument, "factor ", name, " has the entry ",
              value, ", which its storage fp16 cannot hold; round_factor makes it fit");
      halves[static_cast<std::size_t>(i)] = half;
    }
    halves_.push_back(std::move(halves));
    add(name, dtype::f16, {factor.rows(), factor.cols()}, halves_.back().data(), 2 * factor.size());
  }

  /// Codes of a factor, which are kept; `name` is the prefix.
  void add_factor_codes(const std::string& name, quantized_matrix codes) {
    codes_.push_back(std::move(codes));
    add_quantized(name, codes_.back());
  }

  void add_input_scales(const std::string& name, const std::vector<float>& scales) {
    if (scales.empty()) return;
    const auto count = static_cast<index_t>(scales.size());
    add(name, dtype::f32, {count}, scales.data(), 4 * count);
  }

  void set(const std::string& key, std::string value) { metadata_[key] = std::move(value); }

  void write(const std::string& path) const { write_safetensors(path, tensors_, metadata_); }

  [[nodiscard]] const std::vector<tensor_entry>& tensors() const { return tensors_; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

private:
  void describe(const std::string& prefix, const quantized_matrix& q) {
    const quantized_layout& layout = q.layout();
    const scale_format& scales = layout.scales;
    const std::optional<scale_format> read_back = try_parse_scale_format(to_string(scales));
    const bool is_same =
        read_back && (scales.is_double() ? *read_back == scales : read_back->type == scales.type);
    require(is_same, status_code::unsupported, "scales of ", prefix, " are stored as ", to_string(scales),
            " with ", scales.bits, " bits in blocks of ", scales.block,
            ", which the file format has no name for");
    set(prefix + ".format", q.format_name());
    set(prefix + ".rows", std::to_string(layout.rows));
    set(prefix + ".cols", std::to_string(layout.cols));
    set(prefix + ".group_size", std::to_string(layout.group_size));
    set(prefix + ".bits", std::to_string(layout.bits));
    set(prefix + ".order", std::string(name_of(order_names, layout.order)));
    set(prefix + ".zeros", std::string(name_of(zero_names, layout.zeros)));
    set(prefix + ".scales", to_string(layout.scales));
    set(prefix + ".scale_base", float_text(q.scales().base));
  }

  void add(std::string name, dtype type, std::vector<index_t> shape, const void* data, index_t bytes) {
    const std::span<const std::byte> span(static_cast<const std::byte*>(data),
                                          static_cast<std::size_t>(bytes));
    tensors_.push_back({std::move(name), type, std::move(shape), span});
  }

  std::vector<tensor_entry> tensors_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::vector<float16>> halves_;
  std::list<quantized_matrix> codes_; // their addresses stay
};

/// @throws qlr::error malformed_file: the tensor is missing or of another type
inline void check_type(const safetensors_file& file, const std::string& name, dtype type) {
  const tensor_info& tensor = file.find(existing(file, name));
  require(tensor.type == type, status_code::malformed_file, "tensor ", name, " has the type ",
          quote(tensor.dtype_text), ", the metadata needs ", dtype_name(type));
}

/// The bytes of a tensor.
///
/// @throws qlr::error malformed_file: missing, of another type, or another number of bytes
inline const std::uint8_t* checked_bytes(const safetensors_file& file, const std::string& name, dtype type,
                                         index_t expected) {
  check_type(file, name, type);
  const std::span<const std::byte> span = file.bytes(name);
  require(static_cast<index_t>(span.size()) == expected, status_code::malformed_file, "tensor ", name,
          " has ", span.size(), " bytes, the metadata needs ", expected);
  return reinterpret_cast<const std::uint8_t*>(span.data());
}

/// The quantized matrix under `prefix`, its codes and scales in the memory of the file.
///
/// @param levels  receives the level table, which the view points to
/// @throws qlr::error malformed_file: a part is missing or contradicts the others, or a number is not finite
inline quantized_matrix_view open_quantized(const safetensors_file& file, const std::string& prefix,
                                            std::vector<float>& levels) {
  const quantized_layout layout = read_layout(file, prefix);
  const dtype scale_dtype = dtype_of(layout.scales.type);
  quantized_matrix_view view;
  view.layout = layout;
  view.codes = checked_bytes(file, prefix + ".codes", dtype::u8, layout.code_bytes());
  levels.resize(std::size_t{1} << static_cast<unsigned>(layout.bits));
  std::memcpy(levels.data(),
              checked_bytes(file, prefix + ".levels", dtype::f32, static_cast<index_t>(4 * levels.size())),
              4 * levels.size());
  for (const float level : levels) {
    require(is_finite(level), status_code::malformed_file, "tensor ", prefix, ".levels holds ", level,
            ", levels must be finite");
  }
  view.levels = levels.data();
  const index_t count = layout.num_scales();
  view.scales = {layout.scales, count,
                 checked_bytes(file, prefix + ".scales", layout.scales.is_double() ? dtype::u8 : scale_dtype,
                               scale_code_bytes(layout.scales, count)),
                 nullptr, metadata_reader(file).number(prefix + ".scale_base")};
  if (layout.scales.is_double()) {
    view.scales.supers =
        checked_bytes(file, prefix + ".supers", scale_dtype, scale_super_bytes(layout.scales, count));
    const index_t num_supers = scale_super_bytes(layout.scales, count) / scale_type_bytes(layout.scales.type);
    for (index_t i = 0; i < num_supers; ++i) { // NaN would stand for zero
      require(is_finite(qlr::detail::load_scale(layout.scales.type, view.scales.supers, i)),
              status_code::malformed_file, "tensor ", prefix, ".supers: entry ", i, " is not finite");
    }
  }
  if (layout.zeros != zero_point::none) {
    view.zeros =
        checked_bytes(file, prefix + ".zeros", layout.zeros == zero_point::real ? dtype::f32 : dtype::u8,
                      layout.zero_bytes());
  }
  for (index_t i = 0; i < count; ++i) {
    const block_scale block = view.block(i);
    require(is_finite(block.scale) && is_finite(block.zero), status_code::malformed_file, "scale ", i, " of ",
            prefix, " is not finite");
  }
  return view;
}

/// A copy of an open quantized matrix that does not need the file.
inline quantized_matrix own_quantized(std::string format_name, const quantized_matrix_view& view,
                                      const std::vector<float>& levels) {
  const quantized_layout& layout = view.layout;
  const auto copy = [](const std::uint8_t* bytes, index_t count) {
    return count == 0 ? std::vector<std::uint8_t>() : std::vector<std::uint8_t>(bytes, bytes + count);
  };
  stored_scales scales{layout.scales, view.scales.count,
                       copy(view.scales.codes, scale_code_bytes(layout.scales, layout.num_scales())),
                       copy(view.scales.supers, scale_super_bytes(layout.scales, layout.num_scales())),
                       view.scales.base};
  return {std::move(format_name),
          layout,
          levels,
          copy(view.codes, layout.code_bytes()),
          std::move(scales),
          copy(view.zeros, layout.zero_bytes())};
}

} // namespace qlr::io::detail
