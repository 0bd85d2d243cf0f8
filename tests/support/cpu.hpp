// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/decompose/metric.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/quant/formats.hpp>

#include <cstdint>
#include <vector>

namespace qlr::test {

// The CPU's results for tests of other backends, without Eigen's headers: programs that a CUDA compiler makes
// must not share Eigen's functions with those that the host's compiler makes for its own machine.

/// host::eigen_backend.
struct cpu_backend {
  static void copy_rows(const matrix<float>& in, index_t in_first, matrix<float>& out, index_t out_first);
  static void copy_cols(const matrix<float>& in, matrix<float>& out);
  static void gemm(transpose tb, float alpha, const matrix<float>& a, const matrix<float>& b, float beta,
                   matrix<float>& out);
  static void fill_random(matrix<float>& out, index_t first_row, std::uint64_t seed);
  static void scale_rows(matrix<float>& x, const matrix<float>& values, float power);
  static void scale_cols(matrix<float>& x, const std::vector<float>& weights, bool invert);
  static void apply_metric(const metric& weights, matrix<float>& x);
  static void solve_gram(const matrix<float>& basis, matrix<float>& rhs);
  static void subtract_product(matrix_view<const float> weight, const matrix<float>& left,
                               const matrix<float>& right, matrix<float>& out);
  [[nodiscard]] static matrix<float> row_norms(const matrix<float>& x);
  [[nodiscard]] static double dot(const matrix<float>& a, const matrix<float>& b);
};

/// qlr::decompose.
[[nodiscard]] decompose_result decompose_on_cpu(matrix_view<const float> weight,
                                                const any_quantizer& quantizer,
                                                const decompose_options& options, const metric& weights = {});

/// make_covariance_metric.
[[nodiscard]] metric covariance_metric(const matrix<double>& covariance, double damping = 0);

} // namespace qlr::test
