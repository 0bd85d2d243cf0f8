// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <common/command_line.hpp>

#include <optional>
#include <string>

/// The command line of decompose_matrix, checked as far as it can be without opening a file.
struct arguments : decomposition_arguments {
  std::string input; ///< empty: the built-in matrix
  std::string tensor;
  bool list = false;
  std::string device = "cpu";
  std::string calibration;
  std::string metric;            ///< empty: what the method can use of the calibration
  std::optional<double> damping; ///< of the covariance; empty: by method
  bool feedback = false;         ///< quantize with error feedback, whatever the method does
  std::optional<int> polish;     ///< rounds of coordinate descent after the method; empty: by method
  int activation_bits = 16;      ///< svdquant: width of the inputs
  std::string form = "joint";
  std::string given; ///< fixed_q: a decomposition whose Q is kept; empty: W is rounded
  std::string output;
  std::string reconstruct;
  std::string json;
  bool quiet = false;
};

/// Parses the command line; prints help to standard output and exits with 0 when asked to.
///
/// @throws qlr::error invalid_argument: an unknown option or a value that is not allowed
[[nodiscard]] arguments parse_arguments(int argc, char** argv);
