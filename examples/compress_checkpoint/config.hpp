// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <compress_checkpoint/selection.hpp>

#include <string>
#include <vector>

/// A small file that goes with the weights.
struct companion_file {
  std::string name;
  std::string text;
};

/// The files of the input folder that hold no weights, such as the tokenizer's, as they are; config.json gets
/// a quantization_config that says how the weights are stored.
///
/// @throws qlr::error io_failure: one cannot be read;  malformed_file: config.json is no JSON object
[[nodiscard]] std::vector<companion_file> companion_files(const arguments& args, const selection& chosen);
