// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/covariance.hpp>

#include <host/covariance_oracles.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr root_form all_forms[] = {root_form::eigenvectors, root_form::symmetric};

/// The largest | B B^T - H | relative to the roots of the diagonals, or to the largest where those vanish.
double defect_of_root(const input_covariance& covariance, const matrix<double>& h) {
  const matrix<double> product = slow_product(covariance.root, covariance.root, true);
  double worst = 0;
  for (index_t i = 0; i < h.rows(); ++i) {
    for (index_t j = 0; j < h.cols(); ++j) {
      const double size = std::sqrt(std::fabs(h(i, i) * h(j, j))) + 1e-5 * covariance.largest;
      const double ratio = std::fabs(product(i, j) - h(i, j)) / size;
      worst = std::isfinite(ratio) ? std::max(worst, ratio) : std::numeric_limits<double>::infinity();
    }
  }
  return worst;
}

// Each entry of B is rounded to float once, 2^-24, which Cauchy and Schwarz carry to both factors of a
// product: 2^-23. Eigenvalues that count as zero and rounding in double are 1e-12 of the largest; 4 is room.
constexpr double root_tolerance = 4 * 0x1p-23;

std::shared_ptr<const input_covariance> make(const matrix<double>& h, const root_options& options = {}) {
  return host::make_input_covariance(matrix<double>(h), options);
}

report refusal_of(const matrix<double>& h, const root_options& options = {}) {
  const report found = report_of([&] { (void)make(h, options); });
  const report same = report_of([&] { (void)make_covariance_metric(matrix<double>(h), options); });
  CHECK(found.message == same.message);
  return found;
}

matrix<double> diagonal_matrix(std::initializer_list<double> values) {
  const auto n = static_cast<index_t>(values.size());
  matrix<double> h(n, n, 0.0);
  index_t i = 0;
  for (const double value : values) {
    h(i, i) = value;
    ++i;
  }
  return h;
}

/// Q diag(1, value) Q^T for a rotation, so that the eigenvalue is no entry.
matrix<double> rotated(double value) {
  const double c = 0.6;
  const double s = 0.8;
  matrix<double> h(2, 2);
  h(0, 0) = c * c + s * s * value;
  h(1, 1) = s * s + c * c * value;
  h(0, 1) = h(1, 0) = c * s * (1 - value);
  return h;
}

} // namespace

TEST_CASE("covariance: both roots multiply to H", "[host][property]") {
  for (const index_t n : {index_t{1}, index_t{2}, index_t{7}, index_t{64}, index_t{131}}) {
    const matrix<double> h = slow_covariance(correlated_inputs(2 * n + 3, n, 1));
    for (const root_form form : all_forms) {
      CAPTURE(n, static_cast<int>(form));
      const auto covariance = make(h, {.form = form});
      CHECK(covariance->root.rows() == n);
      CHECK(covariance->root.cols() == n);
      CHECK(covariance->rank == n);
      CHECK(covariance->smallest > 0);
      CHECK(covariance->smallest <= covariance->largest);
      CHECK(defect_of_root(*covariance, h) <= root_tolerance);
      CHECK(std::equal(h.data(), h.data() + h.size(), covariance->values.data()));
    }
  }
}

TEST_CASE("covariance: the symmetric root is symmetric", "[host]") {
  const auto covariance = make(slow_covariance(correlated_inputs(50, 20, 2)), {.form = root_form::symmetric});
  const matrix<float>& root = covariance->root;
  double worst = 0;
  for (index_t i = 0; i < 20; ++i) {
    for (index_t j = 0; j < 20; ++j)
      worst = std::max(worst, std::fabs(static_cast<double>(root(i, j)) - static_cast<double>(root(j, i))));
  }
  CHECK(worst <= 0x1p-23 * std::sqrt(covariance->largest)); // two roundings of one number
}

TEST_CASE("covariance: 1 x 1", "[host]") {
  for (const double value : {1.0, 6.25, 1e-30, 1e30, 1e-42}) {
    for (const root_form form : all_forms) {
      const auto covariance = make(diagonal_matrix({value}), {.form = form});
      CHECK(covariance->rank == 1);
      CHECK(covariance->largest == value);
      CHECK(covariance->smallest == value);
      CHECK(is_near(std::fabs(static_cast<double>(covariance->root(0, 0))), std::sqrt(value),
                    0x1p-23 * std::sqrt(value)));
    }
  }
}

TEST_CASE("covariance: fewer tokens than channels: the rank is that of the data", "[host]") {
  for (const index_t tokens : {index_t{1}, index_t{2}, index_t{9}}) {
    const matrix<double> h = slow_covariance(correlated_inputs(tokens, 24, 3));
    for (const root_form form : all_forms) {
      CAPTURE(tokens, static_cast<int>(form));
      const auto covariance = make(h, {.form = form});
      CHECK(covariance->rank == tokens);
      CHECK(covariance->root.cols() == (form == root_form::symmetric ? 24 : tokens));
      CHECK(covariance->smallest > 1e-12 * covariance->largest);
      CHECK(defect_of_root(*covariance, h) <= root_tolerance);
    }
  }
}

