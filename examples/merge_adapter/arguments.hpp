// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/factor_storage.hpp>
#include <qlr/decompose/merge.hpp>

#include <optional>
#include <string>

/// The command line of merge_adapter, checked as far as it can be without opening a file.
struct arguments {
  std::string base;
  std::string adapter;
  std::string module; ///< empty: the only one
  std::string weight; ///< of a checkpoint; empty: that of the module
  bool merge = false; ///< into the codes; otherwise beside the factors
  qlr::merge_options options;
  std::optional<qlr::factor_storage> storage;
  std::string output;
  std::string json;
  int threads = 0;
  bool quiet = false;
};

/// Parses the command line; prints help to standard output and exits with 0 when asked to.
///
/// @throws qlr::error invalid_argument: an unknown option or a value that is not allowed
[[nodiscard]] arguments parse_arguments(int argc, char** argv);
