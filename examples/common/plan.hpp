// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/compression_choice.hpp>

#include <map>
#include <string>

/// What a plan says about one tensor.
struct planned_tensor {
  qlr::compression_choice choice;
  qlr::index_t rows = 0;
  qlr::index_t cols = 0;
};

/// How each tensor of a checkpoint is to be stored: the file that allocate_bits writes.
struct plan {
  std::string path; ///< for messages
  std::map<std::string, planned_tensor> tensors;

  /// @throws qlr::error invalid_argument: the plan has no such tensor, or another shape
  [[nodiscard]] const qlr::compression_choice& find(const std::string& name, qlr::index_t rows,
                                                    qlr::index_t cols) const;
};

/// Reads a plan; nothing in the file is trusted.
///
/// @throws qlr::error io_failure: the file cannot be read
/// @throws qlr::error malformed_file: it is no plan; the message names the tensor and the key
[[nodiscard]] plan read_plan(const std::string& path);

/// The positive numbers of a JSON object: names of tensors and their weights.
///
/// @throws qlr::error io_failure: the file cannot be read;  malformed_file: another content
[[nodiscard]] std::map<std::string, double> read_weights(const std::string& path);
