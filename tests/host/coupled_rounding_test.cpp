// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/coupled_rounding.hpp>

#include <host/feedback_oracles.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

any_quantizer groups_of(std::string_view format, index_t size) {
  return make_quantizer(format, {size, scale_format{scale_coding::plain, scale_type::fp32}, false});
}

input_covariance covariance_of(const matrix<double>& h) {
  return {matrix<double>(h), {}, 0, 0, 0};
}

matrix<float> no_rows(index_t cols) {
  return {0, cols};
}

double error_of(const matrix<float>& w, const quantized_matrix& q, const matrix<double>& h) {
  return slow_energy(slow_difference(w, dequantize(q)), h);
}

bool is_all_finite(const matrix<float>& x) {
  return std::all_of(x.data(), x.data() + x.size(), [](float value) { return is_finite(value); });
}

/// The largest gain of changing any one code to any other, relative to the error.
double best_single_change(const matrix<float>& w, const quantized_matrix& q, const matrix<double>& h) {
  const matrix<double> error = slow_difference(w, dequantize(q));
  const double before = slow_energy(error, h);
  double best = 0;
  for (index_t i = 0; i < w.rows(); ++i) {
    for (index_t j = 0; j < w.cols(); ++j) {
      const slow_block block = block_of(q, i, j);
      for (const float level : q.levels()) {
        matrix<double> changed(error);
        changed(i, j) =
            static_cast<double>(w(i, j)) - (static_cast<double>(level) - block.zero) * block.scale;
        best = std::max(best, (before - slow_energy(changed, h)) / before);
      }
    }
  }
  return best;
}

/// Inputs on which H has no inverse.
std::vector<matrix<double>> singular_covariances(index_t n) {
  std::vector<matrix<double>> result;
  result.push_back(slow_covariance(correlated_inputs(1, n, 21))); // one token
  result.push_back(slow_covariance(correlated_inputs(n / 2, n, 22)));
  matrix<float> x = correlated_inputs(3 * n, n, 23);
  for (index_t t = 0; t < x.rows(); ++t) {
    x(t, 3) = 0;
    x(t, 5) = x(t, 4); // the same channel twice
  }
  result.push_back(slow_covariance(x));
  matrix<double> single(n, n, 0.0); // one channel is all there is
  single(2, 2) = 5;
  result.push_back(std::move(single));
  result.emplace_back(n, n, 1e-30); // tiny, rank 1
  return result;
}

} // namespace

TEST_CASE("descent: no pass raises the error", "[host][property]") {
  for (const std::string_view format : {"int2", "uint3", "nf4", "sign", "mxint3"}) {
    for (const index_t cols : {index_t{1}, index_t{20}, index_t{64}, index_t{65}, index_t{130}}) {
      CAPTURE(format, cols);
      const matrix<float> w = weight_like_matrix(65, cols, 1);
      const matrix<double> h = slow_covariance(correlated_inputs(2 * cols + 4, cols, 2));
      quantized_matrix q = groups_of(format, std::min<index_t>(cols, 13)).quantize(w.view(), {}, {});
      const double first = error_of(w, q, h);
      double before = first;
      for (int pass = 0; pass < 4; ++pass) {
        quantized_matrix next = descend(groups_of(format, 1), q, w, covariance_of(h), no_rows(cols), 1);
        CHECK(next.scales().codes == q.scales().codes);
        CHECK(next.zeros() == q.zeros());
        const double error = error_of(w, next, h);
        // Targets are rounded to float: a choice between two codes may be wrong where they are equally good.
        CHECK(error <= before * (1 + 1e-5));
        before = error;
        q = std::move(next);
      }
      if (cols > 1) CHECK(before < 0.98 * first);
    }
  }
}

TEST_CASE("descent: it ends where no change of one code helps", "[host][property]") {
  for (const std::string_view format : {"int3", "uint2", "nf4", "sign", "fp4"}) {
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
      CAPTURE(format, seed);
      const matrix<float> w = weight_like_matrix(3, 7, seed);
      const matrix<double> h = slow_covariance(correlated_inputs(20, 7, seed + 10));
      const any_quantizer quantizer = groups_of(format, 4);
      const quantized_matrix nearest = quantizer.quantize(w.view(), {}, {});
      const quantized_matrix q = descend(quantizer, nearest, w, covariance_of(h), no_rows(7), 50);
      CHECK(has_same_bytes(descend(quantizer, q, w, covariance_of(h), no_rows(7), 1), q));
      CHECK(best_single_change(w, q, h) <= 1e-5); // two codes that are equally good in float
    }
  }
  // The check can fail: plain rounding is no such point.
  const matrix<float> w = weight_like_matrix(3, 7, 1);
  const matrix<double> h = slow_covariance(correlated_inputs(20, 7, 11));
  CHECK(best_single_change(w, groups_of("int3", 4).quantize(w.view(), {}, {}), h) > 1e-3);
}

