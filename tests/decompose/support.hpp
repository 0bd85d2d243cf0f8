// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/metric.hpp>
#include <qlr/decompose/presets.hpp>
#include <qlr/decompose/result.hpp>

#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

namespace qlr::test {

// What takes long to compile is compiled once, in decomposer_test.cpp.

[[nodiscard]] decompose_result split(matrix_view<const float> weight, const any_quantizer& quantizer,
                                     const decompose_options& options, const metric& weights = {},
                                     const executor& run = {});
/// make_quantizer.
[[nodiscard]] any_quantizer named(std::string_view format, const format_options& request = {});
/// reconstruct.
[[nodiscard]] matrix<float> dense_of(const decomposition& parts);
/// round_factor.
void store(matrix<float>& vectors, factor_storage storage);
/// factor_bytes.
[[nodiscard]] index_t bytes_of_factor(index_t rank, index_t length, factor_storage storage);

inline constexpr std::string_view all_methods[] = {
    "qlora", "loftq", "lq-lora", "zeroquant-v2", "lqer", "l2qer", "qera-approx",    "qera-exact",
    "eora",  "gptq",  "caldera", "svdquant",     "srr",  "odlri", "gptq-intrinsic", "best"};

[[nodiscard]] inline decompose_options options_of(std::string_view method, index_t rank,
                                                  factor_storage factors = factor_storage::fp32,
                                                  svd_method svd = svd_method::randomized) {
  decompose_options options;
  options.rank = rank;
  options.steps = find_preset(method).steps;
  options.svd = svd;
  options.factors = factors;
  return options;
}

/// Short groups and exact scales, so that small matrices have several groups and no range limits.
[[nodiscard]] inline any_quantizer small_groups(std::string_view format, index_t group_size = 16) {
  return named(format, {group_size, scale_format{scale_coding::plain, scale_type::fp32}, false});
}

/// Heavy-tailed weights plus a planted part of the given rank with half of their energy.
[[nodiscard]] inline matrix<float> realistic_matrix(index_t rows, index_t cols, std::uint64_t seed,
                                                    index_t planted_rank = 6) {
  matrix<float> w = weight_like_matrix(rows, cols, seed);
  const matrix<float> left = normal_matrix(rows, planted_rank, seed + 1);
  const matrix<float> right = normal_matrix(planted_rank, cols, seed + 2);
  double energy = 0;
  for (index_t i = 0; i < w.size(); ++i) energy += std::pow(static_cast<double>(w.data()[i]), 2);
  const double unit = std::sqrt(energy / static_cast<double>(w.size() * planted_rank));
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < cols; ++j) {
      double planted = 0;
      for (index_t k = 0; k < planted_rank; ++k)
        planted += static_cast<double>(left(i, k)) * static_cast<double>(right(k, j));
      w(i, j) += static_cast<float>(unit * planted);
    }
  }
  return w;
}

[[nodiscard]] inline bool is_all_finite(const matrix<float>& x) {
  return std::all_of(x.data(), x.data() + x.size(), [](float value) { return is_finite(value); });
}

[[nodiscard]] inline bool has_same_bits(const matrix<float>& a, const matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::equal(a.data(), a.data() + a.size(), b.data(), is_same);
}

[[nodiscard]] inline bool has_same_bits(const decompose_result& a, const decompose_result& b) {
  const auto is_equal = [](const iteration_report& x, const iteration_report& y) {
    return x.iteration == y.iteration && x.relative_error == y.relative_error &&
           x.weighted_error == y.weighted_error && x.is_best == y.is_best;
  };
  return has_same_bytes(a.best.quantized, b.best.quantized) && has_same_bits(a.best.left, b.best.left) &&
         has_same_bits(a.best.right, b.best.right) &&
         std::equal(a.history.begin(), a.history.end(), b.history.begin(), b.history.end(), is_equal);
}

/// Errors of a decomposition, walking the stored bits and multiplying in double precision.
struct measurement {
  double relative_error = 0;
  double weighted_error = 0;
  double rounding =
      0; ///< what single-precision residuals may change: 2^-22 of what is added up, relative to W
};

