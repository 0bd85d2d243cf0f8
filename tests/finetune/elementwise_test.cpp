// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/attention.hpp>
#include <finetune_story/cross_entropy.hpp>
#include <finetune_story/elementwise.hpp>
#include <finetune_story/product.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

/// Calls compute(values, results) with the same values at 16 different places relative to vector registers.
///
/// @returns whether the results had the same bits everywhere
template <class T, class Compute>
bool is_same_at_any_address(index_t num_values, index_t num_results, Compute&& compute) {
  std::vector<T> expected;
  for (index_t offset = 0; offset < 16; ++offset) {
    random_source random(5);
    std::vector<T> values(static_cast<std::size_t>(num_values + offset));
    std::vector<T> results(static_cast<std::size_t>(num_results + offset), T{0});
    for (index_t i = 0; i < num_values; ++i) values.data()[offset + i] = static_cast<T>(random.normal());
    compute(values.data() + offset, results.data() + offset);
    results.erase(results.begin(), results.begin() + offset);
    if (expected.empty()) expected = results;
    if (results != expected) return false;
  }
  return true;
}

} // namespace

TEST_CASE("exponential: is e^x to a few units in the last place", "[finetune]") {
  double largest = 0;
  for (int i = -870000; i <= 880000; ++i) {
    const float x = 1e-4F * static_cast<float>(i);
    const double expected = std::exp(static_cast<double>(x));
    largest = std::max(largest, std::fabs(static_cast<double>(exponential(x)) / expected - 1.0));
  }
  CHECK(largest < 1.8e-7); // 1.5 units of 2^-23
  CHECK(exponential(0.0F) == 1.0F);
  CHECK(std::isnan(exponential(std::numeric_limits<float>::quiet_NaN())));
  CHECK(exponential(-1e30F) == exponential(-87.0F));
  CHECK(exponential(-std::numeric_limits<float>::infinity()) == exponential(-87.0F));
  CHECK(exponential(1e30F) == exponential(88.0F));
}

TEST_CASE("combine_terms: takes every term once", "[finetune]") {
  for (index_t count = 1; count < 70; ++count) {
    std::vector<double> values(static_cast<std::size_t>(count));
    for (index_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = static_cast<double>(i + 1);
    const std::vector<double> ones(values.size(), 1.0);
    CHECK(dot_product(values.data(), ones.data(), count) == 0.5 * static_cast<double>(count * (count + 1)));
    CHECK(largest_of(values.data(), count) == static_cast<double>(count));
    for (double& value : values) value = -value;
    CHECK(largest_of(values.data(), count) == -1.0);
  }
}

TEMPLATE_TEST_CASE("apply_softmax: is the softmax, whatever the size of the numbers", "[finetune]", float,
                   double) {
  const auto scale = static_cast<TestType>(0.5);
  const double epsilon = static_cast<double>(std::numeric_limits<TestType>::epsilon());
  for (const double size : {1.0, 1e4, 1e30}) {
    random_source random(4);
    std::vector<TestType> values(37);
    for (TestType& value : values) value = static_cast<TestType>(size * random.normal());
    const std::vector<TestType> before = values;
    const auto logarithm = static_cast<double>(apply_softmax(values.data(), 37, scale));
    const auto largest = static_cast<double>(largest_of(before.data(), 37));
    double sum = 0;
    for (const TestType value : before) sum += std::exp(0.5 * (static_cast<double>(value) - largest));
    CHECK(is_near(logarithm, 0.5 * largest + std::log(sum), 10.0 * epsilon * std::max(1.0, size)));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double expected = std::exp(0.5 * (static_cast<double>(before[i]) - largest)) / sum;
      // The exponent is rounded at its own size, which matters where e^x is not yet 0: below about 90.
      CHECK(is_near(static_cast<double>(values[i]), expected, 100.0 * epsilon));
    }
  }
}

