// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/io/safetensors.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace qlr::io {

/// A tensor of an open file, to be written under a name of its own.
struct borrowed_tensor {
  const safetensors_file* file = nullptr;
  const tensor_info* info = nullptr; ///< of file->tensors()
  std::string name;                  ///< in the new file
};

/// Writes tensors of several open files into one, as write_safetensors does, piece by piece.
///
/// @throws qlr::error unsupported: a tensor whose element type is none of dtype
/// @throws qlr::error invalid_argument, io_failure: as write_safetensors
/// @memory the new header; pages of the sources are let go as soon as they are written
inline void join_safetensors(const std::string& path, std::span<const borrowed_tensor> tensors,
                             const std::map<std::string, std::string>& metadata = {}) {
  constexpr std::size_t piece_bytes = std::size_t{1} << 24U;
  std::vector<tensor_entry> entries;
  for (const borrowed_tensor& tensor : tensors) {
    require(tensor.info->type.has_value(), status_code::unsupported, "tensor ", detail::quote(tensor.name),
            " has the type ", detail::quote(tensor.info->dtype_text), ", which cannot be copied");
    entries.push_back(
        {tensor.name, *tensor.info->type, tensor.info->shape, tensor.file->bytes(tensor.info->name)});
  }
  const auto [header, order] = detail::lay_out_safetensors(entries, metadata);
  atomic_file target(path);
  target.write(header);
  for (const std::size_t i : order) {
    const std::span<const std::byte> bytes = entries[i].bytes;
    for (std::size_t begin = 0; begin < bytes.size(); begin += piece_bytes) {
      const auto piece = bytes.subspan(begin, std::min(piece_bytes, bytes.size() - begin));
      target.write(piece);
      tensors[i].file->release(piece);
    }
  }
  target.commit();
}

} // namespace qlr::io
