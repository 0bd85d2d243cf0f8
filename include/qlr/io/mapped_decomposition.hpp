// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/decompose/factor_storage.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/io/decomposition_tensors.hpp>
#include <qlr/io/detail/layout_text.hpp>
#include <qlr/io/detail/quantized_tensors.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/quant/dequantize.hpp>

#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace qlr::io {

/// What a decomposition in a file is, without its numbers.
struct decomposition_description {
  std::string format_name;    ///< of the quantizer, for people
  quantized_layout quantized; ///< of Q (m,n)
  index_t rank = 0;
  factor_storage factors = factor_storage::fp16;
  float scale = 1.0F;
  bool has_input_scales = false;

  /// Bytes of codes, scales, factors and input scales as stored.
  [[nodiscard]] index_t storage_bytes() const {
    return quantized.storage_bytes() + factor_bytes(rank, quantized.rows, factors) +
           factor_bytes(rank, quantized.cols, factors) + (has_input_scales ? 4 * quantized.cols : 0);
  }
};

namespace detail {

/// (rank, length) of L transposed or R.
[[nodiscard]] inline std::pair<index_t, index_t> vectors_shape(const safetensors_file& file,
                                                               const std::string& prefix, char factor,
                                                               factor_storage storage) {
  const std::string name = prefix + factor;
  if (is_quantized(storage)) {
    const quantized_layout layout = read_layout(file, name);
    return {layout.rows, layout.cols};
  }
  check_type(file, name, storage == factor_storage::fp32 ? dtype::f32 : dtype::f16);
  const std::vector<index_t>& shape = file.find(name).shape;
  require(shape.size() == 2, status_code::malformed_file, "tensor ", name, " has ", shape.size(),
          " dimensions, a factor has 2");
  return factor == 'L' ? std::pair{shape[1], shape[0]} : std::pair{shape[0], shape[1]};
}

inline void check_version(const metadata_reader& metadata, const std::string& prefix) {
  const std::string& format = metadata.text(prefix + "qlr.format");
  require(format == "decomposition", status_code::malformed_file, prefix, "qlr.format is ", quote(format),
          ", expected 'decomposition'");
  const index_t version = metadata.integer(prefix + "qlr.version", 1, 1000000);
  require(version == decomposition_version, status_code::unsupported, prefix, "qlr.version is ", version,
          ", this library reads version ", decomposition_version);
}

} // namespace detail

/// Describes a decomposition in an open file; the shapes of Q, L and R fit each other.
///
/// @param prefix  before every name and key in the file, as for tensors_of
/// @throws qlr::error malformed_file: no such decomposition, or shapes that contradict each other
/// @throws qlr::error unsupported: a newer version
[[nodiscard]] inline decomposition_description describe_decomposition(const safetensors_file& file,
                                                                      const std::string& prefix = {}) {
  const detail::metadata_reader metadata(file);
  detail::check_version(metadata, prefix);
  decomposition_description result;
  result.scale = metadata.number(prefix + "qlr.scale");
  result.factors = metadata.choice(prefix + "qlr.factors", detail::factor_names);
  result.quantized = detail::read_layout(file, prefix + "Q");
  result.format_name = metadata.text(prefix + "Q.format");
  result.has_input_scales = file.contains(prefix + "input_scales");
  const auto [rows, cols] = std::pair{result.quantized.rows, result.quantized.cols};
  // An empty matrix may claim 2^62 rows.
  require(rows > 0 && cols > 0, status_code::malformed_file, prefix, "Q is ", rows, " x ", cols,
          ", it must not be empty");
  const auto [rank, left_rows] = detail::vectors_shape(file, prefix, 'L', result.factors);
  const auto [right_rank, right_cols] = detail::vectors_shape(file, prefix, 'R', result.factors);
  require(left_rows == rows && right_cols == cols && rank == right_rank, status_code::malformed_file, prefix,
          "L is ", left_rows, " x ", rank, " and R is ", right_rank, " x ", right_cols, ", Q is ", rows,
          " x ", cols);
  result.rank = rank;
  return result;
}

