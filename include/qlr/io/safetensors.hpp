// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/matrix_view.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/atomic_file.hpp>
#include <qlr/io/detail/convert.hpp>
#include <qlr/io/detail/safetensors_header.hpp>
#include <qlr/io/detail/safetensors_layout.hpp>
#include <qlr/io/detail/shape.hpp>
#include <qlr/io/detail/tensor_info.hpp>
#include <qlr/io/detail/text.hpp>
#include <qlr/io/mapped_file.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

/// How a tensor of three or more dimensions is read as a matrix.
enum class flatten {
  never,              ///< it is refused
  trailing_dimensions ///< rows = the first extent, cols = the product of the others
};

/// An open safetensors file: the header is read and checked, tensors are read on demand.
///
/// Nothing in the file is trusted: every length, range, shape and name is checked before this object exists.
/// Move-only; moving keeps views and spans valid. Const member functions may run on several threads at once.
class safetensors_file {
public:
  /// Maps the file into memory.
  ///
  /// @throws qlr::error io_failure: the file cannot be opened
  /// @throws qlr::error malformed_file: the header contradicts the format, itself, or the length of the file
  explicit safetensors_file(const std::string& path) : file_(mapped_file(path)) {
    where_ = sentence("safetensors file ", detail::quote(path), ": ");
    header_ = detail::parse_safetensors(file_->bytes(), where_);
  }

  /// Reads a file that is in memory already; the bytes must outlive this object.
  ///
  /// @param label  stands for the path in messages
  /// @throws qlr::error malformed_file: as for a path
  explicit safetensors_file(std::span<const std::byte> contents, std::string_view label = "in memory")
      : where_(sentence("safetensors file ", detail::quote(label), ": ")),
        header_(detail::parse_safetensors(contents, where_)) {}

