// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/detail/byte_cursor.hpp>
#include <qlr/io/detail/convert.hpp>
#include <qlr/io/detail/gguf_header.hpp>
#include <qlr/io/detail/imatrix_entries.hpp>
#include <qlr/io/detail/text.hpp>
#include <qlr/io/gguf.hpp>
#include <qlr/io/mapped_file.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

namespace detail {

/// One entry of the form without a magic: name, number of calls, values times calls.
[[nodiscard]] inline imatrix_sums read_imatrix_entry(byte_cursor& cursor, std::string_view where) {
  constexpr auto malformed = status_code::malformed_file;
  const auto name_bytes = cursor.read<std::int32_t>("the length of an entry's name");
  require(name_bytes >= 0, malformed, where, "an entry's name has ", name_bytes, " bytes, it must be >= 0");
  imatrix_sums entry;
  entry.name = cursor.read_text(static_cast<std::uint64_t>(name_bytes), "the name of an entry");
  entry.counts = {static_cast<double>(cursor.read<std::int32_t>("the count of an entry"))};
  const auto num_values = cursor.read<std::int32_t>("the number of values of an entry");
  require(num_values >= 0, malformed, where, "entry ", quote(entry.name), ": it has ", num_values,
          " values, the number must be >= 0");
  const auto bytes = cursor.take(static_cast<std::uint64_t>(num_values) * sizeof(float), "an entry's values");
  entry.sum_squares = matrix<float>(num_values > 0 ? 1 : 0, num_values);
  convert_elements<float>(bytes.data(), entry.sum_squares.size(), entry.sum_squares.data());
  return entry;
}

/// The form without a magic: entries, then optionally the last chunk and the name of the data set.
[[nodiscard]] inline importance_matrices read_plain_imatrix(std::span<const std::byte> contents,
                                                            std::string_view where) {
  constexpr auto malformed = status_code::malformed_file;
  byte_cursor cursor(contents, where);
  const auto num_entries = cursor.read<std::int32_t>("the number of entries");
  constexpr std::size_t smallest_entry = 12; // empty name, count, no values
  require(num_entries > 0, malformed, where, "the number of entries is ", num_entries, ", it must be > 0");
  require(static_cast<std::size_t>(num_entries) <= cursor.num_left() / smallest_entry, malformed, where,
          "the number of entries is ", num_entries, ", but only ", cursor.num_left(), " bytes are left");
  importance_matrices result;
  std::set<std::string, std::less<>> names;
  for (std::int32_t i = 0; i < num_entries; ++i) {
    imatrix_sums entry = read_imatrix_entry(cursor, where);
    require(names.insert(entry.name).second, malformed, where, "entry ", quote(entry.name),
            " is given twice");
    add_imatrix_entry(std::move(entry), where, result);
  }
  if (cursor.num_left() > 0) (void)cursor.read<std::int32_t>("the number of the last chunk");
  if (cursor.num_left() > 0) {
    const auto num_bytes = cursor.read<std::int32_t>("the length of the data set's name");
    require(num_bytes >= 0, malformed, where, "the data set's name has ", num_bytes,
            " bytes, it must be >= 0");
    result.datasets.emplace_back(
        cursor.read_text(static_cast<std::uint64_t>(num_bytes), "the data set's name"));
  }
  require(cursor.num_left() == 0, malformed, where, cursor.num_left(), " bytes follow the data set's name");
  return result;
}

inline constexpr std::string_view squares_suffix = ".in_sum2";
inline constexpr std::string_view counts_suffix = ".counts";
inline constexpr std::string_view sums_suffix = ".in_sum";

/// Sums and counts of one weight tensor in a GGUF file.
inline void add_gguf_entry(const gguf_file& file, const std::string& name, std::string_view where,
                           importance_matrices& result) {
  const auto part = [&](std::string_view suffix) { return name + std::string(suffix); };
  const bool has_counts = file.contains(part(counts_suffix));
  if (!has_counts || !file.contains(part(squares_suffix))) {
    result.unusable.push_back({name, has_counts ? "it has no values" : "it has no counts"});
    return;
  }
  imatrix_sums entry;
  entry.name = name;
  entry.sum_squares = file.read_matrix(part(squares_suffix));
  const matrix<float> counts = file.read_matrix(part(counts_suffix));
  const index_t experts = entry.sum_squares.rows();
  require(counts.size() == experts, status_code::malformed_file, where, "entry ", quote(name), ": it has ",
          counts.size(), " counts for ", experts, " experts");
  for (index_t i = 0; i < experts; ++i) entry.counts.push_back(static_cast<double>(counts.data()[i]));
  if (file.contains(part(sums_suffix))) {
    entry.sums = file.read_matrix(part(sums_suffix));
    require(entry.sums.rows() == experts && entry.sums.cols() == entry.sum_squares.cols(),
            status_code::malformed_file, where, "entry ", quote(name), ": in_sum is ", entry.sums.rows(),
            " x ", entry.sums.cols(), ", in_sum2 is ", experts, " x ", entry.sum_squares.cols());
  }
  add_imatrix_entry(std::move(entry), where, result);
}

/// The GGUF form: tensors NAME.in_sum2 and NAME.counts, in newer files NAME.in_sum.
[[nodiscard]] inline importance_matrices read_gguf_imatrix(const gguf_file& file, std::string_view where) {
  const auto kind = file.metadata().find("general.type");
  if (kind != file.metadata().end()) {
    const std::string_view text = kind->second.text().value_or("not a text");
    require(text == "imatrix", status_code::malformed_file, where, "general.type is ", quote(text),
            ", an importance matrix has 'imatrix'");
  }
  importance_matrices result;
  std::set<std::string, std::less<>> seen;
  for (const gguf_tensor_info& tensor : file.tensors()) {
    for (const std::string_view suffix : {squares_suffix, counts_suffix, sums_suffix}) {
      if (!tensor.name.ends_with(suffix)) continue;
      const std::string name = tensor.name.substr(0, tensor.name.size() - suffix.size());
      if (seen.insert(name).second) add_gguf_entry(file, name, where, result);
      break;
    }
  }
  require(!seen.empty(), status_code::malformed_file, where, "no tensor is named NAME", squares_suffix,
          ": it is no importance matrix");
  const auto datasets = file.metadata().find("imatrix.datasets");
  if (datasets != file.metadata().end()) {
    for (const gguf_value& value : datasets->second.elements()) {
      if (value.text()) result.datasets.emplace_back(*value.text());
    }
  }
  return result;
}

[[nodiscard]] inline std::string imatrix_subject(std::string_view label) {
  return sentence("imatrix file ", quote(label), ": ");
}

} // namespace detail

