// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>
#include <qlr/io/checkpoint.hpp>
#include <qlr/io/safetensors.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

/// One row of the table: a tensor, or what several tensors stand for together.
struct item {
  std::string name;
  std::vector<qlr::index_t> shape;
  std::string format; ///< element type or quantizer
  std::optional<qlr::index_t> group_size;
  std::string scales; ///< how scales are stored
  std::optional<qlr::index_t> rank;
  std::string factors; ///< how L and R are stored
  std::string note;
  std::string file;         ///< of a checkpoint of several
  qlr::index_t weights = 0; ///< how many numbers it stands for
  qlr::index_t bytes = 0;

  [[nodiscard]] bool is_compressed() const { return group_size.has_value(); }
};

/// What is in a file or folder.
struct contents {
  std::string kind;
  std::vector<std::pair<std::string, std::string>> facts; ///< what the file says about itself
  std::vector<item> items;                                ///< in the order of the file
  std::size_t num_files = 1;
  qlr::index_t file_bytes = 0;
};

/// Recognises the file or folder and reads its header, no more than that where it can be helped.
///
/// @throws qlr::error io_failure: it cannot be read;  malformed_file: it contradicts itself
/// @throws qlr::error unsupported: it is of no known kind, or of a newer version
[[nodiscard]] contents read_contents(const std::string& path);

/// The product of the extents, at most the largest number.
[[nodiscard]] qlr::index_t count_elements(std::span<const qlr::index_t> shape);

/// A sum that stops at the largest number.
[[nodiscard]] qlr::index_t add_up(qlr::index_t a, qlr::index_t b);

/// A tensor as it is.
[[nodiscard]] item describe_tensor(const qlr::io::tensor_info& tensor);

// One for each kind of file.
[[nodiscard]] contents read_checkpoint(const std::string& path);
[[nodiscard]] contents read_peft_adapter(const std::string& path);
[[nodiscard]] contents read_gguf(const std::string& path);
[[nodiscard]] contents read_plain_imatrix(const std::string& path);
[[nodiscard]] contents read_npy(const std::string& path);

/// Whether some tensors are weights that bitsandbytes quantized.
[[nodiscard]] bool has_bitsandbytes(const qlr::io::checkpoint_folder& checkpoint);
/// Weights that bitsandbytes quantized, and the other tensors.
[[nodiscard]] std::vector<item> read_bitsandbytes(const qlr::io::checkpoint_folder& checkpoint);
