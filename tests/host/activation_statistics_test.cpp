// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/activation_statistics.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/golden.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using host::activation_statistics;
using host::covariance_mode;

namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// Inputs of different size, some tokens much larger than others.
matrix<float> activation_like_matrix(index_t tokens, index_t width, std::uint64_t seed) {
  random_source random(seed);
  matrix<float> x(tokens, width);
  for (index_t i = 0; i < tokens; ++i) {
    const double size = std::exp(random.normal());
    for (index_t j = 0; j < width; ++j) {
      x(i, j) = static_cast<float>(size * (1.0 + static_cast<double>(j % 7)) * random.normal());
    }
  }
  return x;
}

/// All statistics of one list of batches, by their definitions in long double.
struct expected_statistics {
  std::vector<long double> mean_abs, largest_batch_mean_abs, rms, largest;
  std::vector<long double> covariance;
};

expected_statistics slow_statistics(const std::vector<matrix_view<const float>>& batches, index_t width) {
  const auto n = static_cast<std::size_t>(width);
  expected_statistics sums{std::vector<long double>(n), std::vector<long double>(n),
                           std::vector<long double>(n), std::vector<long double>(n),
                           std::vector<long double>(n * n)};
  long double tokens = 0;
  for (const auto& x : batches) {
    tokens += static_cast<long double>(x.rows());
    for (index_t j = 0; j < width; ++j) {
      const auto at = static_cast<std::size_t>(j);
      long double batch = 0;
      for (index_t t = 0; t < x.rows(); ++t) {
        const auto value = static_cast<long double>(x(t, j));
        batch += std::fabs(value);
        sums.rms[at] += value * value;
        sums.largest[at] = std::max(sums.largest[at], std::fabs(value));
        for (index_t k = 0; k < width; ++k) {
          sums.covariance[at * n + static_cast<std::size_t>(k)] += value * static_cast<long double>(x(t, k));
        }
      }
      sums.mean_abs[at] += batch;
      sums.largest_batch_mean_abs[at] =
          std::max(sums.largest_batch_mean_abs[at], batch / static_cast<long double>(x.rows()));
    }
  }
  for (auto& value : sums.mean_abs) value /= tokens;
  for (auto& value : sums.rms) value = std::sqrt(value / tokens);
  for (auto& value : sums.covariance) value /= tokens;
  return sums;
}

/// The accessors round to float, 6e-8 relative.
void check_vector(const std::vector<float>& found, const std::vector<long double>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t j = 0; j < found.size(); ++j) {
    CAPTURE(j);
    CHECK(std::fabs(static_cast<long double>(found[j]) - expected[j]) <= 6e-8L * expected[j]);
  }
}

/// Largest difference of two covariances, each element relative to the root of its two diagonal elements.
template <class Reference>
double covariance_difference(const matrix<double>& found, Reference&& reference) {
  double worst = 0;
  for (index_t i = 0; i < found.rows(); ++i) {
    for (index_t j = 0; j < found.cols(); ++j) {
      const double unit = std::sqrt(found(i, i) * found(j, j));
      const double difference = std::fabs(found(i, j) - static_cast<double>(reference(i, j)));
      if (difference != 0) worst = std::max(worst, difference / unit);
    }
  }
  return worst;
}

void check_statistics(const activation_statistics& found, const expected_statistics& expected) {
  check_vector(found.mean_abs(), expected.mean_abs);
  check_vector(found.largest_batch_mean_abs(), expected.largest_batch_mean_abs);
  check_vector(found.rms(), expected.rms);
  check_vector(found.largest(), expected.largest);
  if (!found.has_covariance()) return;
  const matrix<double> covariance = found.covariance();
  const auto reference = [&](index_t i, index_t j) {
    return expected.covariance[static_cast<std::size_t>(i * found.width() + j)];
  };
  // At most 700 products in double, whose errors of 1.1e-16 add up to 8e-14 at worst.
  CHECK(covariance_difference(covariance, reference) < 1e-13);
  for (index_t i = 0; i < covariance.rows(); ++i) {
    for (index_t j = 0; j < i; ++j) CHECK(covariance(i, j) == covariance(j, i));
  }
}

bool same_bits(const matrix<double>& a, const matrix<double>& b) {
  const auto num_bytes = static_cast<std::size_t>(a.size()) * sizeof(double);
  return a.size() == b.size() && (num_bytes == 0 || std::memcmp(a.data(), b.data(), num_bytes) == 0);
}

