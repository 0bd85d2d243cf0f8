// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/smoothing.hpp>

#include <qlr/host/decompose.hpp>

#include <host/covariance_oracles.hpp>
#include <support/catch.hpp>
#include <support/decompose.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

any_quantizer groups_of(std::string_view format, index_t size) {
  return make_quantizer(format, {size, scale_format{scale_coding::plain, scale_type::fp32}, false});
}

/// SVDQuant, with a coarse grid of exponents and few iterations so that tests are quick.
decompose_options svdquant(index_t rank, factor_storage factors = factor_storage::fp32) {
  decompose_options options;
  options.rank = rank;
  options.steps = find_preset("svdquant").steps;
  options.steps.iterations = 5;
  options.factors = factors;
  options.smoothing.grid_steps = 4;
  return options;
}

decompose_result split(const matrix<float>& w, const matrix<float>& x, const any_quantizer& quantizer,
                       const decompose_options& options, const executor& run = {}) {
  return decompose(w.view(), quantizer, options, make_covariance_metric(slow_covariance(x)), run);
}

/// Q diag(1 / input_scales) + s L R.
matrix<double> slow_dense(const decomposition& parts) {
  const matrix<float> q = slow_dequantize(parts.quantized);
  matrix<double> dense(q.rows(), q.cols());
  for (index_t i = 0; i < q.rows(); ++i) {
    for (index_t j = 0; j < q.cols(); ++j) {
      const float scale = parts.input_scales.empty() ? 1.0F : parts.input_scales[static_cast<std::size_t>(j)];
      dense(i, j) = static_cast<double>(q(i, j)) / static_cast<double>(scale);
      for (index_t k = 0; k < parts.rank(); ++k)
        dense(i, j) += static_cast<double>(parts.scale) * static_cast<double>(parts.left(i, k)) *
                       static_cast<double>(parts.right(k, j));
    }
  }
  return dense;
}

matrix<double> slow_error(const matrix<float>& w, const decomposition& parts) {
  matrix<double> error = slow_dense(parts);
  for (index_t i = 0; i < w.size(); ++i) error.data()[i] = static_cast<double>(w.data()[i]) - error.data()[i];
  return error;
}

/// Inputs with a few channels much larger than the others.
matrix<float> inputs_with_outliers(index_t tokens, index_t channels, std::uint64_t seed) {
  matrix<float> x = correlated_inputs(tokens, channels, seed);
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t j = 2; j < channels; j += 11) x(t, j) *= 30.0F;
  }
  return x;
}

std::vector<float> largest_of(const matrix<float>& x) {
  std::vector<float> largest(static_cast<std::size_t>(x.cols()), 0.0F);
  for (index_t t = 0; t < x.rows(); ++t) {
    for (index_t j = 0; j < x.cols(); ++j)
      largest[static_cast<std::size_t>(j)] =
          std::max(largest[static_cast<std::size_t>(j)], std::fabs(x(t, j)));
  }
  return largest;
}

/// || X W^T - q(X') Q^T - X R^T L^T || / || X W^T || with symmetric integers for X' = X diag(1 / lambda), on
/// every step-th token.
double slow_quantized_error(const matrix<float>& w, const matrix<float>& x, const decomposition& parts,
                            int bits, index_t group, index_t step) {
  const matrix<float> q = slow_dequantize(parts.quantized);
  const double top = (1 << (bits - 1)) - 1;
  double error = 0;
  double norm = 0;
  for (index_t t = 0; t < x.rows(); t += step) {
    std::vector<double> smooth;
    for (index_t j = 0; j < x.cols(); ++j)
      smooth.push_back(static_cast<double>(x(t, j) / parts.input_scales[static_cast<std::size_t>(j)]));
    std::vector<double> rounded(smooth);
    for (index_t first = 0; first < x.cols(); first += group) {
      const index_t last = std::min(first + group, x.cols());
      double largest = 0;
      for (index_t j = first; j < last; ++j)
        largest = std::max(largest, std::fabs(smooth[static_cast<std::size_t>(j)]));
      for (index_t j = first; j < last && largest > 0; ++j) {
        double& value = rounded[static_cast<std::size_t>(j)];
        value = std::nearbyint(value * top / largest) * largest / top;
      }
    }
    for (index_t i = 0; i < w.rows(); ++i) {
      double exact = 0;
      double found = 0;
      for (index_t j = 0; j < w.cols(); ++j) {
        exact += static_cast<double>(x(t, j)) * static_cast<double>(w(i, j));
        found += rounded[static_cast<std::size_t>(j)] * static_cast<double>(q(i, j));
        for (index_t k = 0; k < parts.rank(); ++k)
          found += static_cast<double>(x(t, j)) * static_cast<double>(parts.right(k, j)) *
                   static_cast<double>(parts.left(i, k));
      }
      error += (exact - found) * (exact - found);
      norm += exact * exact;
    }
  }
  return std::sqrt(error / norm);
}

