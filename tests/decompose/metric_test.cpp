// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/metric.hpp>

#include <decompose/support.hpp>
#include <support/catch.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

matrix<float> squares(matrix<float> x) {
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] *= x.data()[i];
  return x;
}

struct means {
  std::vector<float> rows;
  std::vector<float> cols;
};

means means_of(const matrix<float>& x) {
  std::vector<double> rows(static_cast<std::size_t>(x.rows()));
  std::vector<double> cols(static_cast<std::size_t>(x.cols()));
  for (index_t i = 0; i < x.rows(); ++i) {
    for (index_t j = 0; j < x.cols(); ++j) {
      rows[static_cast<std::size_t>(i)] += static_cast<double>(x(i, j)) / static_cast<double>(x.cols());
      cols[static_cast<std::size_t>(j)] += static_cast<double>(x(i, j)) / static_cast<double>(x.rows());
    }
  }
  return {{rows.begin(), rows.end()}, {cols.begin(), cols.end()}};
}

} // namespace

TEST_CASE("metric: weights are the roots of importances, or of the means of a Fisher matrix", "[decompose]") {
  const metric given = make_metric({4, 9}, {1, 16, 0.25F}, 2, 3);
  CHECK(given.row_weights == std::vector<float>{2, 3});
  CHECK(given.col_weights == std::vector<float>{1, 4, 0.5F});
  CHECK(given.elements.is_empty());
  matrix<float> fisher(2, 3);
  for (index_t i = 0; i < 6; ++i) fisher.data()[i] = static_cast<float>(i + 1); // 1 2 3 / 4 5 6
  const metric made = make_fisher_metric(fisher.view(), 2, 3);
  CHECK(made.row_weights == std::vector<float>{std::sqrt(2.0F), std::sqrt(5.0F)});
  CHECK(made.col_weights == std::vector<float>{std::sqrt(2.5F), std::sqrt(3.5F), std::sqrt(4.5F)});
  CHECK(made.elements.data() == fisher.data());
}

TEST_CASE("metric: identity means no weights at all", "[decompose]") {
  CHECK(metric{}.is_identity());
  CHECK(make_metric({}, {}, 2, 3).is_identity());
  CHECK_FALSE(make_metric({1, 1}, {}, 2, 3).is_identity());
  CHECK_FALSE(make_metric({}, {1, 1, 1}, 2, 3).is_identity());
}

TEST_CASE("metric: zero importances become a floor of 1e-6 of the mean", "[decompose]") {
  const metric made = make_metric({0, 8}, {}, 2, 3);
  CHECK(is_near(static_cast<double>(made.row_weights[0]), 2e-6, 1e-12));
  CHECK(made.row_weights[1] == std::sqrt(8.0F));
}

TEST_CASE("metric: impossible importances are refused", "[decompose]") {
  CHECK(report_of([] {
          (void)make_metric({1, 2}, {}, 3, 4);
        }).says(status_code::shape_mismatch, "row importance has 2 entries, the weight matrix needs 3"));
  CHECK(report_of([] {
          (void)make_metric({}, {1, 2, 3, 4, 5}, 3, 4);
        }).says(status_code::shape_mismatch, "column importance has 5 entries, the weight matrix needs 4"));
  CHECK(report_of([] {
          (void)make_metric({1, nan_value, 2}, {}, 3, 4);
        }).says(status_code::non_finite, "row importance[1] is nan, it must be finite"));
  CHECK(report_of([] {
          (void)make_metric({}, {1, 2, 3, -0.5F}, 3, 4);
        }).says(status_code::invalid_argument, "column importance[3] is -0.5, it must be >= 0"));
  CHECK(report_of([] {
          (void)make_metric({0, 0, 0}, {}, 3, 4);
        })
            .says(status_code::invalid_argument,
                  "row importance is all zero, at least one entry must be positive"));
}

