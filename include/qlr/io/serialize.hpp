// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/result.hpp>
#include <qlr/io/decomposition_tensors.hpp>
#include <qlr/io/detail/quantized_tensors.hpp>
#include <qlr/io/mapped_decomposition.hpp>
#include <qlr/io/safetensors.hpp>

#include <string>
#include <utility>
#include <vector>

namespace qlr::io {

// A decomposition is one safetensors file. Metadata (all values are text):
//   qlr.format   "decomposition";   qlr.version  "1";   qlr.scale  s;   qlr.factors  fp32, fp16, int8 or int4
//   P.format     name of the quantizer, for people;   P.rows, P.cols, P.group_size, P.bits   integers
//   P.order      lsb_first, msb_first or split_half;  P.zeros  none, integer or real
//   P.scales     storage of the scales as parse_scale_format reads it;   P.scale_base   number
// for P = Q, and for P = L and R when the factors are quantized (L then stands for L transposed, (r,m)).
// Tensors:
//   P.codes   U8 [rows, row bytes]        see code_packing.hpp
//   P.levels  F32 [2^bits]                value of each code
//   P.scales  [number of scales] of the scale's type (e8m0 as U8), or U8 [bytes] when double quantized
//   P.supers  [number of blocks]          double quantized only, see scale_codec.hpp
//   P.zeros   U8 [bytes] or F32 [number of scales]; absent without zero points
//   L [m,r], R [r,n]  F32 or F16          unless quantized
//   input_scales  F32 [n]               absent for ones
// W ~= Q diag(1 / input_scales) + s L R. Whole numbers and names are exact; floats in the metadata are
// written with 9 digits, enough to return the same bits. In a file of several decompositions, and in a
// checkpoint, every name and key has the prefix of its weight before it; see checkpoint.hpp.

/// Writes a decomposition; the file appears complete or not at all.
///
/// @throws qlr::error shape_mismatch: L, R, Q and the input scales do not fit;  non_finite: NaN or infinity
/// in L, R or the scale
/// @throws qlr::error invalid_argument: Q is empty, or a factor has values that its storage cannot hold
/// @throws qlr::error unsupported: the format has no name for the storage of the scales
/// @throws qlr::error io_failure: the file cannot be written; nothing is left behind
inline void save(const std::string& path, const decomposition& parts) {
  detail::quantized_writer writer;
  detail::add_decomposition(writer, parts, "");
  writer.write(path);
}

/// An open decomposition whose codes and scales stay in the mapped file.
///
/// Every size, name and number is checked on opening. Move-only; views are valid while it lives.
class decomposition_file {
public:
  /// @throws qlr::error io_failure: the file cannot be opened
  /// @throws qlr::error malformed_file: not a decomposition, or one that contradicts itself
  /// @throws qlr::error unsupported: a newer version
  explicit decomposition_file(const std::string& path) : decomposition_file(safetensors_file(path)) {}

  /// @copydoc decomposition_file(const std::string&)
  explicit decomposition_file(safetensors_file file) : file_(std::move(file)), parts_(file_) {}

  [[nodiscard]] float scale() const { return parts_.scale(); }
  [[nodiscard]] const quantized_matrix_view& quantized() const { return parts_.quantized(); }
  [[nodiscard]] const matrix<float>& left() const { return parts_.left(); }
  [[nodiscard]] const matrix<float>& right() const { return parts_.right(); }
  [[nodiscard]] factor_storage factors() const { return parts_.factors(); }
  /// Empty = ones.
  [[nodiscard]] const std::vector<float>& input_scales() const { return parts_.input_scales(); }

  /// A copy that does not need the file.
  [[nodiscard]] decomposition to_memory() const { return parts_.to_memory(); }

private:
  safetensors_file file_;
  mapped_decomposition parts_; // refers to the memory of the file
};

/// Reads a decomposition into memory.
///
/// @throws qlr::error as decomposition_file
[[nodiscard]] inline decomposition load(const std::string& path) {
  return decomposition_file(path).to_memory();
}

} // namespace qlr::io
