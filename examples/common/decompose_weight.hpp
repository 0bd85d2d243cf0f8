// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/decompose/calibration.hpp>
#include <qlr/decompose/metric.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/decompose/presets.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/quant/formats.hpp>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

// What takes long to compile, compiled once for all programs.

/// qlr::decompose.
[[nodiscard]] qlr::decompose_result decompose_weight(qlr::matrix_view<const float> weight,
                                                     const qlr::any_quantizer& quantizer,
                                                     const qlr::decompose_options& options,
                                                     const qlr::metric& weights, const qlr::executor& run);

/// A metric and what it is called.
struct named_metric {
  std::string_view kind;
  qlr::metric metric;
};

/// The metric of a method for W (m,n).
///
/// @param forced  none | fisher | diagonal | covariance; empty: what the method can use
/// @param data    that host::complete has seen; must outlive the metric
/// @throws qlr::error as qlr::make_method_metric
[[nodiscard]] named_metric make_named_metric(const qlr::preset& method, const qlr::calibration_data& data,
                                             std::string_view forced, qlr::index_t rows, qlr::index_t cols,
                                             const qlr::executor& run);

/// ||(W - W_hat) X^T|| / ||W X^T|| for the activations or the covariance, whichever there is.
[[nodiscard]] std::optional<double> relative_output_error(qlr::matrix_view<const float> weight,
                                                          qlr::matrix_view<const float> approximate,
                                                          const qlr::calibration_data& data,
                                                          const qlr::executor& run);

/// The leading singular values of W, at most `count`, by a randomized SVD.
[[nodiscard]] std::vector<float> leading_singular_values(qlr::matrix_view<const float> weight,
                                                         qlr::index_t count, std::uint64_t seed,
                                                         const qlr::executor& run);

/// The singular values of s L R.
[[nodiscard]] std::vector<float> singular_values_of_product(const qlr::decomposition& parts,
                                                            const qlr::executor& run);