bool same_bits(const activation_statistics& a, const activation_statistics& b) {
  return a.tokens() == b.tokens() && a.mean_abs() == b.mean_abs() && a.rms() == b.rms() &&
         a.largest() == b.largest() && a.largest_batch_mean_abs() == b.largest_batch_mean_abs() &&
         same_bits(a.covariance(), b.covariance());
}

} // namespace

TEST_CASE("activation_statistics: every statistic is that of its definition", "[host]") {
  // Around the tiles of 256 inputs and the chunks of 256 tokens, and the smallest shapes.
  const std::vector<std::pair<index_t, index_t>> shapes = {{1, 1},   {1, 9},   {5, 1},    {255, 3},
                                                           {257, 4}, {600, 2}, {20, 257}, {3, 520}};
  for (const auto& [tokens, width] : shapes) {
    CAPTURE(tokens, width);
    const matrix<float> x = activation_like_matrix(tokens, width, 3);
    const index_t cut = tokens / 3;
    const std::vector<matrix_view<const float>> batches = {
        x.view().middle_rows(cut, tokens - cut), x.view().middle_rows(0, std::max<index_t>(1, cut))};
    activation_statistics with(width);
    activation_statistics without(width, covariance_mode::left_out);
    for (const auto& batch : batches) {
      with.add(batch);
      without.add(batch);
    }
    CHECK(with.tokens() == batches[0].rows() + batches[1].rows());
    const expected_statistics expected = slow_statistics(batches, width);
    check_statistics(with, expected);
    check_statistics(without, expected);
  }
}

TEMPLATE_TEST_CASE("activation_statistics: the strides of a batch do not matter", "[host]", float, double) {
  const matrix<float> x = activation_like_matrix(37, 11, 5);
  activation_statistics plain(11);
  plain.add(x.view());
  for (const placement where : all_placements) {
    const placed_matrix<TestType> placed(x.view(), where);
    activation_statistics found(11);
    found.add(placed.view());
    CHECK(same_bits(found, plain));
  }
}

TEST_CASE("activation_statistics: the order of batches and merges changes results below 1e-12",
          "[host][property]") {
  constexpr index_t width = 40;
  const matrix<float> x = activation_like_matrix(5000, width, 7);
  std::vector<matrix_view<const float>> batches;
  for (index_t first = 0; first < 5000; first += 50) batches.push_back(x.view().middle_rows(first, 50));
  activation_statistics forwards(width);
  activation_statistics backwards(width);
  activation_statistics parts[3] = {activation_statistics(width), activation_statistics(width),
                                    activation_statistics(width)};
  for (std::size_t i = 0; i < batches.size(); ++i) {
    forwards.add(batches[i]);
    backwards.add(batches[batches.size() - 1 - i]);
    parts[i % 3].add(batches[i]);
  }
  activation_statistics merged(width);
  for (const activation_statistics& part : parts) merged.merge(part);
  const matrix<double> reference = forwards.covariance();
  for (const activation_statistics* other : {&backwards, &merged}) {
    CHECK(other->tokens() == 5000);
    CHECK(covariance_difference(other->covariance(), reference) < 1e-12);
    CHECK(other->largest() == forwards.largest());
    CHECK(other->largest_batch_mean_abs() == forwards.largest_batch_mean_abs());
    const std::vector<float> mean = other->mean_abs();
    const std::vector<float> rms = other->rms();
    for (std::size_t j = 0; j < mean.size(); ++j) { // a float apart where rounding falls on a tie
      CHECK(mean[j] == Approx(forwards.mean_abs()[j]).epsilon(1.3e-7));
      CHECK(rms[j] == Approx(forwards.rms()[j]).epsilon(1.3e-7));
    }
  }
}

TEST_CASE("activation_statistics: any number of threads gives the same bits", "[host]") {
  const matrix<float> x = activation_like_matrix(300, 530, 9);
  activation_statistics serial(530);
  serial.add(x.view());
  for (const int threads : {1, 2, 5}) {
    thread_pool pool(threads);
    activation_statistics found(530);
    found.add(x.view(), pool);
    CHECK(same_bits(found, serial));
  }
}

