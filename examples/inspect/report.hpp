// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <inspect/arguments.hpp>
#include <inspect/contents.hpp>

#include <string>
#include <vector>

/// What is told about a file.
struct report {
  const arguments& args;
  const contents& found;
  std::vector<const item*> rows{}; ///< that --names finds, in the order of --sort
};

/// Chooses and orders the rows.
[[nodiscard]] report make_report(const arguments& args, const contents& found);

void print_report(const report& result);

/// Pretty-printed; null for what does not apply.
[[nodiscard]] std::string to_json(const report& result);
