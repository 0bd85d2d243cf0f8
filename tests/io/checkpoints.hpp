// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include "decompositions.hpp"

#include <qlr/io/serialize.hpp>

#include <filesystem>
#include <map>
#include <string>

// Checkpoints put together by hand from files of single decompositions: nothing here knows a prefix from the
// library.
namespace qlr::test {

/// A safetensors file in parts, empty at first.
inline file_parts empty_file(const temporary_directory& folder) {
  io::write_safetensors(folder.file("empty"), {});
  file_parts file(folder.file("empty"));
  std::filesystem::remove(folder.file("empty"));
  return file;
}

/// What save() writes, with a prefix before everything.
inline void add_prefixed(file_parts& file, const temporary_directory& folder, const std::string& prefix,
                         const decomposition& parts) {
  io::save(folder.file("single"), parts);
  const file_parts single(folder.file("single"));
  std::filesystem::remove(folder.file("single"));
  for (const auto& [key, value] : single.metadata) file.metadata[prefix + key] = value;
  for (const auto& [name, tensor] : single.tensors) file.tensors[prefix + name] = tensor;
}

inline void add_f32(file_parts& file, const std::string& name, const matrix<float>& values) {
  const auto bytes = std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.size())));
  file.tensors[name] = {io::dtype::f32, {values.rows(), values.cols()}, {bytes.begin(), bytes.end()}};
}

inline void mark_as_checkpoint(file_parts& file) {
  file.metadata["qlr.format"] = "checkpoint";
  file.metadata["qlr.version"] = "1";
}

inline std::string index_text(const std::map<std::string, std::string>& shards) {
  std::string entries;
  for (const auto& [tensor, file] : shards)
    entries += (entries.empty() ? "\"" : ",\"") + tensor + "\":\"" + file + "\"";
  return "{\"metadata\":{\"total_size\":1},\"weight_map\":{" + entries + "}}";
}

} // namespace qlr::test