[[nodiscard]] inline measurement measure(const matrix<float>& w, const decomposition& parts,
                                         const metric& weights = {}) {
  const matrix<float> q = slow_dequantize(parts.quantized);
  double energies[4] = {}; // error and norm, plain and weighted
  double magnitude = 0;
  double covariance_error = 0;
  double covariance_norm = 0;
  std::vector<double> errors(static_cast<std::size_t>(w.cols()));
  for (index_t i = 0; i < w.rows(); ++i) {
    for (index_t j = 0; j < w.cols(); ++j) {
      const auto original = static_cast<double>(w(i, j));
      const auto quantized = static_cast<double>(q(i, j));
      double error = original - quantized;
      double terms = std::fabs(original) + std::fabs(quantized);
      for (index_t k = 0; k < parts.rank(); ++k) {
        const double term = static_cast<double>(parts.scale) * static_cast<double>(parts.left(i, k)) *
                            static_cast<double>(parts.right(k, j));
        error -= term;
        terms += std::fabs(term);
      }
      double weight = 1;
      if (!weights.elements.is_empty()) {
        weight = static_cast<double>(weights.elements(i, j));
      } else {
        if (!weights.row_weights.empty())
          weight *= std::pow(static_cast<double>(weights.row_weights[static_cast<std::size_t>(i)]), 2);
        if (!weights.col_weights.empty())
          weight *= std::pow(static_cast<double>(weights.col_weights[static_cast<std::size_t>(j)]), 2);
      }
      energies[0] += error * error;
      energies[1] += original * original;
      energies[2] += weight * error * error;
      energies[3] += weight * original * original;
      magnitude += terms * terms;
      errors[static_cast<std::size_t>(j)] = error;
    }
    if (!weights.has_covariance()) continue;
    const matrix<double>& h = weights.covariance->values;
    for (index_t j = 0; j < w.cols(); ++j) {
      for (index_t l = 0; l < w.cols(); ++l) {
        covariance_error +=
            errors[static_cast<std::size_t>(j)] * h(j, l) * errors[static_cast<std::size_t>(l)];
        covariance_norm += static_cast<double>(w(i, j)) * h(j, l) * static_cast<double>(w(i, l));
      }
    }
  }
  if (weights.has_covariance()) {
    energies[2] = covariance_error;
    energies[3] = covariance_norm;
  }
  const auto ratio = [](double error, double norm) { return norm > 0 ? std::sqrt(error / norm) : 0.0; };
  return {ratio(energies[0], energies[1]), ratio(energies[2], energies[3]),
          0x1p-22 * ratio(magnitude, energies[1])};
}

/// Everything that must hold for any result of any method. Returns what does not, or nothing.
[[nodiscard]] inline std::string_view defect_of(const matrix<float>& w, const decompose_result& result,
                                                const metric& weights = {}) {
  const decomposition& parts = result.best;
  if (parts.rows() != w.rows() || parts.cols() != w.cols()) return "shape of Q";
  if (parts.left.rows() != w.rows() || parts.left.cols() != parts.rank()) return "shape of L";
  if (parts.right.cols() != w.cols()) return "shape of R";
  if (!is_all_finite(parts.left) || !is_all_finite(parts.right)) return "factors are not finite";
  if (!is_all_finite(dense_of(parts))) return "reconstruction is not finite";
  const measurement slow = measure(w, parts, weights);
  // The metric may weigh the elements with the largest rounding most, hence no bound from `rounding` alone.
  const double weighted_slack = weights.is_identity() ? slow.rounding : 1e-5;
  if (!is_near(result.relative_error, slow.relative_error, slow.rounding)) return "relative_error";
  if (!is_near(result.weighted_error, slow.weighted_error, weighted_slack)) return "weighted_error";
  double least = result.history.empty() ? -1.0 : result.history.front().weighted_error;
  double so_far = 2 * least + 1;
  for (const iteration_report& line : result.history) {
    least = std::min(least, line.weighted_error);
    if (line.is_best != (line.weighted_error < so_far)) return "is_best";
    so_far = std::min(so_far, line.weighted_error);
  }
  if (result.weighted_error != least) return "the returned iterate is not the best one";
  if (result.history.back().iteration != result.iterations_run) return "iterations_run";
  return {};
}

} // namespace qlr::test
