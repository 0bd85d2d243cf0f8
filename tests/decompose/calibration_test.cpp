// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/calibration.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("check_calibration: data from memory is checked like data from a file", "[decompose]") {
  constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
  const auto check = [](calibration_data data, status_code code, const std::string& part) {
    const report failure = report_of([&] { check_calibration(data, 2, 3, "layer 7: "); });
    CAPTURE(failure.message);
    CHECK(failure.says(code, part));
  };
  calibration_data data;
  data.largest = {1, -1, 2};
  check(data, status_code::invalid_argument, "layer 7: largest[1] is -1, it must be >= 0");
  data.largest = {1, 2};
  check(data, status_code::shape_mismatch, "layer 7: largest has 2 entries, the weight matrix has 3 columns");
  data.largest = {1, 2, nan_value};
  check(data, status_code::non_finite, "layer 7: largest[2] is nan");
  data = {};
  data.activations = matrix<float>(40, 3, 1.0F);
  data.activations(37, 1) = nan_value;
  check(data, status_code::non_finite, "layer 7: X(37, 1) is nan");
  data = {};
  data.covariance = matrix<double>(3, 3, 1e300);
  CHECK(
      report_of([&] { check_calibration(data, 2, 3); }).message.empty()); // beyond float is no overflow here
}

TEST_CASE("check_calibration: data that is refused stays as it was", "[decompose]") {
  calibration_data data;
  data.covariance = matrix<double>(3, 3, 0.5);
  data.covariance(0, 1) = 0.5000001; // rounding
  data.covariance(1, 2) = 0.6;       // more than that
  data.rms = {0, 0, 0};
  const report failure = report_of([&] { check_calibration(data, 2, 3); });
  CHECK(failure.says(status_code::invalid_argument,
                     "covariance is not symmetric: (1, 2) is 0.6, (2, 1) is 0.5"));
  CHECK(data.covariance(0, 1) == 0.5000001);
  CHECK(data.covariance(1, 0) == 0.5);
  CHECK(data.rms.size() == 3);
  CHECK(data.notes.empty());
}

TEST_CASE("check_calibration: the first bad element is the same on any number of threads", "[decompose]") {
  calibration_data data;
  data.activations = normal_matrix(200, 3, 1);
  for (const index_t i : {190, 45, 46}) data.activations(i, 2) = std::numeric_limits<float>::infinity();
  for (const int threads : {1, 4}) {
    thread_pool pool(threads);
    CHECK(report_of([&] {
            check_calibration(data, 2, 3, {}, pool);
          }).says(status_code::non_finite, "X(45, 2)"));
  }
}

TEST_CASE("check_calibration: good data stays bit by bit, empty data stays empty", "[decompose]") {
  calibration_data data;
  check_calibration(data, 2, 3);
  CHECK(data.is_empty());
  data.activations = normal_matrix(4, 3, 1);
  data.covariance = matrix<double>(3, 3, 0.1);
  data.rms = {0, 1e-40F, 2};
  data.fisher = matrix<float>(2, 3, 1e-40F);
  const matrix<float> x = data.activations;
  check_calibration(data, 2, 3);
  for (index_t i = 0; i < x.size(); ++i) CHECK(data.activations.data()[i] == x.data()[i]);
  for (index_t i = 0; i < 9; ++i) CHECK(data.covariance.data()[i] == 0.1);
  CHECK(data.rms == std::vector<float>{0, 1e-40F, 2});
  CHECK(data.fisher(1, 2) == 1e-40F);
  CHECK(data.notes.empty());
}
