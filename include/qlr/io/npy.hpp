// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/matrix_view.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/atomic_file.hpp>
#include <qlr/io/detail/convert.hpp>
#include <qlr/io/detail/npy_header.hpp>
#include <qlr/io/detail/shape.hpp>
#include <qlr/io/detail/text.hpp>
#include <qlr/io/mapped_file.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

namespace detail {

struct npy_type {
  std::string_view descr;
  index_t bytes;
  void (*convert)(const std::byte* source, index_t count, float* target);
};

inline constexpr std::array<npy_type, 8> npy_types = {{{"<f4", 4, &convert_elements<float>},
                                                       {"<f8", 8, &convert_elements<double>},
                                                       {"<f2", 2, &convert_elements<float16>},
                                                       {"|i1", 1, &convert_elements<std::int8_t>},
                                                       {"|u1", 1, &convert_elements<std::uint8_t>},
                                                       {"<i2", 2, &convert_elements<std::int16_t>},
                                                       {"<i4", 4, &convert_elements<std::int32_t>},
                                                       {"<i8", 8, &convert_elements<std::int64_t>}}};

[[nodiscard]] inline const npy_type& find_npy_type(std::string_view descr, std::string_view where) {
  const auto found = std::ranges::find(npy_types, descr, &npy_type::descr);
  if (found != npy_types.end()) return *found;
  const std::string_view why = descr.starts_with('>')    ? " is big-endian"
                               : descr.starts_with("|O") ? " holds Python objects"
                                                         : " is another element type";
  fail(status_code::unsupported, where, "descr ", quote(descr), why,
       ", readable are <f4, <f8, <f2, |i1, |u1, <i2, <i4 and <i8");
}

/// Copies row by row, in blocks that use each cache line of the source more than once.
inline void transpose_into(matrix_view<const float> source, matrix_view<float> target) {
  constexpr index_t block = 64;
  if (target.is_empty()) return; // an empty matrix may have 2^62 rows
  for (index_t first_row = 0; first_row < target.rows(); first_row += block) {
    const index_t end_row = std::min(first_row + block, target.rows());
    for (index_t first_col = 0; first_col < target.cols(); first_col += block) {
      const index_t end_col = std::min(first_col + block, target.cols());
      for (index_t i = first_row; i < end_row; ++i) {
        for (index_t j = first_col; j < end_col; ++j) target(i, j) = source(j, i);
      }
    }
  }
}

[[nodiscard]] inline matrix<float> read_npy(std::span<const std::byte> contents, std::string_view where) {
  const npy_parts parts = split_npy(contents, where);
  const npy_header header = npy_dictionary_parser(parts.dictionary, where).parse();
  const npy_type& type = find_npy_type(header.descr, where);
  const std::optional<index_t> expected = tensor_bytes(header.shape, type.bytes);
  require(expected.has_value(), status_code::malformed_file, where, "shape ", shape_text(header.shape),
          " of ", type.descr, " exceeds the address space");
  require(parts.data.size() == static_cast<std::size_t>(*expected), status_code::malformed_file, where,
          "shape ", shape_text(header.shape), " of ", type.descr, " takes ", *expected, " bytes, but ",
          parts.data.size(), " follow the header");
  require(header.shape.size() == 1 || header.shape.size() == 2, status_code::unsupported, where, "shape ",
          shape_text(header.shape), " has ", header.shape.size(), " dimensions, a matrix has 1 or 2");

  const index_t rows = header.shape.size() == 1 ? 1 : header.shape[0];
  const index_t cols = header.shape.back();
  const bool is_transposed = header.is_fortran_order && header.shape.size() == 2;
  matrix<float> stored(is_transposed ? cols : rows, is_transposed ? rows : cols);
  type.convert(parts.data.data(), stored.size(), stored.data());
  if (!is_transposed) return stored;
  matrix<float> result(rows, cols);
  transpose_into(stored.view(), result.view());
  return result;
}

/// Magic, version 1.0 and dictionary, padded so that the data starts at a multiple of 64 bytes as numpy does.
[[nodiscard]] inline std::string npy_header_text(index_t rows, index_t cols) {
  constexpr std::size_t alignment = 64;
  constexpr std::size_t prefix_bytes = 10;
  std::string dictionary =
      sentence("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", cols, "), }");
  const std::size_t used = prefix_bytes + dictionary.size() + 1;
  dictionary.append((alignment - used % alignment) % alignment, ' ');
  dictionary += '\n';
  std::string text = "\x93NUMPY";
  text += '\x01';
  text += '\x00';
  text += static_cast<char>(dictionary.size() & 0xFFU);
  text += static_cast<char>(dictionary.size() >> 8U);
  return text + dictionary;
}

/// Gathers the elements of a view with gaps, some rows at a time.
inline void write_rows(atomic_file& file, matrix_view<const float> values) {
  constexpr std::size_t flush_at = 65536;
  std::vector<float> buffer;
  for (index_t i = 0; i < values.rows(); ++i) {
    for (index_t j = 0; j < values.cols(); ++j) buffer.push_back(values(i, j));
    if (buffer.size() < flush_at && i + 1 < values.rows()) continue;
    file.write(std::as_bytes(std::span<const float>(buffer)));
    buffer.clear();
  }
}

} // namespace detail