  /// All tensors in the order of their data.
  [[nodiscard]] const std::vector<tensor_info>& tensors() const { return header_.tensors; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

  [[nodiscard]] bool contains(std::string_view name) const { return try_find(name) != nullptr; }

  /// @throws qlr::error invalid_argument: no tensor has that name; the message lists the first 20 that exist
  [[nodiscard]] const tensor_info& find(std::string_view name) const {
    const tensor_info* tensor = try_find(name);
    if (tensor == nullptr) fail_not_found(name);
    return *tensor;
  }

  /// The stored bytes of a tensor of any type, in the file's memory.
  ///
  /// @throws qlr::error invalid_argument: no tensor has that name
  [[nodiscard]] std::span<const std::byte> bytes(std::string_view name) const { return bytes_of(find(name)); }

  /// Gives the memory of a tensor that is not needed soon back to the system, see mapped_file::release.
  ///
  /// @throws qlr::error invalid_argument: no tensor has that name
  void release(std::string_view name) const { release(bytes(name)); }
  /// @copydoc release
  ///
  /// @param range  of bytes(), or a part of it
  void release(std::span<const std::byte> range) const {
    if (file_) file_->release(range);
  }

  /// Copies a tensor into a matrix, converting F64 (rounded to nearest), F32, F16, BF16, I8 and U8.
  ///
  /// A scalar gives 1 x 1, one dimension 1 x n, two (rows, cols), more than two what `mode` says.
  /// @throws qlr::error invalid_argument: no tensor has that name
  /// @throws qlr::error unsupported: another element type, or more than two dimensions with flatten::never
  [[nodiscard]] matrix<float> read_matrix(std::string_view name, flatten mode = flatten::never) const {
    const tensor_info& tensor = find(name);
    const converter convert = find_converter(tensor);
    const auto [rows, cols] = matrix_shape(tensor, mode);
    matrix<float> result(rows, cols);
    convert(bytes_of(tensor).data(), result.size(), result.data());
    return result;
  }

  /// True when f32_view gives a view: the tensor is F32, aligned, and of a shape that `mode` accepts.
  ///
  /// @throws qlr::error invalid_argument: no tensor has that name
  [[nodiscard]] bool has_f32_view(std::string_view name, flatten mode = flatten::never) const {
    const tensor_info& tensor = find(name);
    return tensor.type == dtype::f32 && is_aligned(tensor) && has_matrix_shape(tensor, mode);
  }

  /// An F32 tensor as a matrix in the file's own memory, without a copy; valid while the file is open.
  ///
  /// @throws qlr::error invalid_argument: no tensor has that name
  /// @throws qlr::error unsupported: not F32, not aligned to 4 bytes, or a shape that `mode` refuses
  [[nodiscard]] matrix_view<const float> f32_view(std::string_view name,
                                                  flatten mode = flatten::never) const {
    const tensor_info& tensor = find(name);
    require(tensor.type == dtype::f32, status_code::unsupported, subject(tensor), "dtype is ",
            detail::quote(tensor.dtype_text), ", a view without a copy needs F32; use read_matrix");
    require(is_aligned(tensor), status_code::unsupported, subject(tensor), "its data starts at byte ",
            tensor.begin_bytes, " of a data part that is not aligned to 4 bytes; use read_matrix");
    const auto [rows, cols] = matrix_shape(tensor, mode);
    return {reinterpret_cast<const float*>(bytes_of(tensor).data()), rows, cols};
  }

private:
  using converter = void (*)(const std::byte* source, index_t count, float* target);

  [[nodiscard]] const tensor_info* try_find(std::string_view name) const {
    const auto name_of = [this](std::size_t i) -> std::string_view { return header_.tensors[i].name; };
    const auto found = std::ranges::lower_bound(header_.order_by_name, name, {}, name_of);
    return found != header_.order_by_name.end() && name_of(*found) == name ? &header_.tensors[*found]
                                                                           : nullptr;
  }

  [[noreturn]] void fail_not_found(std::string_view name) const {
    constexpr std::size_t num_listed = 20;
    const std::size_t total = header_.order_by_name.size();
    std::string names;
    for (std::size_t i = 0; i < std::min(total, num_listed); ++i) {
      names += sentence(i == 0 ? "" : ", ", detail::quote(header_.tensors[header_.order_by_name[i]].name));
    }
    if (total > num_listed) names += sentence(" and ", total - num_listed, " more");
    fail(status_code::invalid_argument, where_, "no tensor is named ", detail::quote(name), ", it has ",
         total == 0 ? "no tensors" : names);
  }

  [[nodiscard]] std::span<const std::byte> bytes_of(const tensor_info& tensor) const {
    return header_.data.subspan(static_cast<std::size_t>(tensor.begin_bytes),
                                static_cast<std::size_t>(tensor.end_bytes - tensor.begin_bytes));
  }

  [[nodiscard]] bool is_aligned(const tensor_info& tensor) const {
    return reinterpret_cast<std::uintptr_t>(bytes_of(tensor).data()) % alignof(float) == 0;
  }

  [[nodiscard]] static bool has_matrix_shape(const tensor_info& tensor, flatten mode) {
    return tensor.shape.size() <= 2 || mode == flatten::trailing_dimensions;
  }

  /// (rows, cols).
  [[nodiscard]] std::pair<index_t, index_t> matrix_shape(const tensor_info& tensor, flatten mode) const {
    const std::vector<index_t>& shape = tensor.shape;
    require(has_matrix_shape(tensor, mode), status_code::unsupported, subject(tensor), "shape ",
            detail::shape_text(shape), " has ", shape.size(),
            " dimensions, a matrix has at most 2 unless trailing dimensions are flattened");
    if (shape.empty()) return {1, 1};
    if (shape.size() == 1) return {1, shape[0]};
    index_t cols = 1; // cannot overflow: see detail::tensor_bytes
    for (std::size_t i = 1; i < shape.size(); ++i) cols = shape[i] == 0 ? 0 : cols * shape[i];
    return {shape[0], cols};
  }

  [[nodiscard]] converter find_converter(const tensor_info& tensor) const {
    if (tensor.type == dtype::f32) return &detail::convert_elements<float>;
    if (tensor.type == dtype::f16) return &detail::convert_elements<float16>;
    if (tensor.type == dtype::bf16) return &detail::convert_elements<bfloat16>;
    if (tensor.type == dtype::f64) return &detail::convert_elements<double>;
    if (tensor.type == dtype::i8) return &detail::convert_elements<std::int8_t>;
    if (tensor.type == dtype::u8) return &detail::convert_elements<std::uint8_t>;
    fail(status_code::unsupported, subject(tensor), "dtype is ", detail::quote(tensor.dtype_text),
         ", readable as a matrix are F32, F16, BF16, F64, I8 and U8");
  }

  [[nodiscard]] std::string subject(const tensor_info& tensor) const {
    return where_ + "tensor " + detail::quote(tensor.name) + ": ";
  }

  std::optional<mapped_file> file_; // absent when the bytes belong to the caller
  std::string where_;               // start of every message
  detail::safetensors_header header_;
};

/// Describes a contiguous row-major matrix as an F32 tensor of shape (rows, cols).
///
/// @throws qlr::error invalid_argument: the view has gaps or is not row-major
[[nodiscard]] inline tensor_entry make_f32_entry(std::string name, matrix_view<const float> values) {
  const bool is_contiguous =
      values.is_empty() || (values.col_stride() == 1 && values.row_stride() == values.cols());
  require(is_contiguous, status_code::invalid_argument, "tensor ", detail::quote(name), ": strides are (",
          values.row_stride(), ", ", values.col_stride(), "), allowed are (", values.cols(),
          ", 1): contiguous row-major");
  const std::span<const float> elements(values.data(), static_cast<std::size_t>(values.size()));
  return {std::move(name), dtype::f32, {values.rows(), values.cols()}, std::as_bytes(elements)};
}

/// Writes a safetensors file; the same tensors and metadata give the same bytes, whatever their order.
///
/// Tensors are stored by descending element size, then by name, without gaps: the data part starts at a
/// multiple of 8 bytes and each tensor at a multiple of its element size. The file appears complete or not at
/// all.
/// @throws qlr::error invalid_argument: a name given twice, reserved or not UTF-8, a shape that is negative,
/// has more
///         than 16 dimensions or contradicts the bytes, metadata that is not UTF-8, a header above 100 MB
/// @throws qlr::error io_failure: the file cannot be written
inline void write_safetensors(const std::string& path, std::span<const tensor_entry> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  const auto [header, order] = detail::lay_out_safetensors(tensors, metadata);
  atomic_file file(path);
  file.write(header);
  for (const std::size_t i : order) file.write(tensors[i].bytes);
  file.commit();
}

} // namespace qlr::io
