// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <merge_adapter/arguments.hpp>

#include <qlr/decompose/result.hpp>
#include <qlr/io/peft.hpp>

#include <optional>
#include <string>

/// What became of the pair.
struct report {
  const arguments& args;
  const qlr::io::peft_pair& pair;
  const qlr::decomposition& base;
  qlr::decomposition parts;
  std::optional<qlr::merge_report> merge; ///< with --merge
  double concatenation_error = 0;         ///< without

  [[nodiscard]] double relative_error() const { return merge ? merge->relative_error : concatenation_error; }
};

/// ||(change of s L R) - D|| / ||D|| for D = scale left right, in double; 0 for D = 0.
[[nodiscard]] double measure_concatenation(const qlr::decomposition& base, const qlr::matrix<float>& left,
                                           const qlr::matrix<float>& right, float scale,
                                           const qlr::decomposition& parts);

void print_table(const report& result);

[[nodiscard]] std::string to_json(const report& result);
