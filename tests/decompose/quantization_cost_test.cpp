// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/quantization_cost.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

const std::vector<int> all_widths{2, 3, 4, 8};

const std::vector<scale_format> formats{{scale_coding::plain, scale_type::fp32},
                                        {scale_coding::plain, scale_type::bf16},
                                        double_quantized(2, scale_type::fp16, 16),
                                        double_quantized(3, scale_type::bf16, 5),
                                        double_quantized(8, scale_type::fp32, 256)};

any_quantizer normal_float(int bits, index_t group_size, const scale_format& scales) {
  return make_quantizer("nf" + std::to_string(bits), {group_size, scales, false});
}

/// The shared costs against those of the quantizers themselves.
void check_equal(const matrix<float>& x, index_t group_size, const metric& weights) {
  const normal_float_costs costs(x.view(), group_size, weights);
  for (const scale_format& format : formats) {
    CAPTURE(x.rows(), x.cols(), group_size, to_string(format));
    REQUIRE(costs.can_store(format));
    const std::vector<energies> found = costs(format, all_widths);
    REQUIRE(found.size() == all_widths.size());
    for (std::size_t i = 0; i < all_widths.size(); ++i) {
      const energies expected =
          quantization_cost(x.view(), normal_float(all_widths[i], group_size, format), weights);
      // The decoded value is rounded to float or not: 2^-24 of an element, whose error is 1e-2 of it with 8
      // bits.
      CHECK(is_near(found[i].frobenius, expected.frobenius, 1e-5 * expected.frobenius));
      CHECK(is_near(found[i].weighted, expected.weighted, 1e-5 * expected.weighted));
    }
  }
}

} // namespace

TEST_CASE("quantization_cost: is the squared error of what the quantizer stores", "[decompose]") {
  const matrix<float> x = weight_like_matrix(7, 83, 3);
  const matrix<float> fisher = scaled(weight_like_matrix(7, 83, 5), 1.0F);
  matrix<float> squares(7, 83);
  for (index_t i = 0; i < squares.size(); ++i) squares.data()[i] = fisher.data()[i] * fisher.data()[i];
  const metric weights = make_fisher_metric(squares.view(), 7, 83);
  for (const char* const name : {"nf2", "nf8", "uint3", "mxfp4", "minmax2", "sign"}) {
    CAPTURE(name);
    const any_quantizer quantizer = make_quantizer(name);
    const matrix<float> stored = slow_dequantize(quantizer.quantize(x.view(), {}, {}));
    double error = 0;
    double weighted = 0;
    for (index_t i = 0; i < x.size(); ++i) {
      const double e = static_cast<double>(x.data()[i]) - static_cast<double>(stored.data()[i]);
      error += e * e;
      weighted += static_cast<double>(squares.data()[i]) * e * e;
    }
    const energies found = quantization_cost(x.view(), quantizer, weights);
    // Differences are rounded to float before they are squared: 2^-24 of the larger operand.
    CHECK(is_near(found.frobenius, error, 1e-5 * error));
    CHECK(is_near(found.weighted, weighted, 1e-5 * weighted));
  }
}

TEST_CASE("normal_float_costs: equals the named quantizers", "[decompose][property]") {
  for (const auto& [rows, cols] :
       std::vector<std::pair<index_t, index_t>>{{1, 1}, {1, 17}, {5, 64}, {33, 130}}) {
    const matrix<float> x = weight_like_matrix(rows, cols, 11);
    for (const index_t group : {group_per_row, index_t{1}, index_t{7}, index_t{16}, index_t{64}}) {
      if (group <= cols) check_equal(x, group, {});
    }
  }
}

TEST_CASE("normal_float_costs: equals the named quantizers in every metric", "[decompose]") {
  const matrix<float> x = weight_like_matrix(9, 70, 13);
  matrix<float> fisher(9, 70);
  for (index_t i = 0; i < fisher.size(); ++i) fisher.data()[i] = std::fabs(x.data()[i]) + 0.01F;
  check_equal(x, 16, make_fisher_metric(fisher.view(), 9, 70));
  check_equal(x, 16, make_metric(std::vector<float>(9, 2.0F), std::vector<float>(70, 0.5F), 9, 70));
}

TEST_CASE("normal_float_costs: zeros, constants and denormals", "[decompose]") {
  for (const float value : {0.0F, 1.0F, -3.0F, 1e-40F, 1e30F}) {
    check_equal(matrix<float>(4, 40, value), 16, {});
  }
  const matrix<float> nothing(0, 5);
  CHECK(normal_float_costs(nothing.view(), 5, {})(formats[0], all_widths)[2].frobenius == 0.0);
}

TEST_CASE("normal_float_costs: knows what fp16 cannot hold", "[decompose]") {
  matrix<float> x(2, 32, 1.0F);
  x(1, 3) = 1e5F;
  const metric none;
  const normal_float_costs costs(x.view(), 16, none);
  CHECK_FALSE(costs.can_store({scale_coding::plain, scale_type::fp16}));
  CHECK_FALSE(costs.can_store(double_quantized(8, scale_type::fp16)));
  CHECK(costs.can_store(double_quantized(8, scale_type::bf16)));
  CHECK(report_of([&] {
          (void)costs(double_quantized(8, scale_type::fp16), all_widths);
        }).says(status_code::unsupported, "beyond the range of fp16"));
  x.fill(1e5F); // all above the smallest scale by nothing
  const normal_float_costs equal(x.view(), 16, none);
  CHECK(equal.can_store(double_quantized(8, scale_type::fp16)));
  CHECK(equal(double_quantized(8, scale_type::fp16), all_widths)[1].frobenius == 0.0);
  CHECK(report_of([&] {
          (void)costs(formats[0], std::vector<int>{5});
        }).says(status_code::invalid_argument, "bits is 5, allowed are 2, 3, 4 and 8"));
}

TEST_CASE("threads: quantization costs do not depend on them", "[decompose][threads]") {
  thread_pool three(3);
  const matrix<float> x = weight_like_matrix(40, 6000, 19);
  const metric none;
  const energies alone = quantization_cost(x.view(), make_quantizer("int3"), none);
  const energies shared = quantization_cost(x.view(), make_quantizer("int3"), none, three);
  CHECK(alone.frobenius == shared.frobenius);
  const std::vector<energies> one = normal_float_costs(x.view(), 64, none)(formats[4], all_widths);
  const std::vector<energies> many = normal_float_costs(x.view(), 64, none, three)(formats[4], all_widths);
  for (std::size_t i = 0; i < one.size(); ++i) CHECK(one[i].frobenius == many[i].frobenius);
}
