// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <decompose_matrix/arguments.hpp>
#include <decompose_matrix/input.hpp>

#include <qlr/decompose/input_covariance.hpp>
#include <qlr/decompose/result.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Everything that is told about a finished run.
struct report {
  const arguments& args;
  const weight_source& source;
  const qlr::decompose_result& result;
  std::string svd_routine{};
  std::string simd{};
  int threads = 1;
  double relative_error = 0;
  double relative_error_quantized_only = 0;
  double weighted_error = 0;
  std::optional<double> relative_output_error{};
  double seconds_total = 0;
  std::string_view metric{};
  const qlr::input_covariance* covariance = nullptr; ///< of the metric, or null
  std::vector<std::string> notes{};                  ///< what of the calibration was left out
};

[[nodiscard]] double bits_per_weight(const qlr::decomposition& parts);

/// Most memory the process has held, in bytes; 0 where the system does not tell.
[[nodiscard]] long long peak_rss_bytes();

/// Heading of the table of iterations.
void print_header(const arguments& args, const weight_source& source, std::string_view metric,
                  const std::vector<std::string>& notes);
void print_iteration(const qlr::iteration_report& iteration);
void print_summary(const report& run);

/// Pretty-printed, one key per line.
[[nodiscard]] std::string to_json(const report& run);
