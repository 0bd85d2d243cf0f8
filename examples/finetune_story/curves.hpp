// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <vector>

/// Losses of a method along its training, over several seeds.
struct curve {
  std::string name{};
  std::vector<double> steps{}; ///< ascending
  std::vector<double> mean{};  ///< as many as steps
  std::vector<double> low{};   ///< likewise, or empty: without a band
  std::vector<double> high{};  ///< likewise
};

/// A drawing of the curves against their steps, with names beside it: a complete SVG file that refers to
/// nothing outside.
///
/// Colours, dashes and marks tell the curves apart, each of which is enough for the first five. Where a
/// number is not finite, or beyond 1e30, the curve has a gap.
/// @throws qlr::error invalid_argument: the numbers of a curve are not equally many
/// @determinism the same curves give the same bytes
[[nodiscard]] std::string loss_chart(std::string_view title, std::string_view x_label,
                                     std::string_view y_label, const std::vector<curve>& curves);
