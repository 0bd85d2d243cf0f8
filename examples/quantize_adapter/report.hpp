// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <quantize_adapter/arguments.hpp>

#include <qlr/io/peft.hpp>

#include <string>
#include <vector>

/// What became of every pair.
struct report {
  const arguments& args;
  const std::vector<qlr::io::peft_pair>& pairs;
  std::vector<qlr::adapter_result> results; ///< without codes where they are not needed any more
  std::vector<double> norms;                ///< ||s L R||_F of each pair
  double seconds = 0;
  int threads = 1;

  /// ||all differences||_F / ||all s L R||_F.
  [[nodiscard]] double relative_error() const;
  [[nodiscard]] double bits_without_scales() const;
  [[nodiscard]] double bits_with_scales() const;
  [[nodiscard]] qlr::index_t packed_bytes() const;
};

/// A line for each pair and one for all.
void print_table(const report& result);

[[nodiscard]] std::string to_json(const report& result);
