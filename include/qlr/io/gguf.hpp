// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/detail/convert.hpp>
#include <qlr/io/detail/gguf_header.hpp>
#include <qlr/io/detail/gguf_value.hpp>
#include <qlr/io/detail/text.hpp>
#include <qlr/io/gguf_blocks.hpp>
#include <qlr/io/mapped_file.hpp>
#include <qlr/quant/dequantize.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

/// An open GGUF file, version 2 or 3, little-endian: the header is read and checked, tensors are read on
/// demand.
///
/// Nothing in the file is trusted: every count, length, offset, shape and name is checked before this object
/// exists. Move-only; moving keeps values and spans valid. Const member functions may run on several threads
/// at once.
/// @see the GGUF specification in the ggml project, docs/gguf.md
class gguf_file {
public:
  /// Maps the file into memory.
  ///
  /// @throws qlr::error io_failure: the file cannot be opened
  /// @throws qlr::error malformed_file: the header contradicts the format, itself, or the length of the file
  /// @throws qlr::error unsupported: another version, big-endian, or arrays nested more than eight deep
  explicit gguf_file(const std::string& path) : gguf_file(mapped_file(path), path) {}

  /// Takes over a file that is mapped already.
  ///
  /// @param label  stands for the path in messages
  /// @throws qlr::error malformed_file, unsupported: as for a path
  gguf_file(mapped_file file, std::string_view label) : file_(std::move(file)), where_(subject_of(label)) {
    header_ = detail::gguf_parser(file_->bytes(), where_).parse();
  }

  /// Reads a file that is in memory already; the bytes must outlive this object.
  ///
  /// @param label  stands for the path in messages
  /// @throws qlr::error malformed_file, unsupported: as for a path
  explicit gguf_file(std::span<const std::byte> contents, std::string_view label = "in memory")
      : where_(subject_of(label)), header_(detail::gguf_parser(contents, where_).parse()) {}

  [[nodiscard]] std::uint32_t version() const { return header_.version; }
  /// All tensors in the order of the file.
  [[nodiscard]] const std::vector<gguf_tensor_info>& tensors() const { return header_.tensors; }
  /// All metadata values; they refer to the file's memory.
  [[nodiscard]] const std::map<std::string, gguf_value, std::less<>>& metadata() const {
    return header_.metadata;
  }

  [[nodiscard]] bool contains(std::string_view name) const {
    return header_.by_name.find(name) != header_.by_name.end();
  }

  /// @throws qlr::error invalid_argument: no tensor has that name
  [[nodiscard]] const gguf_tensor_info& find(std::string_view name) const {
    const auto found = header_.by_name.find(name);
    require(found != header_.by_name.end(), status_code::invalid_argument, where_, "no tensor is named ",
            detail::quote(name), ", it has ", header_.tensors.size(), " tensors");
    return header_.tensors[found->second];
  }

  /// The stored bytes of a tensor of any type, in the file's memory.
  ///
  /// @throws qlr::error invalid_argument: no tensor has that name
  [[nodiscard]] std::span<const std::byte> bytes(std::string_view name) const { return bytes_of(find(name)); }

  /// Copies a tensor into a matrix, converting F64 (rounded to nearest), F32, F16 and BF16, and decoding
  /// Q4_0, Q8_0 and IQ4_NL.
  ///
  /// cols = the extent of the fastest dimension, rows = the product of the others; a scalar gives 1 x 1.
  /// @throws qlr::error invalid_argument: no tensor has that name
  /// @throws qlr::error unsupported: another element type;  malformed_file: a scale that is not finite
  [[nodiscard]] matrix<float> read_matrix(std::string_view name) const {
    const gguf_tensor_info& tensor = find(name);
    const bool is_blocks = is_gguf_quantized(tensor.type);
    if (is_blocks && tensor.num_bytes > 0) return dequantize(read_quantized(name));
    const auto [rows, cols] = matrix_shape(tensor);
    if (is_blocks) return {rows, cols};               // without elements it may claim 2^62 rows
    const converter convert = find_converter(tensor); // first: of another type any shape may be claimed
    matrix<float> result(rows, cols);
    convert(bytes_of(tensor).data(), result.size(), result.data());
    return result;
  }

  /// Copies a Q4_0, Q8_0 or IQ4_NL tensor, its codes packed as they are; rows and cols as read_matrix().
  ///
  /// @throws qlr::error invalid_argument: no tensor has that name
  /// @throws qlr::error unsupported: another element type;  malformed_file: a scale that is not finite
  [[nodiscard]] quantized_matrix read_quantized(std::string_view name) const {
    const gguf_tensor_info& tensor = find(name);
    const std::string subject = sentence(where_, "tensor ", detail::quote(tensor.name), ": ");
    require(is_gguf_quantized(tensor.type), status_code::unsupported, subject, "type is ", tensor.type_text,
            ", readable as a quantized matrix are Q4_0, Q8_0 and IQ4_NL");
    const auto [rows, cols] = matrix_shape(tensor);
    return from_gguf_blocks(static_cast<gguf_tensor_type>(tensor.type), bytes_of(tensor), rows, cols,
                            subject);
  }

private:
  using converter = void (*)(const std::byte* source, index_t count, float* target);

  [[nodiscard]] static std::string subject_of(std::string_view label) {
    return sentence("GGUF file ", detail::quote(label), ": ");
  }

  [[nodiscard]] std::span<const std::byte> bytes_of(const gguf_tensor_info& tensor) const {
    if (tensor.num_bytes == 0) return {};
    return header_.data.subspan(static_cast<std::size_t>(tensor.begin_bytes),
                                static_cast<std::size_t>(tensor.num_bytes));
  }

  /// (rows, cols).
  [[nodiscard]] static std::pair<index_t, index_t> matrix_shape(const gguf_tensor_info& tensor) {
    index_t rows = 1; // cannot overflow: see detail::tensor_bytes
    for (std::size_t i = 0; i + 1 < tensor.shape.size(); ++i) {
      rows = tensor.shape[i] == 0 ? 0 : rows * tensor.shape[i];
    }
    return {rows, tensor.shape.empty() ? 1 : tensor.shape.back()};
  }

  [[nodiscard]] converter find_converter(const gguf_tensor_info& tensor) const {
    if (tensor.type_text == "F32") return &detail::convert_elements<float>;
    if (tensor.type_text == "F16") return &detail::convert_elements<float16>;
    if (tensor.type_text == "BF16") return &detail::convert_elements<bfloat16>;
    if (tensor.type_text == "F64") return &detail::convert_elements<double>;
    fail(status_code::unsupported, where_, "tensor ", detail::quote(tensor.name), ": type is ",
         tensor.type_text, ", readable as a matrix are F32, F16, BF16, F64, Q4_0, Q8_0 and IQ4_NL");
  }

  std::optional<mapped_file> file_; // absent when the bytes belong to the caller
  std::string where_;               // start of every message
  detail::gguf_header header_;
};

} // namespace qlr::io