TEMPLATE_TEST_CASE("cross entropy: rows that are not counted have no gradient, the others sum to 0",
                   "[finetune]", float, double) {
  const std::array<token_t, 3> targets{2, token_batch::not_counted, 0};
  matrix<TestType> logits(3, 5);
  random_source random(6);
  for (index_t i = 0; i < logits.size(); ++i) logits.data()[i] = static_cast<TestType>(random.normal());
  logits(0, 3) = 1000; // far beyond what exponentials bear
  const matrix<TestType> before = logits;
  const double loss = differentiate_cross_entropy(logits.view(), std::span<const token_t>(targets));
  double sum = 0;
  for (index_t i = 0; i < 5; ++i) sum += std::exp(static_cast<double>(before(2, i) - before(2, 0)));
  const double expected = (1000.0 - static_cast<double>(before(0, 2)) + std::log(sum)) / 2.0;
  CHECK(is_near(loss, expected, 1e-4)); // of 500 in float
  for (index_t t = 0; t < 3; ++t) {
    TestType total = 0;
    for (index_t i = 0; i < 5; ++i) total += logits(t, i);
    CHECK(std::fabs(total) < static_cast<TestType>(1e-6));
  }
  for (index_t i = 0; i < 5; ++i) CHECK(logits(1, i) == 0);
  CHECK(logits(0, 2) == static_cast<TestType>(-0.5));
  CHECK(logits(0, 3) == static_cast<TestType>(0.5));
}

TEST_CASE("cross entropy: a logit that is no number shows in the loss", "[finetune]") {
  const std::array<token_t, 1> targets{1};
  for (const float wrong :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    matrix<float> logits(1, 40, 0.0F);
    logits(0, 33) = wrong;
    CHECK(std::isnan(differentiate_cross_entropy(logits.view(), std::span<const token_t>(targets))));
  }
}

TEMPLATE_TEST_CASE("products: bits do not depend on addresses", "[finetune]", float, double) {
  using T = TestType;
  const index_t rows = GENERATE(1, 2, 6, 33);
  const index_t depth = GENERATE(1, 4, 8, 40);
  const index_t cols = GENERATE(1, 4, 7, 31);
  CAPTURE(rows, depth, cols);
  const auto is_same = [&](auto&& multiply) { // A of rows x depth, the second factor behind it
    return is_same_at_any_address<T>(depth * (rows + cols), rows * cols, [&](T* values, T* results) {
      multiply(as_eigen(matrix_view<T>(results, rows, cols)), values, values + rows * depth);
    });
  };
  CHECK(is_same([&](auto&& y, T* a, T* b) {
    write_product(y, as_eigen(matrix_view<T>(a, rows, depth)), as_eigen(matrix_view<T>(b, depth, cols)));
  }));
  CHECK(is_same([&](auto&& y, T* a, T* b) {
    write_product(y, as_eigen(matrix_view<T>(a, rows, depth)),
                  as_eigen(matrix_view<T>(b, cols, depth)).transpose());
  }));
  CHECK(is_same([&](auto&& y, T* a, T* b) {
    write_product(y, as_eigen(matrix_view<T>(a, depth, rows)).transpose(),
                  as_eigen(matrix_view<T>(b, depth, cols)));
  }));
}

TEMPLATE_TEST_CASE("sums and softmax: bits do not depend on addresses", "[finetune]", float, double) {
  using T = TestType;
  for (const index_t count : {1, 7, 16, 45, 130}) {
    CHECK(is_same_at_any_address<T>(count, count + 2, [&](T* values, T* results) {
      results[count] = dot_product(values, values, count);
      std::copy_n(values, count, results);
      results[count + 1] = apply_softmax(results, count, T{2});
    }));
  }
}

TEST_CASE("write_product: is the product, and add_product adds it", "[finetune]") {
  for (const index_t size : {2, 9}) {
    const matrix<float> a = normal_matrix(size, size + 1, 1);
    const matrix<float> b = normal_matrix(size + 1, 3, 2);
    matrix<float> y(size, 3, std::numeric_limits<float>::quiet_NaN());
    write_product(as_eigen(y.view()), as_eigen(a.view()), as_eigen(b.view()));
    matrix<float> sum(size, 3, 10.0F);
    add_product(as_eigen(sum.view()), as_eigen(a.view()), as_eigen(b.view()));
    for (index_t i = 0; i < size; ++i) {
      for (index_t j = 0; j < 3; ++j) {
        double expected = 0;
        for (index_t k = 0; k <= size; ++k) expected += static_cast<double>(a(i, k)) * b(k, j);
        CHECK(is_near(y(i, j), expected, 1e-5)); // ten numbers of size 1
        CHECK(is_near(sum(i, j), expected + 10.0, 1e-5));
      }
    }
  }
}
