// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/adapter.hpp>

#include <string>

/// The command line of quantize_adapter, checked as far as it can be without opening a file.
struct arguments {
  std::string input;
  qlr::adapter_options options;
  std::string output; ///< packed
  std::string peft;   ///< folder for a PEFT adapter
  std::string peft_type = "fp16";
  std::string json;
  int threads = 0;
  bool quiet = false;
};

/// Parses the command line; prints help to standard output and exits with 0 when asked to.
///
/// @throws qlr::error invalid_argument: an unknown option or a value that is not allowed
[[nodiscard]] arguments parse_arguments(int argc, char** argv);

[[nodiscard]] const char* to_string(qlr::adapter_refinement refinement);
