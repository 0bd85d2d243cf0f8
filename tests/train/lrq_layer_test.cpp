// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/lrq_layer.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>
#include <train/lrq_oracle.hpp>
#include <train/rounding_cases.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

matrix<float> weight_for(const rounding_case& c) {
  return weight_like_matrix(c.rows, c.cols, 7);
}

/// A layer away from its start: about one level in seven is out of range.
template <class Storage>
lrq_layer<Storage> moved_layer(const matrix<float>& weight, const quantized_matrix& start, index_t rank) {
  lrq_layer<Storage> layer(weight.view(), start, {.rank = rank, .seed = 3});
  disturb(layer, "log_scale", 0.2, 41);
  disturb(layer, "left", 0.5, 42);
  disturb(layer, "row_bias", 0.2, 43);
  disturb(layer, "column_bias", 0.2, 44);
  return layer;
}

template <class Storage>
matrix<double> stored_weight(const matrix<float>& weight) {
  matrix<double> stored(weight.rows(), weight.cols());
  for (index_t i = 0; i < weight.size(); ++i) {
    const float value = weight.data()[i];
    stored.data()[i] =
        std::same_as<Storage, bfloat16> ? slow_value(to_bfloat16(value)) : static_cast<double>(value);
  }
  return stored;
}

} // namespace

TEMPLATE_TEST_CASE("lrq_layer: W_hat is the definition", "[train]", float, double, bfloat16) {
  // In float the exponent, two exponentials and their products are rounded: 1e-6 of the quotient.
  const double tolerance = std::same_as<TestType, double> ? 1e-12 : 3e-6;
  for (const rounding_case& c : rounding_cases) {
    CAPTURE(c.rows, c.cols, c.rank, c.format, c.group_size);
    const matrix<float> weight = weight_for(c);
    const quantized_matrix start = quantized_start(weight, c.format, c.group_size);
    auto layer = moved_layer<TestType>(weight, start, c.rank);
    const slow_lrq slow(stored_weight<TestType>(weight), start);
    const named_numbers numbers = values_of(layer);
    const matrix<double> low_rank = slow_low_rank(numbers.at("left"), numbers.at("right"));
    const matrix<double> expected = slow.rounded_weight(numbers);
    const auto found = forward_weight(layer);
    index_t num_unsure = 0;
    for (index_t i = 0; i < c.rows; ++i) {
      for (index_t j = 0; j < c.cols; ++j) {
        const double scale = std::fabs(slow.scale(numbers, i, j));
        const double zero = std::fabs(slow.grid().zero(i, j));
        const slow_rounding rounding = slow.rounding(numbers, low_rank, i, j);
        if (rounding.is_near_tie(tolerance * (1 + std::fabs(rounding.value) + zero))) {
          ++num_unsure;
          continue;
        }
        const double allowed = tolerance * (std::fabs(expected(i, j)) + scale * zero);
        CAPTURE(i, j, found(i, j), expected(i, j));
        REQUIRE(is_near(static_cast<double>(found(i, j)), expected(i, j), allowed));
      }
    }
    CHECK(num_unsure <= 1 + weight.size() / 100);
  }
}

TEST_CASE("lrq_layer: gradients are those of the smooth surrogate by central differences", "[train]") {
  constexpr index_t tokens = 3;
  for (const rounding_case& c : rounding_cases) {
    CAPTURE(c.rows, c.cols, c.rank, c.format, c.group_size);
    const matrix<float> weight = weight_for(c);
    const quantized_matrix start = quantized_start(weight, c.format, c.group_size);
    auto layer = moved_layer<double>(weight, start, c.rank);
    const slow_lrq slow(stored_weight<double>(weight), start);
    const named_numbers base = values_of(layer);
    const matrix<double> x = normal_numbers<double>(tokens, c.cols, 5);
    const matrix<double> target = normal_numbers<double>(tokens, c.rows, 6);
    matrix<double> y = unset<double>(tokens, c.rows);
    matrix<double> grad_x = unset<double>(tokens, c.cols);
    layer.forward(x.view(), y.view());
    matrix<double> grad_y(tokens, c.rows);
    for (index_t i = 0; i < y.size(); ++i) grad_y.data()[i] = y.data()[i] - target.data()[i];
    layer.backward(x.view(), std::as_const(grad_y).view(), grad_x.view());
    check_derivatives(base, gradients_of(layer), [&](const named_numbers& numbers) {
      return half_squared_error(x, slow.smooth_weight(numbers, base), target);
    });
    check_product(grad_x.view(), grad_y, transpose(slow.rounded_weight(base)));
  }
}

TEST_CASE("lrq_layer: the examples have levels in range and out of it", "[train]") {
  index_t num_out = 0;
  index_t num_all = 0;
  for (const rounding_case& c : rounding_cases) {
    const matrix<float> weight = weight_for(c);
    const quantized_matrix start = quantized_start(weight, c.format, c.group_size);
    auto layer = moved_layer<double>(weight, start, c.rank);
    const slow_lrq slow(stored_weight<double>(weight), start);
    const named_numbers numbers = values_of(layer);
    const matrix<double> low_rank = slow_low_rank(numbers.at("left"), numbers.at("right"));
    for (index_t i = 0; i < c.rows; ++i) {
      for (index_t j = 0; j < c.cols; ++j) num_out += slow.rounding(numbers, low_rank, i, j).passes ? 0 : 1;
    }
    num_all += weight.size();
  }
  CHECK(num_out * 50 > num_all);
  CHECK(num_out * 2 < num_all);
}

