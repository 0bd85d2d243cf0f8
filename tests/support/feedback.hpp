// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/decompose/input_covariance.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/quant/formats.hpp>

#include <vector>

namespace qlr::test {

// What takes long to compile, so feedback.cpp does it once for all test programs.

/// host::column_coupling.
struct host_coupling {
  std::vector<index_t> order;
  matrix<float> feedback;
  matrix<float> descent;
  std::vector<float> importance;
};

/// host::make_coupling.
[[nodiscard]] host_coupling couple(const input_covariance& h, const matrix<float>& right,
                                   const feedback_options& options, coupling_use use);
/// host::make_coupling and host::round_with_feedback.
[[nodiscard]] quantized_matrix feed_back(const any_quantizer& quantizer, const matrix<float>& w,
                                         const input_covariance& h, const matrix<float>& right,
                                         const feedback_options& options, const executor& run = {});
/// host::make_coupling and host::round_by_descent.
[[nodiscard]] quantized_matrix descend(const any_quantizer& quantizer, const quantized_matrix& q,
                                       const matrix<float>& w, const input_covariance& h,
                                       const matrix<float>& right, int passes, const executor& run = {},
                                       const feedback_options& options = {});

} // namespace qlr::test
