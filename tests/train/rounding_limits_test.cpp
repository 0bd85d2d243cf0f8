// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/lr_qat_layer.hpp>
#include <qlr/train/lrq_layer.hpp>

#include <qlr/train/optimizer.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>
#include <train/rounding_examples.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

/// One forward and backward pass, a step, and all again; every number must be finite after each.
template <class Layer>
void check_finite(Layer& layer) {
  using number = typename Layer::compute_type;
  const matrix<number> x = normal_numbers<number>(3, layer.cols(), 1);
  const matrix<number> grad_y = normal_numbers<number>(3, layer.rows(), 2);
  const auto views = layer.parameters();
  adamw<number> optimizer(views);
  for (int step = 0; step < 3; ++step) {
    matrix<number> y = unset<number>(3, layer.rows());
    matrix<number> grad_x = unset<number>(3, layer.cols());
    zero_gradients<number>(views);
    layer.forward(x.view(), y.view());
    layer.backward(x.view(), grad_y.view(), grad_x.view());
    for (index_t i = 0; i < y.size(); ++i) REQUIRE(is_finite(y.data()[i]));
    for (index_t i = 0; i < grad_x.size(); ++i) REQUIRE(is_finite(grad_x.data()[i]));
    for (const auto& p : views) {
      CAPTURE(p.name);
      for (index_t i = 0; i < p.size(); ++i) {
        REQUIRE(is_finite(p.gradient[i]));
        REQUIRE(is_finite(p.value(i)));
      }
    }
    optimizer.step(views, 1e-3);
  }
  const matrix<float> decoded = slow_dequantize(layer.to_quantized());
  for (index_t i = 0; i < decoded.size(); ++i) REQUIRE(is_finite(decoded.data()[i]));
}

constexpr std::string_view formats[] = {"int2", "int4", "uint3", "minmax4", "int8"};

/// Constant rows, among them of zeros and of denormal numbers.
matrix<float> constant_rows() {
  const std::vector<float> values = {0.0F, -0.0F, 1.0F, -3.0F, 1e-40F, -1e-42F, 1e30F, -1e-30F};
  matrix<float> weight(static_cast<index_t>(values.size()), 64);
  for (index_t i = 0; i < weight.rows(); ++i)
    std::fill_n(weight.view().row(i), 64, values[static_cast<std::size_t>(i)]);
  return weight;
}

template <class Layer>
double largest_difference_of_weights(const matrix<float>& weight, index_t rank) {
  const quantized_matrix start = quantized_start(weight, "uint4", group_per_row);
  const auto found = forward_weight(make_layer<Layer>(weight, start, rank));
  const matrix<float> expected = slow_dequantize(start);
  double largest = 0;
  for (index_t i = 0; i < expected.size(); ++i)
    largest = std::max(largest, std::fabs(static_cast<double>(found.data()[i] - expected.data()[i])));
  return largest;
}

} // namespace

TEMPLATE_TEST_CASE("learned rounding: constant rows, zeros and denormal numbers give finite results",
                   "[train]", lrq_layer<float>, lrq_layer<bfloat16>, lrq_layer<double>, lr_qat_layer<float>,
                   lr_qat_layer<bfloat16>, lr_qat_layer<double>) {
  const matrix<float> weight = constant_rows();
  for (const std::string_view format : formats) {
    for (const index_t rank : {0, 3}) {
      CAPTURE(format, rank);
      TestType layer = make_layer<TestType>(weight, quantized_start(weight, format, 16), rank);
      check_finite(layer);
    }
  }
}

TEMPLATE_TEST_CASE("learned rounding: a matrix of zeros stays one", "[train]", lrq_layer<float>,
                   lr_qat_layer<float>) {
  const matrix<float> weight(5, 64, 0.0F);
  for (const std::string_view format : formats) {
    CAPTURE(format);
    TestType layer = make_layer<TestType>(weight, quantized_start(weight, format, 16), 2);
    const auto found = forward_weight(layer);
    for (index_t i = 0; i < found.size(); ++i) REQUIRE(found.data()[i] == 0);
    check_finite(layer);
  }
}

TEMPLATE_TEST_CASE("learned rounding: weights far beyond their scales saturate with finite gradients",
                   "[train]", lrq_layer<float>, lrq_layer<double>, lr_qat_layer<float>,
                   lr_qat_layer<double>) {
  const matrix<float> tiny = scaled(normal_matrix(4, 8, 3), 0x1p-110F);
  const quantized_matrix start = quantized_start(tiny, "int4", 4);
  matrix<float> weight = tiny;
  weight(0, 0) = 3e38F;
  weight(1, 7) = -3e38F;
  TestType layer = make_layer<TestType>(weight, start, 2);
  check_finite(layer);
  const quantized_matrix found = layer.to_quantized();
  CHECK(found.levels()[code_of(found, 0, 0)] == 7);
  CHECK(found.levels()[code_of(found, 1, 7)] == -8);
}

TEMPLATE_TEST_CASE("learned rounding: without factors it is rounding to nearest of the start", "[train]",
                   lrq_layer<float>, lr_qat_layer<float>) {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {1, 70}, {70, 1}, {65, 33}}) {
    CAPTURE(rows, cols);
    // Levels themselves: no weight lies between two, whatever is rounded before.
    const matrix<float> weight =
        slow_dequantize(quantized_start(weight_like_matrix(rows, cols, 5), "uint4", group_per_row));
    for (const index_t rank : {index_t{0}, std::min(rows, cols)}) // factors begin with a product of zero
      CHECK(largest_difference_of_weights<TestType>(weight, rank) < 1e-6);
  }
}

TEMPLATE_TEST_CASE("learned rounding: empty matrices are layers, too", "[train]", lrq_layer<float>,
                   lr_qat_layer<float>) {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{0, 5}, {5, 0}}) {
    CAPTURE(rows, cols);
    const matrix<float> weight(rows, cols);
    TestType layer = make_layer<TestType>(weight, quantized_start(weight, "int4", group_per_row), 0);
    check_finite(layer);
    CHECK(layer.to_quantized().rows() == rows);
    CHECK(layer.to_quantized().cols() == cols);
  }
}

TEMPLATE_TEST_CASE("learned rounding: other seeds and ranks give other factors, the same seed the same",
                   "[train]", lrq_layer<float>, lr_qat_layer<float>) {
  const matrix<float> weight = weight_like_matrix(9, 20, 5);
  const quantized_matrix start = quantized_start(weight, "int4", group_per_row);
  const auto right_of = [&](std::uint64_t seed) {
    TestType layer(weight.view(), start, {.rank = 4, .seed = seed});
    return values_of(layer).at("right");
  };
  CHECK(has_same_bits(right_of(1), right_of(1)));
  CHECK_FALSE(has_same_bits(right_of(1), right_of(2)));
}