TEST_CASE("descent: many passes are as many calls", "[host]") {
  const matrix<float> w = weight_like_matrix(70, 80, 3);
  const matrix<double> h = slow_covariance(correlated_inputs(160, 80, 4));
  const any_quantizer quantizer = groups_of("uint3", 16);
  const quantized_matrix start = quantizer.quantize(w.view(), {}, {});
  const quantized_matrix once = descend(quantizer, start, w, covariance_of(h), no_rows(80), 1);
  const quantized_matrix twice = descend(quantizer, once, w, covariance_of(h), no_rows(80), 1);
  const double together = error_of(w, descend(quantizer, start, w, covariance_of(h), no_rows(80), 2), h);
  // Errors of Q are subtracted again in the second call: not the same bits.
  CHECK(is_near(together, error_of(w, twice, h), 1e-3 * together));
}

TEST_CASE("descent: after feedback it only gains", "[host]") {
  const matrix<float> w = weight_like_matrix(66, 70, 5);
  const matrix<double> h = slow_covariance(correlated_inputs(200, 70, 6));
  for (const column_order order :
       {column_order::ascending, column_order::descending, column_order::importance}) {
    const any_quantizer quantizer = groups_of("int3", 35);
    double before = std::numeric_limits<double>::infinity();
    for (const int descents : {0, 1, 3}) {
      const quantized_matrix q =
          feed_back(quantizer, w, covariance_of(h), no_rows(70), {.order = order, .descents = descents});
      const double error = error_of(w, q, h);
      CHECK(error < before);
      before = error;
    }
  }
}

TEST_CASE("descent: with R it never raises the error that a refit of L leaves", "[host]") {
  const matrix<float> w = weight_like_matrix(30, 40, 7);
  const matrix<double> h = slow_covariance(correlated_inputs(120, 40, 8));
  const matrix<float> right = normal_matrix(5, 40, 9);
  const matrix<double> left_over = slow_downdate(h, right);
  const any_quantizer quantizer = groups_of("uint3", 20);
  const quantized_matrix start = quantizer.quantize(w.view(), {}, {});
  const quantized_matrix q = descend(quantizer, start, w, covariance_of(h), right, 3);
  CHECK(error_of(w, q, left_over) < 0.9 * error_of(w, start, left_over));
}

TEST_CASE("coupled rounding: a singular covariance", "[host][property]") {
  constexpr index_t n = 24;
  const matrix<float> w = weight_like_matrix(9, n, 10);
  const any_quantizer quantizer = groups_of("int3", 8);
  const quantized_matrix nearest = quantizer.quantize(w.view(), {}, {});
  for (const matrix<double>& h : singular_covariances(n)) {
    for (const column_order order :
         {column_order::ascending, column_order::descending, column_order::importance}) {
      for (const double damping : {0.0, 0.01}) {
        const feedback_options options{.order = order, .damping = damping, .descents = 1};
        const host::column_coupling coupling =
            host::make_coupling(covariance_of(h), no_rows(n), options, coupling_use::feedback, executor{});
        CHECK(is_all_finite(coupling.feedback));
        CHECK(is_all_finite(coupling.descent));
        for (const float importance : coupling.importance) CHECK((is_finite(importance) && importance > 0));
        const quantized_matrix q = feed_back(quantizer, w, covariance_of(h), no_rows(n), options);
        CHECK(error_of(w, q, h) <= error_of(w, nearest, h) * (1 + 1e-5));
      }
    }
    const quantized_matrix q = descend(quantizer, nearest, w, covariance_of(h), no_rows(n), 2);
    CHECK(error_of(w, q, h) <= error_of(w, nearest, h) * (1 + 1e-5));
  }
}

