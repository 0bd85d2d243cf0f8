// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/low_rank_step.hpp>

#include <qlr/host/backend.hpp>
#include <qlr/host/covariance.hpp>

#include <decompose/support.hpp>
#include <support/catch.hpp>
#include <support/exact_svd.hpp>
#include <support/small_svd.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

using factors_of = factor_pair<matrix<float>>;

decompose_options options_with(int refits, factor_storage storage, sigma_split split = sigma_split::right) {
  decompose_options options;
  options.factors = storage;
  options.steps.factor_refits = refits;
  options.steps.split = split;
  return options;
}

factors_of fit(const matrix<float>& error, index_t rank, const metric& weights,
               const decompose_options& options, const executor& run = {}) {
  const host::eigen_backend backend(run);
  low_rank_step<host::eigen_backend> step(backend, weights, options);
  matrix<float> work(error);
  return step.fit(work, rank);
}

/// tr(D (E - L R) H (E - L R)^T D), H = S^2 where the metric is diagonal.
double slow_error(const matrix<float>& error, const factors_of& factors, const metric& weights) {
  double sum = 0;
  std::vector<double> row(static_cast<std::size_t>(error.cols()));
  for (index_t i = 0; i < error.rows(); ++i) {
    const double d = weights.row_weights.empty()
                         ? 1.0
                         : static_cast<double>(weights.row_weights[static_cast<std::size_t>(i)]);
    for (index_t j = 0; j < error.cols(); ++j) {
      double value = static_cast<double>(error(i, j));
      for (index_t k = 0; k < factors.left.rows(); ++k)
        value -= static_cast<double>(factors.left(k, i)) * static_cast<double>(factors.right(k, j));
      const double s = weights.col_weights.empty()
                           ? 1.0
                           : static_cast<double>(weights.col_weights[static_cast<std::size_t>(j)]);
      row[static_cast<std::size_t>(j)] = d * s * value;
    }
    for (index_t j = 0; j < error.cols(); ++j) {
      const double x = row[static_cast<std::size_t>(j)];
      if (!weights.has_covariance()) {
        sum += x * x;
        continue;
      }
      for (index_t l = 0; l < error.cols(); ++l)
        sum += x * weights.covariance->values(j, l) * row[static_cast<std::size_t>(l)];
    }
  }
  return sum;
}

matrix<double> covariance_of(index_t tokens, index_t n, std::uint64_t seed) {
  const matrix<float> x = weight_like_matrix(tokens, n, seed);
  matrix<double> h(n, n, 0.0);
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t i = 0; i < n; ++i) {
      for (index_t j = 0; j < n; ++j) h(i, j) += static_cast<double>(x(t, i)) * static_cast<double>(x(t, j));
    }
  }
  return h;
}

struct named_metric {
  std::string name;
  metric weights;
};

std::vector<named_metric> metrics_for(index_t rows, index_t cols) {
  std::vector<named_metric> result{{"identity", {}}};
  random_source random(1);
  std::vector<float> row_importance(static_cast<std::size_t>(rows));
  std::vector<float> col_importance(static_cast<std::size_t>(cols));
  for (float& value : row_importance) value = static_cast<float>(std::exp(random.normal()));
  for (float& value : col_importance) value = static_cast<float>(std::exp(2 * random.normal()));
  result.push_back({"diagonal", make_metric(row_importance, col_importance, rows, cols)});
  result.push_back({"covariance", make_covariance_metric(covariance_of(2 * cols, cols, 2))});
  result.push_back({"covariance of few tokens", make_covariance_metric(covariance_of(3, cols, 3))});
  return result;
}

constexpr factor_storage quantized_storages[] = {factor_storage::int8, factor_storage::int4};

bool is_stored(const matrix<float>& factor, factor_storage storage) {
  matrix<float> again(factor);
  store(again, storage);
  return has_same_bits(again, factor);
}

} // namespace

TEST_CASE("factor refits: never worse than without, in any metric", "[decompose][property]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {1, 20}, {20, 1}, {24, 40}, {90, 70}}) {
    const matrix<float> error = realistic_matrix(rows, cols, 4, 3);
    for (const named_metric& m : metrics_for(rows, cols)) {
      for (const factor_storage storage : quantized_storages) {
        for (const index_t rank : {index_t{1}, std::min<index_t>({5, rows, cols}), std::min(rows, cols)}) {
          CAPTURE(rows, cols, m.name, to_string(storage), rank);
          const factors_of without = fit(error, rank, m.weights, options_with(0, storage));
          const factors_of with = fit(error, rank, m.weights, options_with(5, storage));
          REQUIRE(is_all_finite(with.left));
          REQUIRE(is_all_finite(with.right));
          CHECK(is_stored(with.left, storage));
          CHECK(is_stored(with.right, storage));
          const double before = slow_error(error, without, m.weights);
          const double after = slow_error(error, with, m.weights);
          // Pairs are compared by float products of the energy of E: 2^-20 of it for a hundred terms.
          const double energy =
              slow_error(error, {matrix<float>(0, rows), matrix<float>(0, cols)}, m.weights);
          CHECK(after <= before + 0x1p-20 * energy);
        }
      }
    }
  }
}

