// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <compress_checkpoint/arguments.hpp>

#include <qlr/decompose/compression_choice.hpp>
#include <qlr/io/checkpoint.hpp>

#include <string>
#include <vector>

/// A matrix to compress.
struct layer_task {
  std::string name;
  std::size_t index = 0; ///< among all tensors of the checkpoint, by name: names its files
  std::size_t shard_index = 0;
  qlr::index_t rows = 0;
  qlr::index_t cols = 0;
  qlr::compression_choice choice;
};

/// A tensor that stays as it is.
struct kept_tensor {
  std::string name;
  std::size_t index = 0;
  std::size_t shard_index = 0;
  bool is_matrix = false;
  std::string reason;
};

/// What becomes of every tensor of a checkpoint, by name.
struct selection {
  std::vector<layer_task> layers;
  std::vector<kept_tensor> kept;
};

/// Decides by name, shape, type, plan and what the output format can hold.
///
/// @throws qlr::error invalid_argument: a regular expression that is none, or that no tensor matches; a plan
/// that names other tensors; nothing to compress
/// @throws qlr::error unsupported: a tensor whose type cannot be copied
[[nodiscard]] selection select_tensors(const qlr::io::checkpoint_folder& input, const arguments& args);
