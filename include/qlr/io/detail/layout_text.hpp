// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/factor_storage.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <array>
#include <charconv>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace qlr::io::detail {

template <class Enum, std::size_t Count>
using name_table = std::array<std::pair<std::string_view, Enum>, Count>;

inline constexpr name_table<code_order, 3> order_names{{{"lsb_first", code_order::lsb_first},
                                                        {"msb_first", code_order::msb_first},
                                                        {"split_half", code_order::split_half}}};
inline constexpr name_table<zero_point, 3> zero_names{
    {{"none", zero_point::none}, {"integer", zero_point::integer}, {"real", zero_point::real}}};
inline constexpr name_table<factor_storage, 4> factor_names{{{"fp32", factor_storage::fp32},
                                                             {"fp16", factor_storage::fp16},
                                                             {"int8", factor_storage::int8},
                                                             {"int4", factor_storage::int4}}};

template <class Enum, std::size_t Count>
std::string_view name_of(const name_table<Enum, Count>& table, Enum value) {
  for (const auto& [name, entry] : table) {
    if (entry == value) return name;
  }
  return "";
}

/// What the C library writes and reads in place of the point of a number; a program may have set a locale.
inline std::string decimal_point() {
  return std::localeconv()->decimal_point;
}

/// Enough digits to read the same float back, with a point in every locale.
inline std::string float_text(float value) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%.9g", static_cast<double>(value));
  std::string text = buffer;
  const std::string point = decimal_point();
  const std::size_t at = text.find(point);
  if (at != std::string::npos) text.replace(at, point.size(), 1, '.');
  return text;
}

/// Reads a finite decimal number, with a point in every locale.
inline std::optional<float> parse_float(std::string text) {
  if (text.empty() || text.size() > 40 || text.find_first_not_of("0123456789+-.eE") != std::string::npos)
    return std::nullopt;
  const std::size_t at = text.find('.');
  if (at != std::string::npos) text.replace(at, 1, decimal_point());
  char* end = nullptr;
  const float value = std::strtof(text.c_str(), &end);
  if (end != text.c_str() + text.size() || !is_finite(value)) return std::nullopt;
  return value;
}

inline dtype dtype_of(scale_type type) {
  switch (type) {
  case scale_type::fp32:
    return dtype::f32;
  case scale_type::fp16:
    return dtype::f16;
  case scale_type::bf16:
    return dtype::bf16;
  case scale_type::e8m0:
    return dtype::u8;
  case scale_type::e4m3:
    return dtype::f8_e4m3;
  }
  return dtype::u8;
}

/// The name itself, once it is known that the file has such a tensor.
///
/// @throws qlr::error malformed_file: it has not
inline const std::string& existing(const safetensors_file& file, const std::string& name) {
  require(file.contains(name), status_code::malformed_file, "the file needs the tensor ", name,
          ", which is missing");
  return name;
}

/// Metadata of a file as checked values.
class metadata_reader {
public:
  explicit metadata_reader(const safetensors_file& file) : file_(file) {}

  /// @throws qlr::error malformed_file: the key is missing
  [[nodiscard]] const std::string& text(const std::string& key) const {
    const auto found = file_.metadata().find(key);
    require(found != file_.metadata().end(), status_code::malformed_file,
            "the file needs the metadata entry ", key, ", which is missing");
    return found->second;
  }

  /// @throws qlr::error malformed_file: missing, not an integer, or outside lowest ... highest
  [[nodiscard]] index_t integer(const std::string& key, index_t lowest, index_t highest) const {
    const std::string& digits = text(key);
    index_t value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    const bool is_integer = code == std::errc() && end == digits.data() + digits.size();
    require(is_integer && value >= lowest && value <= highest, status_code::malformed_file, key, " is ",
            quote(digits), ", allowed are ", lowest, " to ", highest);
    return value;
  }

  /// @throws qlr::error malformed_file: missing, or not a finite number
  [[nodiscard]] float number(const std::string& key) const {
    const std::string& digits = text(key);
    const std::optional<float> value = parse_float(digits);
    require(value.has_value(), status_code::malformed_file, key, " is ", quote(digits),
            ", it must be a finite number");
    return *value;
  }

  /// @throws qlr::error malformed_file: missing, or not a name of the table
  template <class Enum, std::size_t Count>
  [[nodiscard]] Enum choice(const std::string& key, const name_table<Enum, Count>& table) const {
    const std::string& chosen = text(key);
    std::string names;
    for (const auto& [name, value] : table) {
      if (name == chosen) return value;
      names += sentence(names.empty() ? "" : ", ", name);
    }
    fail(status_code::malformed_file, key, " is ", quote(chosen), ", allowed are ", names);
  }

  /// @throws qlr::error malformed_file: missing, or not a possible storage of scales
  [[nodiscard]] scale_format scales(const std::string& key) const {
    const std::string& chosen = text(key);
    const std::optional<scale_format> format = try_parse_scale_format(chosen);
    // As validate() of scale_format.hpp, which would blame the caller.
    const bool is_possible =
        format && (!format->is_double() ||
                   (format->bits >= 2 && format->bits <= 8 && format->block >= 1 && is_wide(format->type)));
    require(
        is_possible, status_code::malformed_file, key, " is ", quote(chosen),
        ", allowed are fp32, fp16, bf16, e8m0, e4m3, the same with -tensor, dq:bits,type,block (bits 2 to 8, "
        "type fp32, fp16 or bf16) and dq-bnb");
    return *format;
  }

private:
  static bool is_wide(scale_type type) { return scale_type_bytes(type) > 1; }

  const safetensors_file& file_;
};

/// The layout that the metadata under `prefix` describes.
///
/// @throws qlr::error malformed_file: an entry is missing or impossible, or the codes have another shape
inline quantized_layout read_layout(const safetensors_file& file, const std::string& prefix) {
  constexpr index_t unlimited = std::numeric_limits<index_t>::max();
  const metadata_reader metadata(file);
  (void)metadata.text(prefix + ".format");
  quantized_layout layout;
  layout.rows = metadata.integer(prefix + ".rows", 0, unlimited);
  layout.cols = metadata.integer(prefix + ".cols", 0, unlimited);
  layout.group_size = metadata.integer(prefix + ".group_size", group_per_tensor, unlimited);
  layout.bits = static_cast<int>(metadata.integer(prefix + ".bits", 1, 8));
  layout.order = metadata.choice(prefix + ".order", order_names);
  layout.zeros = metadata.choice(prefix + ".zeros", zero_names);
  layout.scales = metadata.scales(prefix + ".scales");
  require(layout.order != code_order::split_half || layout.bits == 4, status_code::malformed_file, prefix,
          ".order is split_half with ", layout.bits, " bits, it is for 4");
  // The shape of the codes ties rows and cols to the size of the file, so no later product overflows.
  const std::vector<index_t>& shape = file.find(existing(file, prefix + ".codes")).shape;
  require(shape.size() == 2 && shape[0] == layout.rows && shape[1] == layout.row_bytes(),
          status_code::malformed_file, "tensor ", prefix, ".codes does not have the shape ", layout.rows,
          " x ", layout.row_bytes());
  return layout;
}

} // namespace qlr::io::detail