/// Reads a numeric .npy file of one or two dimensions; one dimension gives 1 x n.
///
/// Formats 1.0 to 3.0, C or Fortran order, little-endian f2, f4, f8, i1, i2, i4, i8 and u1; what float cannot
/// hold is rounded to nearest.
/// @throws qlr::error io_failure: the file cannot be opened
/// @throws qlr::error malformed_file: the header contradicts the format or the length of the file
/// @throws qlr::error unsupported: another version, element type, byte order, or number of dimensions
[[nodiscard]] inline matrix<float> read_npy(const std::string& path) {
  const mapped_file file(path);
  return detail::read_npy(file.bytes(), sentence("npy file ", detail::quote(path), ": "));
}

/// Reads an .npy file that is in memory already.
///
/// @param label  stands for the path in messages
/// @throws qlr::error malformed_file, unsupported: as for a path
[[nodiscard]] inline matrix<float> read_npy(std::span<const std::byte> contents,
                                            std::string_view label = "in memory") {
  return detail::read_npy(contents, sentence("npy file ", detail::quote(label), ": "));
}

/// What the header of an .npy file says about its array.
struct npy_info {
  std::string descr; ///< element type as written in the file, such as "<f4"; not necessarily a readable one
  std::vector<index_t> shape;
  bool is_fortran_order = false;
};

/// Reads the header of an .npy file only.
///
/// @throws qlr::error io_failure: the file cannot be opened
/// @throws qlr::error malformed_file: the header contradicts the format
/// @throws qlr::error unsupported: another version, or a structured element type
[[nodiscard]] inline npy_info read_npy_info(const std::string& path) {
  const mapped_file file(path);
  const std::string where = sentence("npy file ", detail::quote(path), ": ");
  const detail::npy_parts parts = detail::split_npy(file.bytes(), where);
  detail::npy_header header = detail::npy_dictionary_parser(parts.dictionary, where).parse();
  return {std::move(header.descr), std::move(header.shape), header.is_fortran_order};
}

/// Writes an .npy file, version 1.0, '<f4', C order; it appears complete or not at all.
///
/// @param values  any strides
/// @throws qlr::error io_failure: the file cannot be written
inline void write_npy(const std::string& path, matrix_view<const float> values) {
  atomic_file file(path);
  file.write(detail::npy_header_text(values.rows(), values.cols()));
  if (values.is_empty()) {
    // nothing follows the header, however many rows of no elements there are
  } else if (values.col_stride() == 1 && values.row_stride() == values.cols()) {
    const std::span<const float> elements(values.data(), static_cast<std::size_t>(values.size()));
    file.write(std::as_bytes(elements));
  } else {
    detail::write_rows(file, values);
  }
  file.commit();
}

} // namespace qlr::io
