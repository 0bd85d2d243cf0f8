// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/result.hpp>
#include <qlr/io/detail/factor_codes.hpp>
#include <qlr/io/detail/layout_text.hpp>
#include <qlr/io/safetensors.hpp>

#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
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

/// Collects tensors and metadata; owns what the tensors point to where no one else does.
class decomposition_writer {
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

  void add_input_scales(const std::vector<float>& scales) {
    if (scales.empty()) return;
    const auto count = static_cast<index_t>(scales.size());
    add("input_scales", dtype::f32, {count}, scales.data(), 4 * count);
  }

  void set(const std::string& key, std::string value) { metadata_[key] = std::move(value); }

  void write(const std::string& path) const { write_safetensors(path, tensors_, metadata_); }

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
};

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
  detail::decomposition_writer writer;
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
    quantized_ = open_quantized("Q", quantized_levels_);
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
    const quantized_layout& layout = quantized_.layout;
    const auto copy = [](const std::uint8_t* bytes, index_t count) {
      return count == 0 ? std::vector<std::uint8_t>() : std::vector<std::uint8_t>(bytes, bytes + count);
    };
    stored_scales scales{
        layout.scales, quantized_.scales.count,
        copy(quantized_.scales.codes, scale_code_bytes(layout.scales, layout.num_scales())),
        copy(quantized_.scales.supers, scale_super_bytes(layout.scales, layout.num_scales())),
        quantized_.scales.base};
    quantized_matrix q(detail::metadata_reader(file_).text("Q.format"), layout, quantized_levels_,
                       copy(quantized_.codes, layout.code_bytes()), std::move(scales),
                       copy(quantized_.zeros, layout.zero_bytes()));
    return {std::move(q), left_, right_, factors_, scale_, input_scales_};
  }

private:
  const std::uint8_t* bytes(const std::string& name, dtype type, index_t expected) const {
    check_type(name, type);
    const std::span<const std::byte> span = file_.bytes(name);
    require(static_cast<index_t>(span.size()) == expected, status_code::malformed_file, "tensor ", name,
            " has ", span.size(), " bytes, the metadata needs ", expected);
    return reinterpret_cast<const std::uint8_t*>(span.data());
  }

  void check_type(const std::string& name, dtype type) const {
    const tensor_info& tensor = file_.find(detail::existing(file_, name));
    require(tensor.type == type, status_code::malformed_file, "tensor ", name, " has the type ",
            detail::quote(tensor.dtype_text), ", the metadata needs ", dtype_name(type));
  }

  /// @param levels  receives the level table, which the view points to
  quantized_matrix_view open_quantized(const std::string& prefix, std::vector<float>& levels) const {
    const quantized_layout layout = detail::read_layout(file_, prefix);
    const dtype scale_dtype = detail::dtype_of(layout.scales.type);
    quantized_matrix_view view;
    view.layout = layout;
    view.codes = bytes(prefix + ".codes", dtype::u8, layout.code_bytes());
    levels.resize(std::size_t{1} << static_cast<unsigned>(layout.bits));
    std::memcpy(levels.data(), bytes(prefix + ".levels", dtype::f32, static_cast<index_t>(4 * levels.size())),
                4 * levels.size());
    for (const float level : levels) {
      require(is_finite(level), status_code::malformed_file, "tensor ", prefix, ".levels holds ", level,
              ", levels must be finite");
    }
    view.levels = levels.data();
    const index_t count = layout.num_scales();
    view.scales = {layout.scales, count,
                   bytes(prefix + ".scales", layout.scales.is_double() ? dtype::u8 : scale_dtype,
                         scale_code_bytes(layout.scales, count)),
                   nullptr, detail::metadata_reader(file_).number(prefix + ".scale_base")};
    if (layout.scales.is_double()) {
      view.scales.supers = bytes(prefix + ".supers", scale_dtype, scale_super_bytes(layout.scales, count));
      const index_t num_supers =
          scale_super_bytes(layout.scales, count) / scale_type_bytes(layout.scales.type);
      for (index_t i = 0; i < num_supers; ++i) { // NaN would stand for zero
        require(is_finite(qlr::detail::load_scale(layout.scales.type, view.scales.supers, i)),
                status_code::malformed_file, "tensor ", prefix, ".supers: entry ", i, " is not finite");
      }
    }
    if (layout.zeros != zero_point::none) {
      view.zeros = bytes(prefix + ".zeros", layout.zeros == zero_point::real ? dtype::f32 : dtype::u8,
                         layout.zero_bytes());
    }
    for (index_t i = 0; i < count; ++i) {
      const block_scale block = view.block(i);
      require(is_finite(block.scale) && is_finite(block.zero), status_code::malformed_file, "scale ", i,
              " of ", prefix, " is not finite");
    }
    return view;
  }

  void read_input_scales() {
    if (!file_.contains("input_scales")) return;
    const std::uint8_t* stored = bytes("input_scales", dtype::f32, 4 * quantized_.cols());
    input_scales_.resize(static_cast<std::size_t>(quantized_.cols()));
    std::memcpy(input_scales_.data(), stored, 4 * input_scales_.size());
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
    check_type(name, factors_ == factor_storage::fp32 ? dtype::f32 : dtype::f16);
    const std::vector<index_t>& shape = file_.find(name).shape;
    require(shape.size() == 2, status_code::malformed_file, "tensor ", name, " has ", shape.size(),
            " dimensions, a factor has 2");
    return {shape[0], shape[1]};
  }

  matrix<float> decode_factor(const std::string& prefix) const {
    std::vector<float> levels;
    const quantized_matrix_view view = open_quantized(prefix, levels);
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
