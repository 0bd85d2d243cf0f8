// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/result.hpp>
#include <qlr/io/detail/factor_codes.hpp>
#include <qlr/io/detail/layout_text.hpp>
#include <qlr/io/detail/quantized_tensors.hpp>
#include <qlr/io/safetensors.hpp>

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
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
// written with 9 digits, enough to return the same bits.

/// Version of the file layout that save() writes and load() understands.
inline constexpr int decomposition_version = 1;

namespace detail {

inline void check_input_scale(float scale, status_code code) {
  const bool is_usable = is_finite(scale) && scale >= smallest_normal_float && is_finite(1.0F / scale);
  require(is_usable, code, "input_scales holds ", scale, ", each must be finite and positive");
}

/// Refuses what load() would refuse, and what the storage of the factors cannot hold.
inline void check_parts(const decomposition& parts) {
  const index_t rows = parts.rows();
  const index_t cols = parts.cols();
  require(rows > 0 && cols > 0, status_code::invalid_argument, "Q is ", rows, " x ", cols,
          ", it must not be empty");
  require(is_finite(parts.scale), status_code::non_finite, "scale is ", parts.scale, ", it must be finite");
  const bool fits =
      parts.left.rows() == rows && parts.right.cols() == cols && parts.left.cols() == parts.right.rows();
  require(fits, status_code::shape_mismatch, "L is ", parts.left.rows(), " x ", parts.left.cols(),
          " and R is ", parts.right.rows(), " x ", parts.right.cols(), ", Q is ", rows, " x ", cols);
  require_finite(parts.left.view(), "L");
  require_finite(parts.right.view(), "R");
  require(parts.input_scales.empty() || static_cast<index_t>(parts.input_scales.size()) == cols,
          status_code::shape_mismatch, "input_scales has ", parts.input_scales.size(), " entries, Q is ",
          rows, " x ", cols);
  for (const float scale : parts.input_scales) check_input_scale(scale, status_code::invalid_argument);
}

} // namespace detail