TEST_CASE("covariance: one token: the root is that token", "[host]") {
  const matrix<float> x = normal_matrix(1, 6, 4);
  const auto covariance = make(slow_covariance(x));
  REQUIRE(covariance->root.cols() == 1);
  const float sign = covariance->root(0, 0) * x(0, 0) > 0 ? 1.0F : -1.0F;
  for (index_t j = 0; j < 6; ++j)
    CHECK(is_near(static_cast<double>(sign * covariance->root(j, 0)), static_cast<double>(x(0, j)), 1e-6));
}

TEST_CASE("covariance: a channel that is never active", "[host]") {
  matrix<float> x = correlated_inputs(40, 10, 5);
  for (index_t t = 0; t < 40; ++t) x(t, 4) = 0;
  const matrix<double> h = slow_covariance(x);
  for (const root_form form : all_forms) {
    const auto covariance = make(h, {.form = form});
    CHECK(covariance->rank == 9);
    CHECK(defect_of_root(*covariance, h) <= root_tolerance);
    for (index_t k = 0; k < covariance->root.cols(); ++k)
      CHECK(std::fabs(static_cast<double>(covariance->root(4, k))) <= 1e-12 * std::sqrt(covariance->largest));
  }
}

TEST_CASE("covariance: the cut-off decides what counts as zero", "[host]") {
  const matrix<double> h = diagonal_matrix({1e-5, 1.0, 1e-9, 1e-3});
  CHECK(make(h)->rank == 4);
  CHECK(make(h, {.cutoff_rel = 1e-8})->rank == 3);
  CHECK(make(h, {.cutoff_rel = 1e-8})->smallest == Approx(1e-5));
  CHECK(make(h, {.cutoff_rel = 1e-4})->rank == 2);
  CHECK(make(h, {.cutoff_rel = 0.5})->rank == 1);
  for (const double cutoff : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()})
    CHECK(refusal_of(h, {.cutoff_rel = cutoff})
              .says(status_code::invalid_argument, "allowed are 0 to below 1"));
}

TEST_CASE("covariance: damping adds to the diagonal, relative to its mean", "[host]") {
  const matrix<double> h = slow_covariance(correlated_inputs(3, 8, 6));
  const auto covariance = make(h, {.damping = 0.25});
  const double added = 0.25 * mean_of_diagonal(h);
  CHECK(covariance->rank == 8);
  CHECK(covariance->smallest == Approx(added)); // H has rank 3
  for (index_t i = 0; i < 8; ++i) {
    for (index_t j = 0; j < 8; ++j)
      CHECK(covariance->values(i, j) == Approx(h(i, j) + (i == j ? added : 0.0)));
  }
  CHECK(defect_of_root(*covariance, covariance->values) <= root_tolerance);
  for (const double damping : {-1e-9, std::numeric_limits<double>::infinity(), std::nan("")})
    CHECK(refusal_of(h, {.damping = damping}).says(status_code::invalid_argument, "allowed are 0 and above"));
}

TEST_CASE("covariance: negative eigenvalues of rounding size are accepted, larger ones are not", "[host]") {
  // Two channels: the rounding of fp32 is 2 * 2^-23 of the largest, 2.4e-7.
  const auto covariance = make(rotated(-1e-7));
  CHECK(covariance->rank == 1);
  CHECK(covariance->smallest == Approx(1.0));
  CHECK(refusal_of(rotated(-3e-7)).says(status_code::invalid_argument, "covariance has the eigenvalues -"));
  CHECK(refusal_of(rotated(-0.5))
            .says(status_code::invalid_argument, "none may be negative and one must be positive"));
  CHECK(
      refusal_of(diagonal_matrix({-3.0, -1.0})).says(status_code::invalid_argument, "eigenvalues -3 to -1"));
}

TEST_CASE("covariance: small asymmetry is averaged away, more is refused", "[host]") {
  matrix<double> h = diagonal_matrix({2.0, 1.0, 3.0});
  h(0, 2) = 0.5 + 1e-6;
  h(2, 0) = 0.5 - 1e-6;
  const auto covariance = make(h);
  CHECK(covariance->values(0, 2) == 0.5);
  CHECK(covariance->values(2, 0) == 0.5);
  h(2, 0) = 0.4;
  CHECK(refusal_of(h).says(status_code::invalid_argument,
                           "covariance is not symmetric: (2, 0) is 0.4 and (0, 2)"));
}