TEST_CASE("coupled rounding: a channel that is never active is rounded by itself", "[host]") {
  matrix<float> x = correlated_inputs(60, 12, 11);
  for (index_t t = 0; t < 60; ++t) x(t, 7) = 0;
  const matrix<double> h = slow_covariance(x);
  const matrix<float> w = weight_like_matrix(10, 12, 12);
  const any_quantizer quantizer = groups_of("nf4", 6);
  const quantized_matrix nearest = quantizer.quantize(w.view(), {}, {});
  const quantized_matrix fed = feed_back(quantizer, w, covariance_of(h), no_rows(12), {.descents = 2});
  const quantized_matrix descended = descend(quantizer, nearest, w, covariance_of(h), no_rows(12), 2);
  for (index_t i = 0; i < 10; ++i) {
    CHECK(code_of(fed, i, 7) == code_of(nearest, i, 7));
    CHECK(code_of(descended, i, 7) == code_of(nearest, i, 7));
  }
}

TEST_CASE("coupled rounding: R that explains all inputs leaves plain rounding", "[host]") {
  constexpr index_t n = 24;
  const matrix<float> w = weight_like_matrix(9, n, 13);
  const any_quantizer quantizer = groups_of("int3", 8);
  const quantized_matrix nearest = quantizer.quantize(w.view(), {}, {});
  for (const index_t tokens : {index_t{1}, index_t{2}, index_t{6}}) {
    const matrix<float> x = correlated_inputs(tokens, n, 14); // the rows of X span its covariance
    const matrix<double> h = slow_covariance(x);
    for (const index_t rank : {tokens, tokens + 3}) {
      matrix<float> right = normal_matrix(rank, n, 15);
      std::copy_n(x.data(), x.size(), right.data());
      for (const double damping : {0.0, 0.01}) {
        CAPTURE(tokens, rank, damping);
        const feedback_options options{.damping = damping, .knows_low_rank = true, .descents = 1};
        const host::column_coupling coupling =
            host::make_coupling(covariance_of(h), right, options, coupling_use::feedback, executor{});
        CHECK(is_all_finite(coupling.feedback));
        CHECK(is_all_finite(coupling.descent));
        for (const float importance : coupling.importance) CHECK((is_finite(importance) && importance > 0));
        const quantized_matrix q = feed_back(quantizer, w, covariance_of(h), right, options);
        // Nothing is left but rounding errors of H, which should not be fitted.
        CHECK(has_same_bytes(q, nearest));
        CHECK(has_same_bytes(descend(quantizer, nearest, w, covariance_of(h), right, 1), nearest));
      }
    }
  }
}

TEST_CASE("coupled rounding: a covariance of any size gives the same codes", "[host]") {
  const matrix<double> h = slow_covariance(correlated_inputs(60, 20, 16));
  const matrix<float> w = weight_like_matrix(10, 20, 17);
  const any_quantizer quantizer = groups_of("uint3", 10);
  const matrix<float> right = normal_matrix(2, 20, 18);
  const feedback_options options{.knows_low_rank = true, .descents = 1};
  const quantized_matrix expected = feed_back(quantizer, w, covariance_of(h), right, options);
  for (const int exponent : {-90, -20, 30}) {
    matrix<double> other(h);
    for (index_t i = 0; i < other.size(); ++i) other.data()[i] = std::ldexp(h.data()[i], exponent);
    CHECK(has_same_bytes(feed_back(quantizer, w, covariance_of(other), right, options), expected));
  }
}

TEST_CASE("coupled rounding: the same bits on any number of threads", "[host]") {
  // Three pieces of rows, and more columns than a piece of the downdate has.
  const matrix<float> w = weight_like_matrix(150, 140, 19);
  const input_covariance h = covariance_of(slow_covariance(correlated_inputs(300, 140, 20)));
  const matrix<float> right = normal_matrix(6, 140, 21);
  const any_quantizer quantizer = groups_of("uint3", 70);
  const feedback_options options{.order = column_order::importance, .knows_low_rank = true, .descents = 1};
  const quantized_matrix fed = feed_back(quantizer, w, h, right, options);
  const quantized_matrix descended = descend(quantizer, fed, w, h, right, 2);
  for (const int threads : {1, 2, 5}) {
    thread_pool pool(threads);
    CHECK(has_same_bytes(feed_back(quantizer, w, h, right, options, pool), fed));
    CHECK(has_same_bytes(descend(quantizer, fed, w, h, right, 2, pool), descended));
  }
}
