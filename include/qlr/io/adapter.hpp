// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/adapter.hpp>
#include <qlr/io/detail/quantized_tensors.hpp>
#include <qlr/io/safetensors.hpp>

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

// Quantized adapters are one safetensors file. Metadata (all values are text):
//   qlr.format  "adapter";   qlr.version  "1";   qlr.pairs  number of pairs
// and for pair i = 0, 1, ...
//   i.module   name in the base model;   i.left, i.right  names of the tensors it was made from
//   i.scale    s
// The quantized matrices i.L.high, i.L.low, i.R.high, i.R.low have the metadata and tensors that
// serialize.hpp documents for a prefix P. L's are (h,m) and (r-h,m), its columns as rows; R's are (h,n) and
// (r-h,n); h >= 1, r - h may be 0. The change of the weight is s L R.

/// Version of the file layout that save_adapters() writes and load_adapters() understands.
inline constexpr int adapter_version = 1;

/// A quantized adapter of one module.
struct named_adapter {
  std::string module;     ///< name in the base model
  std::string left_name;  ///< of the tensor that L was made from
  std::string right_name; ///< of the tensor that R was made from
  quantized_adapter adapter;
};

namespace detail {

inline constexpr std::array<std::string_view, 4> adapter_parts{".L.high", ".L.low", ".R.high", ".R.low"};

/// (r,m,n) as four parts must have it; `code` is what a contradiction is reported as.
inline void check_adapter(const quantized_matrix_view& left_high, const quantized_matrix_view& left_low,
                          const quantized_matrix_view& right_high, const quantized_matrix_view& right_low,
                          status_code code, index_t pair) {
  const bool fits = left_high.rows() > 0 && left_high.cols() > 0 && right_high.cols() > 0 &&
                    left_high.rows() == right_high.rows() && left_low.rows() == right_low.rows() &&
                    left_high.cols() == left_low.cols() && right_high.cols() == right_low.cols();
  require(fits, code, "pair ", pair, ": L is ", left_high.rows(), " x ", left_high.cols(), " and ",
          left_low.rows(), " x ", left_low.cols(), ", R is ", right_high.rows(), " x ", right_high.cols(),
          " and ", right_low.rows(), " x ", right_low.cols(), ", vectors in rows; they do not fit");
}

} // namespace detail

/// Writes quantized adapters; the file appears complete or not at all.
///
/// @throws qlr::error shape_mismatch: parts of a pair do not fit;  non_finite: a scale s
/// @throws qlr::error invalid_argument: a name is not UTF-8
/// @throws qlr::error io_failure: the file cannot be written; nothing is left behind
inline void save_adapters(const std::string& path, std::span<const named_adapter> adapters) {
  detail::quantized_writer writer;
  writer.set("qlr.format", "adapter");
  writer.set("qlr.version", std::to_string(adapter_version));
  writer.set("qlr.pairs", std::to_string(adapters.size()));
  for (std::size_t i = 0; i < adapters.size(); ++i) {
    const quantized_adapter& adapter = adapters[i].adapter;
    const std::string prefix = std::to_string(i);
    const std::array<const quantized_matrix*, 4> parts{&adapter.left.high, &adapter.left.low,
                                                       &adapter.right.high, &adapter.right.low};
    detail::check_adapter(parts[0]->view(), parts[1]->view(), parts[2]->view(), parts[3]->view(),
                          status_code::shape_mismatch, static_cast<index_t>(i));
    require(is_finite(adapter.scale), status_code::non_finite, "pair ", i, ": scale is ", adapter.scale,
            ", it must be finite");
    writer.set(prefix + ".module", adapters[i].module);
    writer.set(prefix + ".left", adapters[i].left_name);
    writer.set(prefix + ".right", adapters[i].right_name);
    writer.set(prefix + ".scale", detail::float_text(adapter.scale));
    for (std::size_t part = 0; part < parts.size(); ++part) {
      writer.add_quantized(prefix + std::string(detail::adapter_parts[part]), *parts[part]);
    }
  }
  writer.write(path);
}

/// Reads quantized adapters from an open file.
///
/// @throws qlr::error malformed_file: not such a file, or one that contradicts itself
/// @throws qlr::error unsupported: a newer version
[[nodiscard]] inline std::vector<named_adapter> load_adapters(const safetensors_file& file) {
  const detail::metadata_reader metadata(file);
  const std::string& format = metadata.text("qlr.format");
  require(format == "adapter", status_code::malformed_file, "qlr.format is ", detail::quote(format),
          ", expected 'adapter'");
  const index_t version = metadata.integer("qlr.version", 1, 1000000);
  require(version == adapter_version, status_code::unsupported, "qlr.version is ", version,
          ", this library reads version ", adapter_version);
  const index_t count = metadata.integer("qlr.pairs", 0, static_cast<index_t>(file.tensors().size()));
  std::vector<named_adapter> adapters;
  for (index_t i = 0; i < count; ++i) {
    const std::string prefix = std::to_string(i);
    named_adapter named{metadata.text(prefix + ".module"),
                        metadata.text(prefix + ".left"),
                        metadata.text(prefix + ".right"),
                        {}};
    named.adapter.scale = metadata.number(prefix + ".scale");
    std::array<std::vector<float>, 4> levels;
    std::array<quantized_matrix_view, 4> views;
    for (std::size_t part = 0; part < views.size(); ++part) {
      views[part] =
          detail::open_quantized(file, prefix + std::string(detail::adapter_parts[part]), levels[part]);
    }
    detail::check_adapter(views[0], views[1], views[2], views[3], status_code::malformed_file, i);
    const auto own = [&](std::size_t part) {
      return detail::own_quantized(
          metadata.text(prefix + std::string(detail::adapter_parts[part]) + ".format"), views[part],
          levels[part]);
    };
    named.adapter.left = {own(0), own(1)};
    named.adapter.right = {own(2), own(3)};
    adapters.push_back(std::move(named));
  }
  return adapters;
}

/// @copydoc load_adapters
///
/// @throws qlr::error io_failure: the file cannot be opened
[[nodiscard]] inline std::vector<named_adapter> load_adapters(const std::string& path) {
  return load_adapters(safetensors_file(path));
}

} // namespace qlr::io
