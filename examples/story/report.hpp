// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <story/arguments.hpp>
#include <story/compress.hpp>
#include <story/evaluate.hpp>

#include <optional>
#include <string>

/// Everything that is told about a finished run.
struct report {
  const arguments& args;
  const compression& layers;
  std::string text{};
  qlr::index_t prompt_tokens = 0; ///< the begin of text included
  qlr::index_t tokens = 0;        ///< generated
  double seconds = 0;             ///< for them
  int threads = 1;
  std::optional<evaluation> quality{};
};

/// The model and what its layers became; printed before the text.
void print_header(const arguments& args, const model_config& config, const compression& layers);
/// Speed and quality; printed after the text.
void print_summary(const report& run);

/// Pretty-printed, one key per line; null for what does not apply.
[[nodiscard]] std::string to_json(const report& run);