TEST_CASE("factor refits: they pay where four bits are coarse", "[decompose]") {
  const matrix<float> error = realistic_matrix(90, 70, 5);
  for (const named_metric& m : metrics_for(90, 70)) {
    for (const sigma_split split : {sigma_split::balanced, sigma_split::left, sigma_split::right}) {
      CAPTURE(m.name, static_cast<int>(split));
      const factors_of without = fit(error, 6, m.weights, options_with(0, factor_storage::int4, split));
      const factors_of with = fit(error, 6, m.weights, options_with(5, factor_storage::int4, split));
      CHECK(slow_error(error, with, m.weights) < 0.99 * slow_error(error, without, m.weights));
    }
  }
}

TEST_CASE("factor refits: an error of a lower rank than asked for", "[decompose]") {
  matrix<float> low(20, 30, 0.0F);
  const matrix<float> left = normal_matrix(20, 2, 6);
  const matrix<float> right = normal_matrix(2, 30, 7);
  for (index_t i = 0; i < 20; ++i) {
    for (index_t j = 0; j < 30; ++j) low(i, j) = left(i, 0) * right(0, j) + left(i, 1) * right(1, j);
  }
  matrix<float> constant(20, 30, 0.25F);
  matrix<float> sparse(20, 30, 0.0F);
  sparse(3, 4) = 7;
  matrix<float> tiny = scaled(low, 0x1p-100F);
  for (const matrix<float>* const error : {&low, &constant, &sparse, &tiny}) {
    for (const named_metric& m : metrics_for(20, 30)) {
      for (const factor_storage storage : quantized_storages) {
        for (const index_t rank : {index_t{1}, index_t{4}, index_t{20}}) {
          CAPTURE(m.name, to_string(storage), rank, error == &tiny);
          const factors_of without = fit(*error, rank, m.weights, options_with(0, storage));
          const factors_of with = fit(*error, rank, m.weights, options_with(5, storage));
          REQUIRE(is_all_finite(with.left));
          REQUIRE(is_all_finite(with.right));
          const double energy = slow_error(*error, {matrix<float>(0, 20), matrix<float>(0, 30)}, m.weights);
          CHECK(slow_error(*error, with, m.weights) <=
                slow_error(*error, without, m.weights) + 0x1p-20 * energy);
        }
      }
    }
  }
}

TEST_CASE("factor refits: nothing to approximate, and no rank to do it with", "[decompose]") {
  const matrix<float> zeros(20, 30, 0.0F);
  const matrix<float> error = normal_matrix(20, 30, 8);
  for (const named_metric& m : metrics_for(20, 30)) {
    CAPTURE(m.name);
    const factors_of nothing = fit(zeros, 4, m.weights, options_with(5, factor_storage::int4));
    REQUIRE(is_all_finite(nothing.left));
    REQUIRE(is_all_finite(nothing.right));
    CHECK(slow_error(zeros, nothing, m.weights) == 0.0);
    const factors_of none = fit(error, 0, m.weights, options_with(5, factor_storage::int4));
    CHECK(none.left.rows() == 0);
    CHECK(none.right.rows() == 0);
    CHECK(none.right.cols() == 30);
  }
}

TEST_CASE("factor refits: factors that are not quantized are not refitted", "[decompose]") {
  const matrix<float> error = realistic_matrix(20, 30, 9);
  for (const factor_storage storage : {factor_storage::fp32, factor_storage::fp16}) {
    const factors_of without = fit(error, 4, {}, options_with(0, storage));
    const factors_of with = fit(error, 4, {}, options_with(5, storage));
    CHECK(has_same_bits(with.left, without.left));
    CHECK(has_same_bits(with.right, without.right));
  }
}

TEST_CASE("factor refits: the same bits on any number of threads", "[decompose]") {
  const matrix<float> error = realistic_matrix(150, 300, 10);
  const decompose_options options = options_with(3, factor_storage::int4);
  const metric weights = make_covariance_metric(covariance_of(20, 300, 11));
  const factors_of expected = fit(error, 5, weights, options);
  for (const int threads : {2, 5}) {
    thread_pool pool(threads);
    const factors_of found = fit(error, 5, weights, options, pool);
    CHECK(has_same_bits(found.left, expected.left));
    CHECK(has_same_bits(found.right, expected.right));
  }
}
