// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/calibration.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("complete: activations give every other statistic of the inputs", "[host]") {
  calibration_data data;
  data.activations = normal_matrix(30, 5, 1);
  const matrix<float> x = data.activations;
  host::complete(data);
  for (index_t j = 0; j < 5; ++j) {
    double sum = 0;
    double squares = 0;
    float largest = 0;
    for (index_t t = 0; t < 30; ++t) {
      sum += std::abs(static_cast<double>(x(t, j)));
      squares += static_cast<double>(x(t, j)) * static_cast<double>(x(t, j));
      largest = std::max(largest, std::abs(x(t, j)));
    }
    const auto at = static_cast<std::size_t>(j);
    CHECK(data.mean_abs[at] == Approx(sum / 30).epsilon(1e-7)); // one rounding to float
    CHECK(data.rms[at] == Approx(std::sqrt(squares / 30)).epsilon(1e-7));
    CHECK(data.largest[at] == largest);
    CHECK(data.covariance(j, j) == Approx(squares / 30).epsilon(1e-13));
  }
  double product = 0;
  for (index_t t = 0; t < 30; ++t) product += static_cast<double>(x(t, 1)) * static_cast<double>(x(t, 3));
  CHECK(data.covariance(1, 3) == Approx(product / 30).margin(1e-14));
  CHECK(data.covariance(3, 1) == data.covariance(1, 3));
}

TEST_CASE("complete: what is there already is kept, and the covariance can be left out", "[host]") {
  calibration_data data;
  data.activations = normal_matrix(3, 2, 1);
  data.rms = {7, 8};
  host::complete(data, {}, host::covariance_mode::left_out);
  CHECK(data.rms == std::vector<float>{7, 8});
  CHECK(data.mean_abs.size() == 2);
  CHECK(data.covariance.size() == 0);
  data.covariance = matrix<double>(2, 2, 5.0);
  host::complete(data);
  CHECK(data.covariance(0, 1) == 5);
}

TEST_CASE("complete: a covariance alone gives the RMS", "[host]") {
  calibration_data data;
  data.covariance = matrix<double>(2, 2, 0.0);
  data.covariance(1, 1) = 9;
  host::complete(data);
  CHECK(data.rms == std::vector<float>{0, 3});
  CHECK(data.mean_abs.empty());
  CHECK(data.largest.empty());
}

TEST_CASE("complete: nothing comes of nothing, and a refused one changes nothing", "[host]") {
  calibration_data nothing;
  host::complete(nothing);
  CHECK(nothing.is_empty());
  calibration_data broken;
  broken.activations = matrix<float>(2, 2, 1.0F);
  broken.activations(1, 0) = std::numeric_limits<float>::infinity();
  CHECK(report_of([&] { host::complete(broken); }).says(status_code::non_finite, "activations(1, 0) is inf"));
  CHECK(broken.rms.empty());
  CHECK(broken.covariance.size() == 0);
}