bool is_usable(float scale) {
  return is_finite(scale) && scale > 0;
}

} // namespace

TEST_CASE("smoothing: reconstruction and errors are those of the stored parts", "[host][property]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {1, 9}, {24, 1}, {20, 33}, {40, 64}}) {
    const matrix<float> w = weight_like_matrix(rows, cols, 1);
    const matrix<float> x = inputs_with_outliers(2 * cols + 5, cols, 2);
    const matrix<double> h = slow_covariance(x);
    for (const factor_storage factors : {factor_storage::fp32, factor_storage::fp16, factor_storage::int8}) {
      for (const index_t rank : {index_t{0}, std::min<index_t>({4, rows, cols})}) {
        CAPTURE(rows, cols, rank, to_string(factors));
        const decompose_result result =
            split(w, x, groups_of("int4", std::min<index_t>(cols, 16)), svdquant(rank, factors));
        const decomposition& parts = result.best;
        REQUIRE(static_cast<index_t>(parts.input_scales.size()) == cols);
        CHECK(std::all_of(parts.input_scales.begin(), parts.input_scales.end(), is_usable));
        const matrix<double> expected = slow_dense(parts);
        const matrix<float> dense = reconstruct(parts);
        double size = 0;
        double worst = 0;
        for (index_t i = 0; i < w.size(); ++i) {
          size = std::max(size, std::fabs(expected.data()[i]));
          worst = std::max(worst, std::fabs(expected.data()[i] - static_cast<double>(dense.data()[i])));
        }
        CHECK(worst <= 16 * 0x1p-24 * size); // rank + 3 roundings of terms of that size
        const matrix<double> error = slow_error(w, parts);
        matrix<double> identity(cols, cols, 0.0);
        for (index_t j = 0; j < cols; ++j) identity(j, j) = 1;
        // Dense parts are rounded to float before they are subtracted.
        const double relative = std::sqrt(slow_energy(error, identity) / slow_energy(w, identity));
        CHECK(is_near(result.relative_error, relative, 1e-6));
        CHECK(is_near(result.weighted_error, std::sqrt(slow_energy(error, h) / slow_energy(w, h)), 1e-6));
      }
    }
  }
}

TEST_CASE("smoothing: factors are as their storage holds them", "[host]") {
  const matrix<float> w = weight_like_matrix(40, 70, 3);
  const matrix<float> x = inputs_with_outliers(150, 70, 4);
  for (const factor_storage factors : {factor_storage::fp16, factor_storage::int8, factor_storage::int4}) {
    const decomposition parts = split(w, x, groups_of("int4", 35), svdquant(5, factors)).best;
    matrix<float> right(parts.right);
    round_factor(right, factors);
    CHECK(std::equal(right.data(), right.data() + right.size(), parts.right.data()));
  }
}

TEST_CASE("smoothing: the exponent that is chosen is the best of the grid", "[host]") {
  const matrix<float> w = weight_like_matrix(40, 60, 5);
  const matrix<float> x = inputs_with_outliers(200, 60, 6);
  decompose_options once = svdquant(4);
  once.steps.iterations = 1;
  const any_quantizer quantizer = groups_of("int3", 30);
  double coarse = split(w, x, quantizer, once).weighted_error;
  for (const int steps : {8, 16}) { // finer grids contain the coarser ones
    once.smoothing.grid_steps = steps;
    const double finer = split(w, x, quantizer, once).weighted_error;
    CHECK(finer <= coarse);
    coarse = finer;
  }
}

