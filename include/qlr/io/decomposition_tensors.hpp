// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/io/detail/factor_codes.hpp>
#include <qlr/io/detail/layout_text.hpp>
#include <qlr/io/detail/quantized_tensors.hpp>
#include <qlr/io/detail/tensor_info.hpp>

#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

/// Version of the layout of a decomposition, which serialize.hpp documents.
inline constexpr int decomposition_version = 1;

/// What a decomposition is in a file, to be written with what else that file holds.
struct decomposition_tensors {
  std::vector<owned_tensor> tensors;
  std::map<std::string, std::string> metadata;
};

namespace detail {

/// All names that tensors of a decomposition can have, without a prefix.
inline constexpr std::array<std::string_view, 18> decomposition_names{
    "Q.codes", "Q.levels", "Q.scales", "Q.supers", "Q.zeros", "L",
    "L.codes", "L.levels", "L.scales", "L.supers", "L.zeros", "R",
    "R.codes", "R.levels", "R.scales", "R.supers", "R.zeros", "input_scales"};

inline void check_input_scale(float scale, const std::string& name, status_code code) {
  const bool is_usable = is_finite(scale) && scale >= smallest_normal_float && is_finite(1.0F / scale);
  require(is_usable, code, name, " holds ", scale, ", each must be finite and positive");
}

/// Refuses what a reader would refuse, and what the storage of the factors cannot hold.
inline void check_parts(const decomposition& parts, const std::string& prefix) {
  const index_t rows = parts.rows();
  const index_t cols = parts.cols();
  require(rows > 0 && cols > 0, status_code::invalid_argument, prefix, "Q is ", rows, " x ", cols,
          ", it must not be empty");
  require(is_finite(parts.scale), status_code::non_finite, prefix, "scale is ", parts.scale,
          ", it must be finite");
  const bool fits =
      parts.left.rows() == rows && parts.right.cols() == cols && parts.left.cols() == parts.right.rows();
  require(fits, status_code::shape_mismatch, prefix, "L is ", parts.left.rows(), " x ", parts.left.cols(),
          " and R is ", parts.right.rows(), " x ", parts.right.cols(), ", Q is ", rows, " x ", cols);
  require_finite(parts.left.view(), prefix + "L");
  require_finite(parts.right.view(), prefix + "R");
  require(parts.input_scales.empty() || static_cast<index_t>(parts.input_scales.size()) == cols,
          status_code::shape_mismatch, prefix, "input_scales has ", parts.input_scales.size(),
          " entries, Q is ", rows, " x ", cols);
  for (const float scale : parts.input_scales)
    check_input_scale(scale, prefix + "input_scales", status_code::invalid_argument);
}

/// Adds a decomposition, which must outlive the writer, with a prefix before every name and key.
inline void add_decomposition(quantized_writer& writer, const decomposition& parts,
                              const std::string& prefix) {
  check_parts(parts, prefix);
  writer.set(prefix + "qlr.format", "decomposition");
  writer.set(prefix + "qlr.version", std::to_string(decomposition_version));
  writer.set(prefix + "qlr.scale", float_text(parts.scale));
  writer.set(prefix + "qlr.factors", std::string(to_string(parts.factors)));
  writer.add_quantized(prefix + "Q", parts.quantized);
  writer.add_input_scales(prefix + "input_scales", parts.input_scales);
  if (is_quantized(parts.factors)) {
    const matrix<float> left = to_row_major(parts.left.view().transposed());
    writer.add_factor_codes(prefix + "L", encode_factor(left.view(), parts.factors, prefix + "L"));
    writer.add_factor_codes(prefix + "R", encode_factor(parts.right.view(), parts.factors, prefix + "R"));
    return;
  }
  writer.add_factor(prefix + "L", parts.left, parts.factors);
  writer.add_factor(prefix + "R", parts.right, parts.factors);
}

} // namespace detail

/// The tensors and metadata of a decomposition, as a file of several holds them; no reference to it is kept.
///
/// @param prefix  before every name and key: that of the weight and a dot, such as "lm_head.weight."
/// @throws qlr::error as save()
/// @memory the decomposition as stored
[[nodiscard]] inline decomposition_tensors tensors_of(const decomposition& parts,
                                                      const std::string& prefix = {}) {
  detail::quantized_writer writer;
  detail::add_decomposition(writer, parts, prefix);
  decomposition_tensors result{{}, writer.metadata()};
  result.tensors.reserve(writer.tensors().size());
  for (const tensor_entry& entry : writer.tensors()) {
    result.tensors.push_back({entry.name, entry.type, entry.shape,
                              std::vector<std::byte>(entry.bytes.begin(), entry.bytes.end())});
  }
  return result;
}

} // namespace qlr::io