TEST_CASE("activation_statistics: a refused batch leaves everything as it was", "[host]") {
  const matrix<float> x = activation_like_matrix(9, 6, 11);
  activation_statistics before(6);
  before.add(x.view());
  for (const double bad : {nan_value, infinity, -infinity, 1e39}) {
    activation_statistics found = before;
    matrix<double> broken(3, 6, 1.0);
    broken(2, 4) = bad;
    const report failure = report_of([&] { found.add(std::as_const(broken).view()); });
    CHECK(failure.says(status_code::non_finite, "activations(2, 4) is "));
    CHECK(same_bits(found, before));
  }
  activation_statistics found = before;
  const matrix<float> wide(3, 7, 1.0F);
  CHECK(report_of([&] {
          found.add(wide.view());
        }).says(status_code::shape_mismatch, "activations are 3 x 7, the statistics need 6 columns"));
  CHECK(report_of([&] {
          found.merge(activation_statistics(7));
        }).says(status_code::shape_mismatch, "have width 7, it must be 6"));
  CHECK(report_of([&] {
          found.merge(activation_statistics(6, covariance_mode::left_out));
        }).says(status_code::shape_mismatch, "leave out the covariance"));
  CHECK(same_bits(found, before));
}

TEST_CASE("activation_statistics: without tokens every accessor says so", "[host]") {
  activation_statistics empty(4);
  empty.add(matrix<float>(0, 4).view());
  CHECK(empty.tokens() == 0);
  const std::string why = " was asked of activation statistics without tokens";
  CHECK(report_of([&] { (void)empty.mean_abs(); }).says(status_code::invalid_argument, "mean_abs" + why));
  CHECK(report_of([&] { (void)empty.rms(); }).says(status_code::invalid_argument, "rms" + why));
  CHECK(report_of([&] { (void)empty.largest(); }).says(status_code::invalid_argument, "largest" + why));
  CHECK(report_of([&] {
          (void)empty.largest_batch_mean_abs();
        }).says(status_code::invalid_argument, "largest_batch_mean_abs" + why));
  CHECK(report_of([&] { (void)empty.covariance(); }).says(status_code::invalid_argument, "covariance" + why));
  activation_statistics without(4, covariance_mode::left_out);
  CHECK(
      report_of([&] {
        (void)without.covariance();
      }).says(status_code::invalid_argument, "covariance was asked of activation statistics that leave it"));
  CHECK(report_of([] {
          (void)activation_statistics(-1);
        }).says(status_code::invalid_argument, "width of activation statistics is -1, it must be >= 0"));
  activation_statistics no_inputs(0);
  no_inputs.add(matrix<float>(5, 0).view());
  CHECK(no_inputs.tokens() == 5);
  CHECK(no_inputs.rms().empty());
  CHECK(no_inputs.covariance().size() == 0);
}

TEST_CASE("activation_statistics: the smallest and largest floats neither overflow nor vanish", "[host]") {
  const float largest = std::numeric_limits<float>::max();
  const float smallest = std::numeric_limits<float>::denorm_min();
  matrix<float> x(2, 3, 0.0F);
  x(0, 0) = x(1, 0) = -largest;
  x(0, 1) = x(1, 1) = smallest;
  activation_statistics found(3);
  found.add(x.view());
  for (const auto& values :
       {found.mean_abs(), found.rms(), found.largest(), found.largest_batch_mean_abs()}) {
    CHECK(values == std::vector<float>{largest, smallest, 0.0F});
  }
  CHECK(found.covariance()(0, 0) == static_cast<double>(largest) * static_cast<double>(largest));
  CHECK(found.covariance()(0, 2) == 0);
}

TEST_CASE("activation_statistics: agrees with the scales of LQER's and QERA's own code", "[host]") {
  if (!has_golden_data()) return;
  const matrix<float> x = golden_inputs().read_matrix("X");
  activation_statistics found(x.cols(), covariance_mode::left_out);
  found.add(x.view());
  const std::vector<float> lqer = golden_values<float>("calib.scale.lqer_meanabs");
  const std::vector<float> qera = golden_values<float>("calib.scale.qera_diag");
  std::vector<float> mean_abs = found.largest_batch_mean_abs();
  for (float& value : mean_abs) value = std::max(value, 1e-4F); // LQER's own floor and normalisation
  const auto [low, high] = std::ranges::minmax(mean_abs);
  const double unit = std::sqrt(static_cast<double>(low) * static_cast<double>(high));
  const std::vector<float> rms = found.rms();
  REQUIRE(lqer.size() == mean_abs.size());
  REQUIRE(qera.size() == rms.size());
  for (std::size_t j = 0; j < rms.size(); ++j) {
    // Their sums of 1024 terms are in float, pairwise: about 10 roundings of 6e-8.
    CHECK(static_cast<double>(mean_abs[j]) / unit == Approx(lqer[j]).epsilon(1e-6));
    CHECK(rms[j] == Approx(qera[j]).epsilon(1e-6));
  }
}