TEST_CASE("smoothing: scales follow the formula of the paper", "[host]") {
  const std::vector<float> inputs{1, 4, 9, 0, 2};
  const std::vector<float> weights{0.5F, 0.25F, 2, 3, 0};
  for (const double alpha : {0.0, 0.3, 1.0}) {
    const std::vector<float> scales = detail::smoothing_scales(inputs, weights, alpha);
    double product = 1; // the geometric mean of what is smoothed is 1
    const auto ideal = [&](std::size_t j) {
      return std::pow(static_cast<double>(inputs[j]), alpha) /
             std::pow(static_cast<double>(weights[j]), 1 - alpha);
    };
    for (const std::size_t j : {0U, 1U, 2U}) {
      product *= static_cast<double>(scales[j]);
      CHECK(static_cast<double>(scales[j] / scales[0]) == Approx(ideal(j) / ideal(0)).epsilon(1e-5));
    }
    CHECK(product == Approx(1.0).epsilon(1e-5));
    CHECK(scales[3] == 1.0F); // never active
    CHECK(scales[4] == 1.0F); // never used
  }
}

TEST_CASE("smoothing: channels without inputs or weights are left as they are", "[host]") {
  matrix<float> w = weight_like_matrix(12, 20, 7);
  matrix<float> x = inputs_with_outliers(60, 20, 8);
  for (index_t i = 0; i < 12; ++i) w(i, 6) = 0;
  for (index_t t = 0; t < 60; ++t) x(t, 11) = 0;
  for (index_t i = 0; i < 12; ++i) w(i, 13) = 1e-38F; // smoothing it away would leave the range of float
  const decompose_result result = split(w, x, groups_of("int4", 10), svdquant(3));
  CHECK(result.best.input_scales[6] == 1.0F);
  CHECK(result.best.input_scales[11] == 1.0F);
  CHECK(std::all_of(result.best.input_scales.begin(), result.best.input_scales.end(), is_usable));
  CHECK(is_finite(result.weighted_error));
  CHECK(result.weighted_error < 0.2);
  const matrix<float> zeros(12, 20, 0.0F);
  const decompose_result nothing = split(zeros, x, groups_of("int4", 10), svdquant(3));
  CHECK(nothing.weighted_error == 0.0);
  CHECK(nothing.best.input_scales == std::vector<float>(20, 1.0F));
}

TEST_CASE("smoothing: the largest inputs that are given are used", "[host]") {
  const matrix<float> w = weight_like_matrix(16, 24, 9);
  const matrix<float> x = inputs_with_outliers(80, 24, 10);
  decompose_options options = svdquant(2);
  options.smoothing.grid_steps = 1; // alpha is 0 or 1
  options.smoothing.largest = largest_of(x);
  const std::vector<float> scales = split(w, x, groups_of("int3", 12), options).best.input_scales;
  const std::vector<float> by_weights =
      detail::smoothing_scales(options.smoothing.largest, largest_of(w), 0.0);
  const std::vector<float> by_inputs =
      detail::smoothing_scales(options.smoothing.largest, largest_of(w), 1.0);
  CHECK((scales == by_weights || scales == by_inputs));
}

TEST_CASE("smoothing: inputs in four bits: the error is that of quantized inputs", "[host][property]") {
  for (const index_t tokens : {index_t{1}, index_t{90}, index_t{2500}}) {
    const index_t cols = tokens > 1024 ? 9 : 100; // two groups of inputs
    const matrix<float> w = weight_like_matrix(20, cols, 11);
    const matrix<float> x = inputs_with_outliers(tokens, cols, 12);
    for (const int bits : {4, 8}) {
      decompose_options options = svdquant(3);
      options.smoothing.activation_bits = bits;
      options.smoothing.activations = x.view();
      options.smoothing.largest = largest_of(x);
      const decompose_result result = split(w, x, groups_of("int4", std::min<index_t>(cols, 50)), options);
      const double expected = slow_quantized_error(w, x, result.best, bits, 64, tokens > 1024 ? 3 : 1);
      CAPTURE(tokens, bits, result.weighted_error, expected);
      // Inputs at the same distance from two levels may be rounded either way.
      CHECK(is_near(result.weighted_error, expected, 1e-3 * expected));
      const iteration_report& best =
          *std::min_element(result.history.begin(), result.history.end(),
                            [](const auto& a, const auto& b) { return a.weighted_error < b.weighted_error; });
      CHECK(is_near(result.weighted_error, best.weighted_error, 1e-3 * expected)); // R is divided and rounded
    }
  }
}

