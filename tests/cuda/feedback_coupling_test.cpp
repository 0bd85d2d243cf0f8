// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/support.hpp>
#include <host/covariance_oracles.hpp>
#include <qlr/cuda/coupling.hpp>
#include <support/catch.hpp>
#include <support/feedback.hpp>
#include <support/generators.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr column_order all_orders[] = {column_order::ascending, column_order::descending,
                                       column_order::importance};

/// Tokens, channels and rows of R.
struct coupling_case {
  index_t tokens;
  index_t channels;
  index_t rank;
};

cuda::device_coupling couple_on_device(const matrix<double>& h, const matrix<float>& right,
                                       const feedback_options& options, coupling_use use) {
  cuda::context context;
  const auto on_device = cuda::to_device(h.view());
  const auto right_on_device = cuda::to_device(right.view());
  return cuda::make_coupling<test_launcher>(context, on_device.view(), right_on_device.view(), options, use);
}

/// Both come from double precision; what they differ by is its rounding times the condition of the damped
/// matrix, and at most one unit in the last place of float.
void check_matrix(const cuda::device_matrix<float>& found, const matrix<float>& expected, double tolerance) {
  const matrix<float> on_host = cuda::to_host(found);
  REQUIRE(on_host.rows() == expected.rows());
  REQUIRE(on_host.cols() == (expected.cols() + 3) / 4 * 4);
  double worst = 0;
  for (index_t l = 0; l < on_host.rows(); ++l) {
    for (index_t j = 0; j < on_host.cols(); ++j) {
      const double value = j < expected.cols() ? static_cast<double>(expected(l, j)) : 0.0;
      const double difference = std::fabs(static_cast<double>(on_host(l, j)) - value);
      worst =
          std::max(worst, std::isfinite(difference) ? difference / std::max(1.0, std::fabs(value)) : 1e30);
    }
  }
  CHECK(worst <= tolerance);
}

void check_coupling(const matrix<double>& h, const matrix<float>& right, const feedback_options& options,
                    coupling_use use, double tolerance = 3e-7) {
  const host_coupling expected =
      couple(input_covariance{matrix<double>(h), {}, 0, 0, 0}, right, options, use);
  const cuda::device_coupling found = couple_on_device(h, right, options, use);
  const index_t n = h.rows();
  std::vector<int> order(static_cast<std::size_t>(n), -1);
  REQUIRE(found.order.size() == n);
  cuda::copy_to_host(found.order.data(), std::span<int>(order), nullptr);
  CHECK(std::equal(order.begin(), order.end(), expected.order.begin(), expected.order.end()));
  REQUIRE(found.importance.size() == expected.importance.size());
  for (std::size_t j = 0; j < order.size(); ++j)
    CHECK(static_cast<double>(found.importance[j]) ==
          Approx(static_cast<double>(expected.importance[j])).epsilon(1e-6));
  REQUIRE((found.feedback.size() == 0) == (expected.feedback.size() == 0));
  REQUIRE((found.descent.size() == 0) == (expected.descent.size() == 0));
  if (expected.feedback.size() > 0) check_matrix(found.feedback, expected.feedback, tolerance);
  if (expected.descent.size() > 0) check_matrix(found.descent, expected.descent, tolerance);
}

} // namespace

TEST_CASE("device coupling: as on the host, in every order", "[cuda]") {
  if (!has_device()) return;
  in_every_order([] {
    for (const coupling_case& size :
         {coupling_case{1, 1, 0}, coupling_case{40, 3, 0}, coupling_case{60, 33, 0}, coupling_case{60, 33, 5},
          coupling_case{150, 70, 16}}) {
      const matrix<double> h = slow_covariance(correlated_inputs(size.tokens, size.channels, 3));
      const matrix<float> right = normal_matrix(size.rank, size.channels, 4);
      for (const column_order order : all_orders) {
        CAPTURE(size.channels, size.rank, static_cast<int>(order));
        check_coupling(h, right, {.order = order, .descents = 2, .factor_noise = 0.1},
                       coupling_use::feedback);
      }
    }
  });
}

TEST_CASE("device coupling: only what is asked for", "[cuda]") {
  if (!has_device()) return;
  const matrix<double> h = slow_covariance(correlated_inputs(50, 20, 5));
  const matrix<float> none(0, 20);
  check_coupling(h, none, {}, coupling_use::feedback); // no descents: no second matrix
  check_coupling(h, none, {.descents = 3}, coupling_use::descent);
  check_coupling(h, normal_matrix(4, 20, 6), {}, coupling_use::descent);
  CHECK(couple_on_device(h, none, {}, coupling_use::feedback).descent.size() == 0);
  CHECK(couple_on_device(h, none, {.descents = 3}, coupling_use::descent).feedback.size() == 0);
}

