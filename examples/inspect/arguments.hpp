// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <optional>
#include <regex>
#include <string>

/// The command line of inspect, checked as far as it can be without opening a file.
struct arguments {
  std::string path;
  std::optional<std::regex> names; ///< absent: all
  qlr::index_t limit = 0;          ///< 0: all
  std::string sort = "file";
  std::string json;
  bool quiet = false;
};

/// Parses the command line; prints help to standard output and exits with 0 when asked to.
///
/// @throws qlr::error invalid_argument: an unknown option or a value that is not allowed
[[nodiscard]] arguments parse_arguments(int argc, char** argv);