/// A decomposition whose codes and scales stay in an open file, which must outlive it.
///
/// Every size, name and number is checked on opening. Move-only; moving keeps views valid, and so does moving
/// the file.
class mapped_decomposition {
public:
  /// @param prefix  before every name and key in the file, as for tensors_of
  /// @throws qlr::error malformed_file: no such decomposition, or one that contradicts itself
  /// @throws qlr::error unsupported: a newer version
  explicit mapped_decomposition(const safetensors_file& file, const std::string& prefix = {})
      : about_(describe_decomposition(file, prefix)),
        quantized_(detail::open_quantized(file, prefix + "Q", levels_)) {
    if (is_quantized(about_.factors)) {
      const matrix<float> vectors = decode_factor(file, prefix + "L"); // (r,m)
      left_ = to_row_major(vectors.view().transposed());
      right_ = decode_factor(file, prefix + "R");
    } else {
      left_ = file.read_matrix(prefix + "L");
      right_ = file.read_matrix(prefix + "R");
    }
    if (about_.has_input_scales) read_input_scales(file, prefix + "input_scales");
    check_finite(left_, prefix + "L");
    check_finite(right_, prefix + "R");
  }

  mapped_decomposition(const mapped_decomposition&) = delete; // views of a copy would refer to the first
  mapped_decomposition& operator=(const mapped_decomposition&) = delete;
  mapped_decomposition(mapped_decomposition&&) = default;
  mapped_decomposition& operator=(mapped_decomposition&&) = default;
  ~mapped_decomposition() = default;

  [[nodiscard]] float scale() const { return about_.scale; }
  [[nodiscard]] const quantized_matrix_view& quantized() const { return quantized_; }
  [[nodiscard]] const matrix<float>& left() const { return left_; }
  [[nodiscard]] const matrix<float>& right() const { return right_; }
  [[nodiscard]] factor_storage factors() const { return about_.factors; }
  /// Empty = ones.
  [[nodiscard]] const std::vector<float>& input_scales() const { return input_scales_; }
  [[nodiscard]] const decomposition_description& description() const { return about_; }

  /// A copy that does not need the file.
  [[nodiscard]] decomposition to_memory() const {
    return {detail::own_quantized(about_.format_name, quantized_, levels_),
            left_,
            right_,
            about_.factors,
            about_.scale,
            input_scales_};
  }

private:
  void read_input_scales(const safetensors_file& file, const std::string& name) {
    input_scales_.resize(static_cast<std::size_t>(quantized_.cols()));
    std::memcpy(input_scales_.data(), detail::checked_bytes(file, name, dtype::f32, 4 * quantized_.cols()),
                4 * input_scales_.size());
    for (const float scale : input_scales_)
      detail::check_input_scale(scale, name, status_code::malformed_file);
  }

  [[nodiscard]] matrix<float> decode_factor(const safetensors_file& file, const std::string& name) const {
    std::vector<float> levels;
    const quantized_matrix_view view = detail::open_quantized(file, name, levels);
    const int bits = about_.factors == factor_storage::int8 ? 8 : 4; // so that it grows at most eightfold
    require(view.layout.bits == bits, status_code::malformed_file, name, ".bits is ", view.layout.bits,
            ", qlr.factors is ", to_string(about_.factors));
    matrix<float> vectors(view.rows(), view.cols());
    dequantize(view, vectors.view());
    return vectors;
  }

  static void check_finite(const matrix<float>& factor, const std::string& name) {
    for (index_t i = 0; i < factor.size(); ++i) {
      require(is_finite(factor.data()[i]), status_code::malformed_file, "element ", i, " of ", name,
              " is not finite");
    }
  }

  decomposition_description about_;
  std::vector<float> levels_;
  quantized_matrix_view quantized_;
  matrix<float> left_;
  matrix<float> right_;
  std::vector<float> input_scales_;
};

/// Reads a decomposition from an open file into memory.
///
/// @param prefix  before every name and key in the file, as for tensors_of
/// @throws qlr::error as mapped_decomposition
[[nodiscard]] inline decomposition read_decomposition(const safetensors_file& file,
                                                      const std::string& prefix = {}) {
  return mapped_decomposition(file, prefix).to_memory();
}

} // namespace qlr::io