TEST_CASE("device coupling: covariances without an inverse", "[cuda]") {
  if (!has_device()) return;
  constexpr index_t n = 37;
  const matrix<float> none(0, n);
  const matrix<double> few_tokens = slow_covariance(correlated_inputs(9, n, 7));
  matrix<float> x = correlated_inputs(80, n, 8);
  for (index_t t = 0; t < x.rows(); ++t) {
    x(t, 3) = 0;
    x(t, 5) = x(t, 4); // the same channel twice
    x(t, 7) *= 1e-7F;  // as good as none
  }
  const matrix<double> dead_channel = slow_covariance(x);
  matrix<double> single(n, n, 0.0);
  single(2, 2) = 5;
  for (const matrix<double>* h :
       std::initializer_list<const matrix<double>*>{&few_tokens, &dead_channel, &single}) {
    for (const column_order order : all_orders) {
      check_coupling(*h, none, {.order = order, .descents = 1}, coupling_use::feedback);
      // Rounding of 1e-16 against 1e-8 of damping.
      check_coupling(*h, none, {.order = order, .damping = 1e-8, .descents = 1}, coupling_use::feedback,
                     1e-6);
    }
  }
}

TEST_CASE("device coupling: damping grows until there is a factor", "[cuda]") {
  if (!has_device()) return;
  // Eigenvalues 3 and -1: a damping of 1 x 10 is the first that is enough, from 0.01 on in three steps.
  matrix<double> indefinite(2, 2, 1.0);
  indefinite(0, 1) = indefinite(1, 0) = 2;
  const matrix<float> none(0, 2);
  check_coupling(indefinite, none, {.damping = 0.011}, coupling_use::feedback);
  check_coupling(indefinite, none, {.damping = 0}, coupling_use::feedback);
  CHECK(cuda::to_host(
            couple_on_device(indefinite, none, {.damping = 0.011}, coupling_use::feedback).feedback)(0, 1) ==
        Approx(2.0F / (1.0F + 1.1F)));

  matrix<double> negative(2, 2, 0.0);
  negative(0, 0) = negative(1, 1) = -1;
  CHECK_THROWS_AS(couple_on_device(negative, none, {}, coupling_use::feedback), qlr::error);
}

TEST_CASE("device coupling: rows of R that explain all inputs, or one another", "[cuda]") {
  if (!has_device()) return;
  constexpr index_t n = 24;
  const matrix<double> h = slow_covariance(correlated_inputs(90, n, 9));
  matrix<float> twice(6, n);
  const matrix<float> basis = normal_matrix(3, n, 10);
  for (index_t i = 0; i < 6; ++i) {
    for (index_t j = 0; j < n; ++j) twice(i, j) = basis(i % 3, j) * (i < 3 ? 1.0F : 0.3F);
  }
  // The rounding of 0.3 times a float is no direction of its own.
  check_coupling(h, twice, {.descents = 1}, coupling_use::feedback, 1e-6);
  check_coupling(h, matrix<float>(2, n, 0.0F), {.descents = 1}, coupling_use::feedback);
  // Nothing is left of H but rounding, 1e-16, which must not be fitted.
  const cuda::device_coupling nothing =
      couple_on_device(h, normal_matrix(n, n, 11), {.descents = 1}, coupling_use::feedback);
  for (const cuda::device_matrix<float>* found : {&nothing.feedback, &nothing.descent}) {
    const matrix<float> on_host = cuda::to_host(*found);
    float largest = 0;
    for (index_t i = 0; i < on_host.size(); ++i) largest = std::max(largest, std::fabs(on_host.data()[i]));
    CHECK(largest < 1e-2F);
  }
}

TEST_CASE("device coupling: shapes that do not fit are refused", "[cuda]") {
  if (!has_device()) return;
  CHECK_THROWS_AS(
      couple_on_device(matrix<double>(3, 4, 1.0), matrix<float>(0, 4), {}, coupling_use::feedback),
      qlr::error);
  CHECK_THROWS_AS(
      couple_on_device(matrix<double>(3, 3, 1.0), matrix<float>(1, 4, 1.0F), {}, coupling_use::feedback),
      qlr::error);
}
