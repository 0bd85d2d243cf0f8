// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <common/command_line.hpp>

#include <qlr/decompose/factor_storage.hpp>

#include <string>
#include <vector>

/// The command line of allocate_bits, checked as far as it can be without opening a file.
struct arguments {
  std::string input;
  double budget = 0; ///< bits per weight, with scales and factors
  std::vector<qlr::index_t> ranks{0};
  std::string grid = "lq-lora";
  std::string method; ///< empty: one SVD for all choices of a tensor
  std::string cost = "absolute";
  std::string weights; ///< JSON file; empty: none
  std::string fisher;  ///< safetensors file; empty: none
  std::vector<std::string> tensors;
  std::vector<std::string> exclude;
  int factor_bits = 16;
  double gap = 0;
  std::string svd = "randomized";
  std::uint64_t seed = 0;
  int threads = 0;
  std::string output;
  std::string json;
  bool quiet = false;
};

/// Parses the command line; prints help to standard output and exits with 0 when asked to.
///
/// @throws qlr::error invalid_argument: an unknown option or a value that is not allowed
[[nodiscard]] arguments parse_arguments(int argc, char** argv);