TEST_CASE("metric: an impossible Fisher matrix is refused", "[decompose]") {
  matrix<float> fisher(3, 4, 1.0F);
  const auto refusal = [&] { return report_of([&] { (void)make_fisher_metric(fisher.view(), 3, 4); }); };
  CHECK(refusal().message.empty());
  CHECK(report_of([&] {
          (void)make_fisher_metric(fisher.view(), 4, 3);
        }).says(status_code::shape_mismatch, "fisher is 3 x 4, the weight matrix is 4 x 3"));
  CHECK(report_of([&] {
          (void)make_fisher_metric(fisher.view().transposed(), 4, 3);
        }).says(status_code::unsupported, "fisher must have contiguous rows"));
  fisher(2, 1) = -2.0F;
  CHECK(refusal().says(status_code::invalid_argument, "fisher(2, 1) is -2, it must be >= 0"));
  fisher(2, 1) = nan_value;
  CHECK(refusal().says(status_code::non_finite, "fisher(2, 1) is nan"));
  fisher(2, 1) = std::numeric_limits<float>::infinity();
  CHECK(refusal().says(status_code::non_finite, "fisher(2, 1) is inf"));
  fisher.fill(0.0F);
  CHECK(refusal().says(status_code::invalid_argument,
                       "fisher is all zero, at least one entry must be positive"));
}

TEST_CASE("metric: a Fisher matrix weighs each element, its means the low-rank step", "[decompose]") {
  const matrix<float> w = realistic_matrix(16, 40, 1);
  const matrix<float> fisher = squares(normal_matrix(16, 40, 2));
  const means averages = means_of(fisher);
  const metric elementwise = make_fisher_metric(fisher.view(), 16, 40);
  const metric rank_one = make_metric(averages.rows, averages.cols, 16, 40);
  const auto result = [&](const metric& weights) {
    return split(w.view(), small_groups("nf3", 8),
                 options_of("zeroquant-v2", 3, factor_storage::fp32, svd_method::exact), weights);
  };
  const decompose_result a = result(elementwise);
  const decompose_result b = result(rank_one);
  const matrix<float> product_a = dense_of(a.best);
  const matrix<float> product_b = dense_of(b.best);
  double norm = 0;
  for (index_t i = 0; i < w.size(); ++i) norm += std::pow(static_cast<double>(w.data()[i]), 2);
  CHECK(squared_error(product_a, product_b) <= 1e-10 * norm); // means in double and float: a relative 1e-5
  CHECK(is_near(a.weighted_error, measure(w, a.best, elementwise).weighted_error, 1e-6));
  CHECK(is_near(b.weighted_error, measure(w, b.best, rank_one).weighted_error, 1e-6));
  CHECK(std::fabs(a.weighted_error - b.weighted_error) > 1e-3); // so the two are told apart
}

TEST_CASE("metric: the low-rank step is optimal in the metric", "[decompose][property]") {
  const matrix<float> w = realistic_matrix(16, 40, 3);
  const matrix<float> fisher = squares(normal_matrix(16, 40, 4));
  means averages = means_of(fisher);
  for (float& value : averages.rows) value *= value * value * value; // far from constant
  const metric weights = make_metric(averages.rows, averages.cols, 16, 40);
  const decompose_options options = options_of("zeroquant-v2", 3, factor_storage::fp32, svd_method::exact);
  const decompose_result weighted = split(w.view(), small_groups("nf3", 8), options, weights);
  const decompose_result plain = split(w.view(), small_groups("nf3", 8), options);
  CHECK(has_same_bytes(weighted.best.quantized, plain.best.quantized));
  CHECK(weighted.weighted_error < 0.99 * measure(w, plain.best, weights).weighted_error);
  CHECK(plain.relative_error < 0.99 * weighted.relative_error);
}

TEST_CASE("metric: Fisher matrices with zero rows and columns give finite results", "[decompose]") {
  const matrix<float> w = realistic_matrix(16, 40, 5);
  matrix<float> fisher = squares(normal_matrix(16, 40, 6));
  for (index_t j = 0; j < 40; ++j) fisher(3, j) = 0.0F;
  for (index_t i = 0; i < 16; ++i) fisher(i, 7) = fisher(i, 8) = 0.0F;
  const metric weights = make_fisher_metric(fisher.view(), 16, 40);
  for (const std::string_view method : all_methods) {
    CAPTURE(std::string(method));
    for (const factor_storage factors : {factor_storage::fp32, factor_storage::int8}) {
      const decompose_result result =
          split(w.view(), small_groups("nf4", 8), options_of(method, 4, factors), weights);
      CHECK(is_all_finite(result.best.left));
      CHECK(is_all_finite(result.best.right));
      CHECK(is_near(result.weighted_error, measure(w, result.best, weights).weighted_error, 1e-5));
      CHECK(result.weighted_error < 0.12);
    }
  }
}