TEST_CASE("lrq_layer: gradients are added to what is there", "[train]") {
  const matrix<float> weight = weight_like_matrix(70, 9, 7);
  auto layer = moved_layer<double>(weight, quantized_start(weight, "uint3", 4), 2);
  const matrix<double> x = normal_numbers<double>(3, 9, 5);
  const matrix<double> grad_y = normal_numbers<double>(3, 70, 6);
  layer.backward(x.view(), grad_y.view(), {});
  const named_numbers once = gradients_of(layer);
  layer.backward(x.view(), grad_y.view(), {});
  const named_numbers twice = gradients_of(layer);
  for (const auto& [name, gradient] : once) {
    CAPTURE(name);
    for (index_t i = 0; i < gradient.size(); ++i) {
      // Sums of 70 rows begin at zero or at the first result: two roundings more.
      const double expected = 2 * gradient.data()[i];
      CHECK(is_near(twice.at(name).data()[i], expected, 1e-13 * (1 + std::fabs(expected))));
    }
  }
}

TEMPLATE_TEST_CASE("lrq_layer: training begins at rounding to nearest", "[train]", float, double) {
  for (const rounding_case& c : rounding_cases) {
    CAPTURE(c.rows, c.cols, c.rank, c.format, c.group_size);
    const matrix<float> weight = weight_for(c);
    const quantized_matrix start = quantized_start(weight, c.format, c.group_size);
    lrq_layer<TestType> layer(weight.view(), start, {.rank = c.rank});
    const slow_grid grid(start);
    const auto found = forward_weight(layer);
    for (index_t i = 0; i < c.rows; ++i) {
      for (index_t j = 0; j < c.cols; ++j) {
        const double value = static_cast<double>(weight(i, j)) / grid.scale(i, j) + grid.zero(i, j);
        if (slow_rounding(value, grid.lowest, grid.highest).is_near_tie(1e-4)) continue;
        if (c.format == "mxint4" && value < grid.lowest + 0.5) continue; // a level that MXINT does not use
        const auto expected = static_cast<double>(slow_element(start, i, j));
        const double allowed = 1e-6 * (std::fabs(expected) + std::fabs(grid.scale(i, j) * grid.zero(i, j)));
        REQUIRE(is_near(static_cast<double>(found(i, j)), expected, allowed));
      }
    }
  }
}

TEST_CASE("lrq_layer: parameters have names, shapes, starts and decay as documented", "[train]") {
  const matrix<float> weight = weight_like_matrix(6, 10, 7);
  lrq_layer<bfloat16> layer(weight.view(), quantized_start(weight, "uint4", 4), {.rank = 3, .seed = 9});
  const auto all = layer.parameters("q.");
  REQUIRE(all.size() == 5);
  const std::vector<std::string> names = {"q.log_scale", "q.left", "q.right", "q.row_bias", "q.column_bias"};
  const std::vector<std::pair<index_t, index_t>> shapes = {{6, 3}, {6, 3}, {3, 10}, {6, 1}, {1, 10}};
  const std::vector<bool> decays = {false, true, true, false, false};
  for (std::size_t k = 0; k < all.size(); ++k) {
    CHECK(all[k].name == names[k]);
    CHECK(std::pair(all[k].rows, all[k].cols) == shapes[k]);
    CHECK(all[k].options.has_weight_decay == decays[k]);
    CHECK(all[k].options.learning_rate_factor == 1);
    const bool is_zero = k != 0 && k != 2;
    for (index_t i = 0; is_zero && i < all[k].size(); ++i) CHECK(all[k].value(i) == 0);
  }
  double largest = 0;
  for (index_t i = 0; i < 30; ++i)
    largest = std::max(largest, std::fabs(static_cast<double>(all[2].value(i))));
  CHECK(largest > 0.8 / std::sqrt(10.0));
  CHECK(largest < 1.004 / std::sqrt(10.0)); // bf16 rounds by up to 2^-9
  // W and two factors in 16 bits; 18 scales, 16 biases, 18 first scales and zero points in 32.
  CHECK(layer.stored_bytes() == 2 * (60 + 18 + 30) + 4 * (18 + 16) + 4 * (18 + 18));
}

TEST_CASE("lrq_layer: what does not fit is refused with a sentence", "[train]") {
  const matrix<float> weight = weight_like_matrix(6, 10, 7);
  const auto refusal_of = [](const matrix<float>& w, const quantized_matrix& start, index_t rank) {
    return report_of([&] { lrq_layer<float>(w.view(), start, {.rank = rank}); });
  };
  const quantized_matrix start = quantized_start(weight, "uint4", group_per_row);
  CHECK(refusal_of(weight, start, 6).message.empty());
  constexpr status_code invalid = status_code::invalid_argument;
  CHECK(refusal_of(weight, start, 7).says(invalid, "rank is 7, allowed for 6 x 10 are 0 to 6"));
  CHECK(refusal_of(weight, start, -1).says(invalid, "-1"));
  CHECK(refusal_of(weight_like_matrix(10, 6, 7), start, 1)
            .says(status_code::shape_mismatch, "W is 10 x 6, its quantized start is 6 x 10"));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    matrix<float> broken = weight;
    broken(5, 9) = bad;
    CHECK(refusal_of(broken, start, 1).says(status_code::non_finite, "W"));
  }
  for (const std::string_view format : {"nf4", "fp4", "sign", "iq4_nl", "nvfp4"}) {
    const report found = refusal_of(weight, quantized_start(weight, format, 5), 1);
    CHECK(found.says(status_code::unsupported, "quantizer is " + std::string(format)));
    CHECK(found.says(status_code::unsupported, "consecutive integers"));
  }
}