TEST_CASE("smoothing: it pays where inputs are quantized and have outliers", "[host]") {
  const matrix<float> w = weight_like_matrix(40, 64, 13);
  const matrix<float> x = inputs_with_outliers(128, 64, 14);
  decompose_options options = svdquant(4);
  options.smoothing.activation_bits = 4;
  options.smoothing.activations = x.view();
  options.smoothing.largest = largest_of(x);
  const decompose_result result = split(w, x, groups_of("int4", 64), options);
  decomposition plain = result.best; // the same parts with X rounded as it is
  plain.input_scales.assign(64, 1.0F);
  const decomposition unsmoothed =
      decompose(w.view(), groups_of("int4", 64), svdquant(4)).best; // without a covariance: no smoothing
  CHECK(unsmoothed.input_scales.empty());
  plain.quantized = unsmoothed.quantized;
  plain.left = unsmoothed.left;
  plain.right = unsmoothed.right;
  CHECK(result.weighted_error < slow_quantized_error(w, x, plain, 4, 64, 1));
}

TEST_CASE("smoothing: impossible options are refused with a sentence", "[host]") {
  const matrix<float> w = weight_like_matrix(8, 10, 15);
  matrix<float> x = inputs_with_outliers(30, 10, 16);
  const metric weights = make_covariance_metric(slow_covariance(x));
  const auto refusal = [&](auto&& change) {
    decompose_options options = svdquant(2);
    int iterations = 0;
    options.on_iteration = [&](const iteration_report&) { ++iterations; };
    change(options.smoothing);
    const report found =
        report_of([&] { (void)decompose(w.view(), groups_of("int4", 5), options, weights); });
    CHECK(iterations == 0);
    return found;
  };
  using smoothing = smoothing_options;
  CHECK(refusal([](smoothing& s) {
          s.largest = {1, 2};
        }).says(status_code::shape_mismatch, "largest inputs has 2 entries, the weight matrix needs 10"));
  CHECK(refusal([](smoothing& s) {
          s.largest.assign(10, -1.0F);
        }).says(status_code::invalid_argument, "largest inputs[0] is -1, it must be >= 0"));
  CHECK(refusal([](smoothing& s) {
          s.largest.assign(10, std::numeric_limits<float>::quiet_NaN());
        }).says(status_code::non_finite, "largest inputs[0] is nan"));
  CHECK(refusal([](smoothing& s) {
          s.largest.assign(10, 0.0F);
        }).says(status_code::invalid_argument, "largest inputs is all zero"));
  for (const int steps : {0, -3}) {
    CHECK(refusal([&](smoothing& s) { s.grid_steps = steps; })
              .says(status_code::invalid_argument,
                    sentence("grid_steps is ", steps, ", allowed are 1 and above")));
  }
  for (const int bits : {-1, 0, 1, 9, 15, 17}) {
    CHECK(refusal([&](smoothing& s) { s.activation_bits = bits; })
              .says(status_code::invalid_argument,
                    sentence("activation_bits is ", bits, ", allowed are 2 to 8 and 16")));
  }
  CHECK(refusal([](smoothing& s) {
          s.activation_group = 0;
        }).says(status_code::invalid_argument, "activation_group is 0, allowed are 1 and above"));
  CHECK(refusal([](smoothing& s) { s.activation_bits = 4; })
            .says(status_code::shape_mismatch,
                  "activations are 0 x 0, activation_bits below 16 needs X with 10"));
  const matrix<float> narrow(5, 9, 1.0F);
  CHECK(refusal([&](smoothing& s) {
          s.activation_bits = 4;
          s.activations = narrow.view();
        }).says(status_code::shape_mismatch, "activations are 5 x 9"));
  x(7, 3) = std::numeric_limits<float>::infinity();
  CHECK(refusal([&](smoothing& s) {
          s.activation_bits = 4;
          s.activations = std::as_const(x).view();
        }).says(status_code::non_finite, "activations(7, 3) is inf"));
}

TEST_CASE("smoothing: the same bits on any number of threads", "[host]") {
  const matrix<float> w = weight_like_matrix(150, 40, 17);
  const matrix<float> x = inputs_with_outliers(100, 40, 18);
  decompose_options options = svdquant(3);
  options.smoothing.activation_bits = 4;
  options.smoothing.activations = x.view();
  const decompose_result expected = split(w, x, groups_of("int4", 20), options);
  for (const int threads : {2, 5}) {
    thread_pool pool(threads);
    const decompose_result found = split(w, x, groups_of("int4", 20), options, pool);
    CHECK(has_same_bytes(found.best.quantized, expected.best.quantized));
    CHECK(found.best.input_scales == expected.best.input_scales);
    CHECK(std::equal(found.best.right.data(), found.best.right.data() + found.best.right.size(),
                     expected.best.right.data(), is_same));
    CHECK(found.weighted_error == expected.weighted_error);
  }
}