TEST_CASE("covariance: impossible input is refused with a sentence", "[host]") {
  matrix<double> h = slow_covariance(correlated_inputs(10, 4, 7));
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity(), 1e300}) {
    matrix<double> changed(h);
    changed(1, 3) = bad;
    changed(3, 1) = bad;
    CHECK(refusal_of(changed).says(status_code::non_finite, "covariance(1, 3) is "));
    CHECK(report_of([&] { (void)host::inverse_root(changed); }).says(status_code::non_finite, "(1, 3)"));
  }
  const matrix<double> wide(3, 4, 1.0);
  CHECK(refusal_of(wide).says(status_code::shape_mismatch, "covariance is 3 x 4, it must be square"));
  CHECK(refusal_of(matrix<double>(0, 0)).says(status_code::invalid_argument, "covariance is empty"));
  CHECK(refusal_of(matrix<double>(5, 5, 0.0)).says(status_code::invalid_argument, "one must be positive"));
  CHECK(report_of([&] {
          (void)host::inverse_root(wide);
        }).says(status_code::shape_mismatch, "it must be square"));
  CHECK(report_of([&] {
          (void)host::inverse_root(matrix<double>(0, 0));
        }).says(status_code::invalid_argument, "empty"));
  CHECK_FALSE(report_of([&] { (void)host::inverse_root(matrix<double>(5, 5, 0.0)); }).message.empty());
}

TEST_CASE("covariance: inverse_root refuses what a covariance refuses", "[host]") {
  const auto refusal = [](const matrix<double>& h, const root_options& options = {}) {
    return report_of([&] { (void)host::inverse_root(h, options); });
  };
  CHECK(refusal(rotated(-0.5)).says(status_code::invalid_argument, "none may be negative"));
  CHECK(refusal(rotated(0.5), {.cutoff_rel = 1.0}).says(status_code::invalid_argument, "cutoff_rel is 1"));
  CHECK(refusal(rotated(0.5), {.damping = -1.0}).says(status_code::invalid_argument, "damping is -1"));
  CHECK(refusal(rotated(-1e-7)).message.empty());
}

TEST_CASE("covariance: inverse_root is the pseudo-inverse of the symmetric root", "[host][property]") {
  for (const index_t tokens : {index_t{1}, index_t{5}, index_t{60}}) {
    for (const index_t n : {index_t{1}, index_t{3}, index_t{20}}) {
      CAPTURE(tokens, n);
      const matrix<double> h = slow_covariance(correlated_inputs(tokens, n, 8));
      const auto covariance = make(h, {.form = root_form::symmetric});
      const matrix<float>& s = covariance->root;
      const matrix<float> inverse = host::inverse_root(h);
      const matrix<double> once = slow_product(s, inverse);
      const matrix<double> same = slow_product(once, s);                           // S S+ S
      const matrix<double> back = slow_product(slow_product(inverse, s), inverse); // S+ S S+
      // The float rounding of either factor is multiplied by the ratio of the eigenvalues' roots.
      const double condition = std::sqrt(covariance->largest / covariance->smallest);
      const double tolerance = 8 * static_cast<double>(n) * 0x1p-24 * condition;
      const double size = std::sqrt(covariance->largest);
      const double inverse_size = 1.0 / std::sqrt(covariance->smallest);
      double worst = 0;
      double trace = 0;
      for (index_t i = 0; i < n; ++i) {
        trace += once(i, i);
        for (index_t j = 0; j < n; ++j) {
          worst = std::max(worst, std::fabs(same(i, j) - static_cast<double>(s(i, j))) / size);
          worst = std::max(worst, std::fabs(back(i, j) - static_cast<double>(inverse(i, j))) / inverse_size);
          worst = std::max(worst, std::fabs(once(i, j) - once(j, i)));
        }
      }
      CHECK(worst <= tolerance);
      CHECK(is_near(trace, static_cast<double>(covariance->rank), static_cast<double>(n) * tolerance));
    }
  }
}

TEST_CASE("covariance: inverse_root damps as the root does", "[host]") {
  const matrix<double> h = diagonal_matrix({3.0, 1.0});
  const matrix<float> inverse = host::inverse_root(h, {.damping = 0.5}); // adds 1
  CHECK(inverse(0, 0) == Approx(0.5));
  CHECK(inverse(1, 1) == Approx(std::sqrt(0.5)));
}

TEST_CASE("covariance: the same bits on any number of threads", "[host]") {
  const matrix<double> h = slow_covariance(correlated_inputs(300, 300, 9)); // several pieces of rows
  for (const root_form form : all_forms) {
    const auto expected = make(h, {.form = form});
    for (const int threads : {2, 5}) {
      thread_pool pool(threads);
      const auto found = host::make_input_covariance(matrix<double>(h), {.form = form}, pool);
      CHECK(std::equal(found->root.data(), found->root.data() + found->root.size(), expected->root.data(),
                       is_same));
    }
  }
}
