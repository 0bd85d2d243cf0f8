// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/atomic_file.hpp>
#include <qlr/io/detail/gguf_content.hpp>
#include <qlr/io/detail/gguf_layout.hpp>
#include <qlr/io/gguf.hpp>
#include <qlr/io/gguf_blocks.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

/// One tensor to be written; the bytes belong to the caller.
struct gguf_tensor_entry {
  std::string name;
  gguf_tensor_type type = gguf_tensor_type::f32;
  std::vector<index_t> shape; ///< slowest dimension first: (rows, cols); the file has the reverse
  std::span<const std::byte> bytes;
};

namespace detail {

inline void write_padded(atomic_file& file, std::span<const std::byte> bytes, index_t alignment) {
  file.write(bytes);
  file.write(std::vector<std::byte>(padding_to(alignment, bytes.size())));
}

/// The header of a part as slots.
[[nodiscard]] inline std::vector<gguf_slot> slots_of(const gguf_file& file) {
  std::vector<gguf_slot> slots;
  for (const gguf_tensor_info& tensor : file.tensors()) {
    slots.push_back({tensor.name, tensor.type, tensor.shape, tensor.num_bytes});
  }
  return slots;
}

} // namespace detail

/// Writes a GGUF file, version 3; the same arguments give the same bytes.
///
/// Tensors are stored in the order given. The file appears complete or not at all.
/// @param metadata  general.alignment is obeyed, 32 without it
/// @throws qlr::error invalid_argument: a tensor's name given twice, empty, above 63 bytes or not UTF-8; a
/// shape that is negative, has more than 4 dimensions, rows that are no multiples of the block, or
/// contradicts the bytes; a key that is empty, above 65535 bytes or not UTF-8; an alignment that is no power
/// of two
/// @throws qlr::error io_failure: the file cannot be written
inline void write_gguf(const std::string& path, const gguf_metadata& metadata,
                       std::span<const gguf_tensor_entry> tensors) {
  std::vector<detail::gguf_slot> slots;
  for (const gguf_tensor_entry& tensor : tensors) {
    slots.push_back({tensor.name, static_cast<std::uint32_t>(tensor.type), tensor.shape,
                     static_cast<index_t>(tensor.bytes.size())});
  }
  const std::vector<std::byte> header = detail::lay_out_gguf(metadata, slots);
  const index_t alignment = detail::gguf_alignment(metadata);
  atomic_file file(path);
  file.write(header);
  for (const gguf_tensor_entry& tensor : tensors) detail::write_padded(file, tensor.bytes, alignment);
  file.commit();
}

/// Joins the tensors of several GGUF files into one, in the order of the parts and of each part.
///
/// The metadata of the parts is left out. The file appears complete or not at all.
/// @throws qlr::error invalid_argument: two parts have a tensor of one name, or as write_gguf()
/// @throws qlr::error malformed_file, unsupported: a part is no GGUF file, or has a tensor of unknown type
/// @throws qlr::error io_failure: a part cannot be read or changed meanwhile, or the file cannot be written
/// @memory the headers; one part at a time is mapped (where there are no maps, is in memory)
inline void merge_gguf(const std::string& path, const gguf_metadata& metadata,
                       std::span<const std::string> parts) {
  std::vector<detail::gguf_slot> slots;
  std::map<std::string, std::string> owners;
  for (const std::string& part : parts) {
    for (detail::gguf_slot& slot : detail::slots_of(gguf_file(part))) {
      const auto [owner, is_new] = owners.emplace(slot.name, part);
      require(is_new, status_code::invalid_argument, "tensor ", detail::quote(slot.name), " is in ",
              detail::quote(owner->second), " and in ", detail::quote(part));
      slots.push_back(std::move(slot));
    }
  }
  const std::vector<std::byte> header = detail::lay_out_gguf(metadata, slots);
  const index_t alignment = detail::gguf_alignment(metadata);
  atomic_file file(path);
  file.write(header);
  std::size_t next = 0;
  for (const std::string& part : parts) {
    const gguf_file source(part);
    for (const gguf_tensor_info& tensor : source.tensors()) {
      const bool is_same = next < slots.size() && slots[next].name == tensor.name &&
                           slots[next].num_bytes == tensor.num_bytes && slots[next].type == tensor.type;
      require(is_same, status_code::io_failure, detail::quote(part), " changed while it was read");
      detail::write_padded(file, source.bytes(tensor.name), alignment);
      ++next;
    }
  }
  require(next == slots.size(), status_code::io_failure, "a part changed while it was read");
  file.commit();
}

} // namespace qlr::io
