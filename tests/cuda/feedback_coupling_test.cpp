// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/feedback_context.hpp>
#include <cuda/support.hpp>
#include <host/covariance_oracles.hpp>
#include <qlr/cuda/detail/coupling.hpp>
#include <qlr/host/coupling.hpp>
#include <support/catch.hpp>
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

cuda::device_coupling couple(const matrix<double>& h, const matrix<float>& right,
                             const feedback_options& options, coupling_use use) {
  const feedback_context context;
  const auto on_device = cuda::to_device(h.view());
  const auto right_on_device = cuda::to_device(right.view());
  return cuda::make_coupling<test_launcher>(context, on_device.view(), right_on_device.view(), options, use);
}

host::column_coupling couple_on_host(const matrix<double>& h, const matrix<float>& right,
                                     const feedback_options& options, coupling_use use) {
  return host::make_coupling(input_covariance{matrix<double>(h), {}, 0, 0, 0}, right, options, use, {});
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
      worst = std::max(worst, std::isfinite(difference) ? difference / std::max(1.0, std::fabs(value)) : 1e30);
    }
  }
  CHECK(worst <= tolerance);
}

void check_coupling(const matrix<double>& h, const matrix<float>& right, const feedback_options& options,
                    coupling_use use, double tolerance = 3e-7) {
  const host::column_coupling expected = couple_on_host(h, right, options, use);
  const cuda::device_coupling found = couple(h, right, options, use);
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
    for (const coupling_case& size : {coupling_case{1, 1, 0}, coupling_case{40, 3, 0}, coupling_case{60, 33, 0},
                                      coupling_case{60, 33, 5}, coupling_case{150, 70, 16}}) {
      const matrix<double> h = slow_covariance(correlated_inputs(size.tokens, size.channels, 3));
      const matrix<float> right = normal_matrix(size.rank, size.channels, 4);
      for (const column_order order : all_orders) {
        CAPTURE(size.channels, size.rank, static_cast<int>(order));
        check_coupling(h, right, {.order = order, .descents = 2, .factor_noise = 1e-3},
                       coupling_use::feedback);
      }
    }
  });
}
