// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/options.hpp>
#include <qlr/quant/formats.hpp>

#include <CLI/CLI.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

/// What a command line says about a decomposition.
struct decomposition_arguments {
  std::string method = "best";
  std::string quantizer; ///< empty: what the method is usually combined with
  qlr::format_options format;
  int factor_bits = 16;
  qlr::index_t rank = 16;
  std::optional<int> iterations;
  std::uint64_t seed = 0;
  std::string svd = "randomized";
  int threads = 0;
  std::string scale; ///< as given; see check_decomposition_arguments
};

/// Adds the options of a decomposition, --threads, --version and, below the help, all methods and formats.
///
/// @param seed_help  what the seed is for
void add_decomposition_options(CLI::App& app, decomposition_arguments& args, const char* seed_help);

/// Parses; prints help or version to standard output and exits with 0 when asked to.
///
/// @throws qlr::error invalid_argument: an unknown option, a value of the wrong kind, an empty value
void parse(CLI::App& app, int argc, char** argv);

/// Checks what can be checked without a matrix and fills in the format and the method's usual quantizer.
///
/// @throws qlr::error invalid_argument: a value that is not allowed
void check_decomposition_arguments(decomposition_arguments& args);

/// @throws qlr::error invalid_argument: the value is none of the names
void require_one_of(std::string_view option, std::string_view value, std::span<const std::string_view> names);

/// @throws qlr::error invalid_argument: threads is below 0 or above 1024
void check_threads(int threads);

[[nodiscard]] qlr::decompose_options make_options(const decomposition_arguments& args);