/// Reads an importance matrix of llama.cpp in either form: GGUF, or the older one without a magic (.dat).
///
/// Mean squares are the stored sums divided by the stored counts. Tensors or experts with a zero count or
/// without a value above zero are listed in `unusable`, never guessed.
/// @throws qlr::error io_failure: the file cannot be opened
/// @throws qlr::error malformed_file: the file contradicts its format, or a count or sum of squares is
/// negative
/// @throws qlr::error non_finite: names the entry and the first value that is not finite
/// @throws qlr::error unsupported: a GGUF file of another version or with sums of another element type
[[nodiscard]] inline importance_matrices read_imatrix(const std::string& path) {
  mapped_file file(path);
  const std::string where = detail::imatrix_subject(path);
  if (!detail::has_gguf_magic(file.bytes())) return detail::read_plain_imatrix(file.bytes(), where);
  return detail::read_gguf_imatrix(gguf_file(std::move(file), path), where);
}

/// Reads an importance matrix that is in memory already.
///
/// @param label  stands for the path in messages
/// @throws qlr::error malformed_file, non_finite, unsupported: as for a path
[[nodiscard]] inline importance_matrices read_imatrix(std::span<const std::byte> contents,
                                                      std::string_view label = "in memory") {
  const std::string where = detail::imatrix_subject(label);
  if (!detail::has_gguf_magic(contents)) return detail::read_plain_imatrix(contents, where);
  return detail::read_gguf_imatrix(gguf_file(contents, label), where);
}

} // namespace qlr::io
