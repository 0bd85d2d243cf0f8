// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/fakes/fake_device.hpp>
#include <cuda/launcher.hpp>
#include <cuda/support.hpp>
#include <host/covariance_oracles.hpp>
#include <qlr/cuda/decompose.hpp>
#include <qlr/host/covariance.hpp>
#include <support/catch.hpp>
#include <support/decompose.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr index_t rows = 48;
constexpr index_t cols = 80;

any_quantizer groups_of(std::string_view format, index_t size = 16) {
  format_options options;
  if (!find_format(format).is_fixed) options.group_size = size;
  return make_quantizer(format, options);
}

const matrix<float>& test_weight() {
  static const matrix<float> w = weight_like_matrix(rows, cols, 1);
  return w;
}

/// The metric that a method takes from inputs that are correlated.
metric metric_for(calibration_use uses) {
  static const matrix<float> inputs = correlated_inputs(2 * cols, cols, 2);
  static const matrix<double> covariance = slow_covariance(inputs);
  static const matrix<float> fisher = [] {
    matrix<float> f = normal_matrix(rows, cols, 3);
    for (index_t i = 0; i < f.size(); ++i) f.data()[i] *= f.data()[i];
    return f;
  }();
  std::vector<float> diagonal(static_cast<std::size_t>(cols));
  for (index_t j = 0; j < cols; ++j)
    diagonal[static_cast<std::size_t>(j)] = static_cast<float>(covariance(j, j));
  switch (uses) {
  case calibration_use::none:
    return {};
  case calibration_use::fisher:
    return make_fisher_metric(fisher.view(), rows, cols);
  case calibration_use::mean_abs:
  case calibration_use::rms:
    return make_metric({}, diagonal, rows, cols);
  case calibration_use::covariance:
  case calibration_use::whatever_given:
    return make_covariance_metric(matrix<double>(covariance), {.damping = 0.01});
  }
  return {};
}

decompose_result on_device(matrix_view<const float> w, const any_quantizer& quantizer,
                           const decompose_options& options, const metric& weights = {}) {
  const cuda::context on;
  const auto device = cuda::to_device(w);
  return cuda::decompose<test_launcher>(on, device.view(), quantizer, options, weights);
}

decompose_options options_of(std::string_view method, index_t rank = 6) {
  decompose_options options;
  options.rank = rank;
  options.steps = find_preset(method).steps;
  options.steps.iterations = std::min(options.steps.iterations, 4); // a simulated device takes its time
  options.steps.polish_rounds = std::min(options.steps.polish_rounds, 1);
  options.smoothing.grid_steps = 2;
  return options;
}

/// Codes at the same distance from two levels may go either way, and the loop goes on from there: errors, not
/// codes, are compared.
void check_same(const decompose_result& found, const decompose_result& expected,
                double tolerance_rel = 1e-3) {
  CHECK(is_near(found.weighted_error, expected.weighted_error, tolerance_rel * expected.weighted_error));
  CHECK(is_near(found.relative_error, expected.relative_error, tolerance_rel * expected.relative_error));
  REQUIRE(found.history.size() == expected.history.size());
  for (std::size_t i = 0; i < found.history.size(); ++i) {
    CAPTURE(i);
    CHECK(found.history[i].iteration == expected.history[i].iteration);
    CHECK(is_near(found.history[i].weighted_error, expected.history[i].weighted_error,
                  5 * tolerance_rel * expected.history[i].weighted_error));
  }
  CHECK(found.best.left.rows() == expected.best.left.rows());
  CHECK(found.best.left.cols() == expected.best.left.cols());
  CHECK(found.best.right.rows() == expected.best.right.rows());
  CHECK(found.best.quantized.format_name() == expected.best.quantized.format_name());
  CHECK(found.best.input_scales.size() == expected.best.input_scales.size());
  CHECK(found.reason == expected.reason);
}

} // namespace

TEST_CASE("decompose on a device: every method finds the CPU's errors", "[cuda]") {
  if (!has_device()) return;
  for (const preset& method : presets) {
    const metric weights = metric_for(method.uses);
    const any_quantizer quantizer = groups_of(method.quantizer);
    const decompose_options options = options_of(method.name);
    INFO(method.name);
    const decompose_result expected = decompose(test_weight().view(), quantizer, options, weights);
    const decompose_result found = on_device(test_weight().view(), quantizer, options, weights);
    check_same(found, expected);
    // What is reported is what the parts say.
    const matrix<float> dense = reconstruct(found.best);
    double error = 0;
    double norm = 0;
    for (index_t i = 0; i < dense.size(); ++i) {
      const double exact = static_cast<double>(test_weight().data()[i]);
      error += std::pow(exact - static_cast<double>(dense.data()[i]), 2);
      norm += exact * exact;
    }
    CHECK(is_near(found.relative_error, std::sqrt(error / norm), 1e-5));
  }
}
