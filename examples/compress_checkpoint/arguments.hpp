// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <common/command_line.hpp>

#include <string>
#include <vector>

/// The command line of compress_checkpoint, checked as far as it can be without opening a file.
struct arguments : decomposition_arguments {
  std::string input;
  std::string output;
  std::string store = "qlr";
  std::vector<std::string> include; ///< regular expressions; empty: every matrix but embeddings and heads
  std::vector<std::string> exclude;
  std::string plan;
  std::string calibration; ///< folder, or importance matrix
  std::string gguf_vocabulary;
  qlr::index_t spectrum = 0; ///< singular values of each W in the report; 0: those of L R
  bool resume = false;
  bool one_file = false;
  bool list = false;
  std::string json; ///< a second copy of the report; "-" is standard output
  bool quiet = false;
};

/// Parses the command line; prints help to standard output and exits with 0 when asked to.
///
/// @throws qlr::error invalid_argument: an unknown option or a value that is not allowed
[[nodiscard]] arguments parse_arguments(int argc, char** argv);
