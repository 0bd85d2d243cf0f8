// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <decompose/support.hpp>
#include <support/catch.hpp>
#include <support/golden.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

// The rows of golden_errors.json and how results are compared with them.
namespace qlr::test {

inline constexpr scale_format fp32_scales{scale_coding::plain, scale_type::fp32};

[[nodiscard]] inline const matrix<float>& golden_weight() {
  static const matrix<float> w = golden_inputs().read_matrix("W");
  return w;
}
[[nodiscard]] inline const matrix<float>& golden_fisher() {
  static const matrix<float> fisher = golden_inputs().read_matrix("fisher");
  return fisher;
}

/// X^T X (n,n): output errors are quadratic forms of it.
[[nodiscard]] inline const std::vector<double>& token_covariance() {
  static const std::vector<double> sum = [] {
    const matrix<float> x = golden_inputs().read_matrix("X");
    const index_t n = x.cols();
    std::vector<double> h(static_cast<std::size_t>(n * n));
    for (index_t t = 0; t < x.rows(); ++t) {
      for (index_t i = 0; i < n; ++i) {
        const auto left = static_cast<double>(x(t, i));
        for (index_t j = 0; j < n; ++j) {
          h[static_cast<std::size_t>(i * n + j)] += left * static_cast<double>(x(t, j));
        }
      }
    }
    return h;
  }();
  return sum;
}

/// ||X e^T||_F^2 for e (m,n).
[[nodiscard]] inline double output_energy(const matrix<float>& e) {
  const std::vector<double>& h = token_covariance();
  const index_t n = e.cols();
  double energy = 0;
  for (index_t row = 0; row < e.rows(); ++row) {
    std::vector<double> product(static_cast<std::size_t>(n)); // e_row X^T X
    for (index_t i = 0; i < n; ++i) {
      const auto factor = static_cast<double>(e(row, i));
      const double* const h_row = h.data() + i * n;
      for (index_t j = 0; j < n; ++j) product[static_cast<std::size_t>(j)] += factor * h_row[j];
    }
    for (index_t j = 0; j < n; ++j) {
      energy += product[static_cast<std::size_t>(j)] * static_cast<double>(e(row, j));
    }
  }
  return energy;
}

/// The four errors of golden_errors.json.
struct errors {
  double fro = 0;
  double fro_q_only = 0;
  double output = 0;
  double fisher = 0;
};

[[nodiscard]] inline matrix<float> difference(const matrix<float>& a, const matrix<float>& b) {
  matrix<float> result(a.rows(), a.cols());
  for (index_t i = 0; i < a.size(); ++i) result.data()[i] = a.data()[i] - b.data()[i];
  return result;
}

[[nodiscard]] inline errors errors_of(const decomposition& parts) {
  const matrix<float>& w = golden_weight();
  const matrix<float> dense = dense_of(parts);
  decomposition without_factors{parts.quantized, matrix<float>(w.rows(), 0), matrix<float>(0, w.cols())};
  const matrix<float> zero(w.rows(), w.cols(), 0.0F);
  double fisher_error = 0;
  double fisher_norm = 0;
  for (index_t i = 0; i < w.size(); ++i) {
    const auto weight = static_cast<double>(golden_fisher().data()[i]);
    fisher_error +=
        weight * std::pow(static_cast<double>(w.data()[i]) - static_cast<double>(dense.data()[i]), 2);
    fisher_norm += weight * std::pow(static_cast<double>(w.data()[i]), 2);
  }
  const double norm = squared_error(w, zero);
  return {std::sqrt(squared_error(w, dense) / norm),
          std::sqrt(squared_error(w, dense_of(without_factors)) / norm),
          std::sqrt(output_energy(difference(w, dense)) / output_energy(w)),
          std::sqrt(fisher_error / fisher_norm)};
}

struct golden_row {
  std::string method;
  std::string setting;
  errors expected;
};

/// The rows of the methods whose name begins with `method`.
[[nodiscard]] inline std::vector<golden_row> golden_rows(const std::string& method) {
  std::ifstream file(golden_folder() + "/golden_errors.json");
  std::vector<golden_row> rows;
  for (const auto& row : nlohmann::json::parse(file)) {
    const std::string name = row.at("method").get<std::string>();
    if (name.substr(0, method.size()) != method) continue;
    rows.push_back({name,
                    row.at("setting").get<std::string>(),
                    {row.at("rel_fro").get<double>(), row.at("rel_fro_q_only").get<double>(),
                     row.at("rel_output").get<double>(), row.at("rel_fisher").get<double>()}});
  }
  return rows;
}

[[nodiscard]] inline decompose_result run_exact(std::string_view method, const any_quantizer& quantizer,
                                                index_t rank, std::optional<int> iterations = {},
                                                const metric& weights = {}) {
  decompose_options options = options_of(method, rank, factor_storage::fp32, svd_method::exact);
  if (iterations) options.steps.iterations = *iterations;
  return split(golden_weight().view(), quantizer, options, weights);
}

inline void print(const golden_row& row, const errors& found, const decompose_result& result) {
  std::printf("%-12s %-66s fro %.6f/%.6f q %.6f/%.6f out %.6f/%.6f fisher %.6f/%.6f (%d its)\n",
              row.method.substr(0, 12).c_str(), row.setting.c_str(), found.fro, row.expected.fro,
              found.fro_q_only, row.expected.fro_q_only, found.output, row.expected.output, found.fisher,
              row.expected.fisher, result.iterations_run);
}

/// Compares one row; a result whose iterates are those of the original is within 1e-4, an alternating loop
/// within 0.5 % in the norm that it minimises, and twice that in others.
inline void compare(const golden_row& row, const decompose_result& result, double tolerance_rel) {
  CAPTURE(row.method, row.setting);
  const errors found = errors_of(result.best);
  print(row, found, result);
  const errors& expected = row.expected;
  const double others = tolerance_rel <= 1e-4 ? tolerance_rel : 2 * tolerance_rel;
  CHECK(is_near(found.fro, expected.fro, tolerance_rel * expected.fro));
  CHECK(is_near(found.fro_q_only, expected.fro_q_only, others * expected.fro_q_only));
  CHECK(is_near(found.output, expected.output, others * expected.output));
  CHECK(is_near(found.fisher, expected.fisher, others * expected.fisher));
}

[[nodiscard]] inline bool mentions(const golden_row& row, const char* part) {
  return row.setting.find(part) != std::string::npos;
}

} // namespace qlr::test