/// Writes a decomposition; the file appears complete or not at all.
///
/// @throws qlr::error shape_mismatch: L, R, Q and the input scales do not fit;  non_finite: NaN or infinity
/// in L, R or the scale
/// @throws qlr::error invalid_argument: Q is empty, or a factor has values that its storage cannot hold
/// @throws qlr::error unsupported: the format has no name for the storage of the scales
/// @throws qlr::error io_failure: the file cannot be written; nothing is left behind
inline void save(const std::string& path, const decomposition& parts) {
  detail::check_parts(parts);
  detail::quantized_writer writer;
  writer.set("qlr.format", "decomposition");
  writer.set("qlr.version", std::to_string(decomposition_version));
  writer.set("qlr.scale", detail::float_text(parts.scale));
  writer.set("qlr.factors", std::string(to_string(parts.factors)));
  writer.add_quantized("Q", parts.quantized);
  writer.add_input_scales(parts.input_scales);
  if (is_quantized(parts.factors)) {
    const matrix<float> left = to_row_major(parts.left.view().transposed());
    const quantized_matrix left_codes = detail::encode_factor(left.view(), parts.factors, "L");
    const quantized_matrix right_codes = detail::encode_factor(parts.right.view(), parts.factors, "R");
    writer.add_quantized("L", left_codes);
    writer.add_quantized("R", right_codes);
    return writer.write(path);
  }
  writer.add_factor("L", parts.left, parts.factors);
  writer.add_factor("R", parts.right, parts.factors);
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
  explicit decomposition_file(safetensors_file file) : file_(std::move(file)) {
    const detail::metadata_reader metadata(file_);
    const std::string& format = metadata.text("qlr.format");
    require(format == "decomposition", status_code::malformed_file, "qlr.format is '", format,
            "', expected 'decomposition'");
    const index_t version = metadata.integer("qlr.version", 1, 1000000);
    require(version == decomposition_version, status_code::unsupported, "qlr.version is ", version,
            ", this library reads version ", decomposition_version);
    scale_ = metadata.number("qlr.scale");
    factors_ = metadata.choice("qlr.factors", detail::factor_names);
    quantized_ = detail::open_quantized(file_, "Q", quantized_levels_);
    // An empty matrix may claim 2^62 rows.
    require(quantized_.rows() > 0 && quantized_.cols() > 0, status_code::malformed_file, "Q is ",
            quantized_.rows(), " x ", quantized_.cols(), ", it must not be empty");
    read_factors();
    read_input_scales();
    check_finite(left_, "L");
    check_finite(right_, "R");
  }

  [[nodiscard]] float scale() const { return scale_; }
  [[nodiscard]] const quantized_matrix_view& quantized() const { return quantized_; }
  [[nodiscard]] const matrix<float>& left() const { return left_; }
  [[nodiscard]] const matrix<float>& right() const { return right_; }
  [[nodiscard]] factor_storage factors() const { return factors_; }
  /// Empty = ones.
  [[nodiscard]] const std::vector<float>& input_scales() const { return input_scales_; }

  /// A copy that does not need the file.
  [[nodiscard]] decomposition to_memory() const {
    return {detail::own_quantized(file_, "Q", quantized_, quantized_levels_),
            left_,
            right_,
            factors_,
            scale_,
            input_scales_};
  }

private:
  void read_input_scales() {
    if (!file_.contains("input_scales")) return;
    input_scales_.resize(static_cast<std::size_t>(quantized_.cols()));
    std::memcpy(input_scales_.data(),
                detail::checked_bytes(file_, "input_scales", dtype::f32, 4 * quantized_.cols()),
                4 * input_scales_.size());
    for (const float scale : input_scales_) detail::check_input_scale(scale, status_code::malformed_file);
  }

  void read_factors() {
    const index_t rows = quantized_.rows();
    const index_t cols = quantized_.cols();
    const auto [left_rows, left_cols] = factor_shape("L");
    const auto [right_rows, right_cols] = factor_shape("R");
    const bool fits = left_rows == rows && right_cols == cols && left_cols == right_rows;
    require(fits, status_code::malformed_file, "L is ", left_rows, " x ", left_cols, " and R is ", right_rows,
            " x ", right_cols, ", Q is ", rows, " x ", cols);
    if (is_quantized(factors_)) {
      const matrix<float> vectors = decode_factor("L"); // (r,m)
      left_ = to_row_major(vectors.view().transposed());
      right_ = decode_factor("R");
    } else {
      left_ = file_.read_matrix("L");
      right_ = file_.read_matrix("R");
    }
  }

  /// (rows, cols) of L or R, before memory is taken for it.
  std::pair<index_t, index_t> factor_shape(const std::string& name) const {
    if (is_quantized(factors_)) {
      const quantized_layout layout = detail::read_layout(file_, name);
      return name == "L" ? std::pair{layout.cols, layout.rows} : std::pair{layout.rows, layout.cols};
    }
    detail::check_type(file_, name, factors_ == factor_storage::fp32 ? dtype::f32 : dtype::f16);
    const std::vector<index_t>& shape = file_.find(name).shape;
    require(shape.size() == 2, status_code::malformed_file, "tensor ", name, " has ", shape.size(),
            " dimensions, a factor has 2");
    return {shape[0], shape[1]};
  }

  matrix<float> decode_factor(const std::string& prefix) const {
    std::vector<float> levels;
    const quantized_matrix_view view = detail::open_quantized(file_, prefix, levels);
    const int bits = factors_ == factor_storage::int8 ? 8 : 4; // so that it grows at most eightfold
    require(view.layout.bits == bits, status_code::malformed_file, prefix, ".bits is ", view.layout.bits,
            ", qlr.factors is ", to_string(factors_));
    matrix<float> vectors(view.rows(), view.cols());
    dequantize(view, vectors.view());
    return vectors;
  }

  static void check_finite(const matrix<float>& factor, std::string_view name) {
    for (index_t i = 0; i < factor.size(); ++i) {
      require(is_finite(factor.data()[i]), status_code::malformed_file, "element ", i, " of ", name,
              " is not finite");
    }
  }

  safetensors_file file_;
  std::vector<float> quantized_levels_;
  quantized_matrix_view quantized_;
  matrix<float> left_;
  matrix<float> right_;
  std::vector<float> input_scales_;
  factor_storage factors_ = factor_storage::fp16;
  float scale_ = 1.0F;
};

/// Reads a decomposition into memory.
///
/// @throws qlr::error as decomposition_file
[[nodiscard]] inline decomposition load(const std::string& path) {
  return decomposition_file(path).to_memory();
}

} // namespace qlr::io
