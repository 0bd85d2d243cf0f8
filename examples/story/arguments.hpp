// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <common/command_line.hpp>

#include <qlr/matmul/isa.hpp>
#include <qlr/matmul/options.hpp>

#include <optional>
#include <string>

/// The command line of story, checked as far as it can be without opening a file.
struct arguments : decomposition_arguments {
  std::string model;
  std::string reference; ///< the model that a compressed one was made from
  std::string tokenizer;
  std::string plan;        ///< JSON file of allocate_bits; empty: the same format for all layers
  std::string sensitivity; ///< JSON file to write
  double temperature = 0;
  std::optional<qlr::index_t> tokens; ///< empty: default_tokens, or what the context leaves
  std::string prompt;
  bool evaluate = false;
  qlr::precision mode = qlr::precision::exact;
  qlr::isa instruction_set = qlr::isa::scalar;
  std::string json;
  bool quiet = false;
  std::string compression_option; ///< the first one given that says how to compress; empty: none

  static constexpr qlr::index_t default_tokens = 256;

  /// False for the method none: the weights as they are.
  [[nodiscard]] bool is_compressed() const { return method != "none"; }
};

/// Parses the command line; prints help to standard output and exits with 0 when asked to.
///
/// @throws qlr::error invalid_argument: an unknown option or a value that is not allowed
/// @throws qlr::error unsupported: an instruction set that this machine lacks
[[nodiscard]] arguments parse_arguments(int argc, char** argv);
