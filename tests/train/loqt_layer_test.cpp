// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "loqt_layers.hpp"

#include <limits>
#include <string>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::test::quantized_layers;
using qlr::train::loqt_layer;
using qlr::train::loqt_options;

namespace {

/// Sums of up to 280 products of order one, in another order.
constexpr double float_tolerance = 280.0 * 280.0 * 0x1p-23;
constexpr double double_tolerance = 280.0 * 280.0 * 0x1p-52;

} // namespace

TEST_CASE("loqt_layer: gradients of T and X are central differences, for every shape", "[train][property]") {
  for (const low_rank_shape& shape : low_rank_shapes) {
    loqt_layer<double> layer = make_loqt_layer<double>(shape.rows, shape.cols, {.rank = shape.rank});
    change_factor(layer);
    check_differences(layer, shape.tokens);
  }
}

TEST_CASE("loqt_layer: gradients are central differences where P is quantized", "[train]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{12, 9}, {9, 12}}) {
    loqt_layer<double> layer = make_loqt_layer<double>(
        rows, cols, {.rank = 3, .scale = 0.25F, .projection_quantizer = make_quantizer("nf4")},
        make_quantizer("uint3", {.group_size = 4}));
    check_differences(layer, 4);
  }
}

TEMPLATE_TEST_CASE("loqt_layer: Y is that of the decomposition it stands for, for every shape", "[train]",
                   float, double, bfloat16) {
  using T = qlr::train::compute_t<TestType>;
  for (const low_rank_shape& shape : low_rank_shapes) {
    const auto layer = make_loqt_layer<TestType>(shape.rows, shape.cols, {.rank = shape.rank});
    const matrix<T> x = random_numbers<T>(shape.tokens, shape.cols, 4);
    const matrix<double> weight = slow_weight(layer.to_decomposition());
    CAPTURE(shape.tokens, shape.rows, shape.cols, shape.rank);
    CHECK(largest_difference(output_of(layer, x), slow_multiply(widened(x), flipped(weight))) <=
          float_tolerance); // also in double: the decomposition has T in float
  }
}

TEST_CASE("loqt_layer: a new one is being refreshed, with the quantized weight alone", "[train]") {
  const matrix<float> weight = random_numbers<float>(12, 7, 21);
  const loqt_layer<double> layer(weight.view(), make_quantizer("nf4"), {.rank = 3});
  CHECK(layer.is_refreshing());
  const decomposition parts = layer.to_decomposition();
  CHECK(has_same_bytes(parts.quantized, quantize(weight.view(), make_quantizer("nf4"))));
  CHECK(parts.quantized.format_name() == "nf4");
  CHECK(parts.rank() == 0);
  const matrix<double> x = random_numbers<double>(5, 7, 4);
  CHECK(largest_difference(output_of(layer, x), slow_multiply(x, flipped(slow_base(parts)))) <=
        double_tolerance);
}

TEST_CASE("loqt_layer: takes a weight with any strides", "[train]") {
  const matrix<float> weight = random_numbers<float>(12, 7, 21);
  for (const placement where : all_placements) {
    const placed_matrix<float> placed(weight.view(), where);
    loqt_layer<float> layer(placed.view(), make_quantizer("nf4"), {.rank = 3});
    add_some_gradient(layer, 9, 31);
    layer.finish_refresh();
    CHECK(has_equal_bytes(layer.to_decomposition(),
                          make_loqt_layer<float>(12, 7, {.rank = 3}).to_decomposition()));
  }
}

TEST_CASE("loqt_layer: T alone is trained, L where n <= m and R where not", "[train]") {
  struct expectation {
    index_t rows;
    index_t cols;
    std::string name;
    index_t factor_rows;
    index_t factor_cols;
  };
  const expectation all[] = {
      {12, 7, "w.left", 12, 2}, {7, 7, "w.left", 7, 2}, {7, 12, "w.right", 2, 12}, {1, 12, "w.right", 1, 12}};
  for (const expectation& expected : all) {
    const index_t rank = expected.rows == 1 ? 1 : 2;
    auto layer = make_loqt_layer<float>(expected.rows, expected.cols, {.rank = rank});
    const auto parameters = layer.parameters("w.");
    REQUIRE(parameters.size() == 1);
    CHECK(parameters[0].name == expected.name);
    CHECK(parameters[0].rows == expected.factor_rows);
    CHECK(parameters[0].cols == expected.factor_cols);
    CHECK(layer.trains_left() == (expected.name == "w.left"));
  }
}

TEST_CASE("loqt_layer: while it is refreshed, T and its gradient stay zero, and that of X is of Q alone",
          "[train]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{12, 9}, {9, 12}}) {
    auto layer = make_loqt_layer<double>(rows, cols, {.rank = 3});
    std::fill_n(layer.parameters()[0].gradient, layer.parameters()[0].size(), 7.0);
    layer.start_refresh();
    const matrix<double> x = random_numbers<double>(4, cols, 4);
    const matrix<double> g = random_numbers<double>(4, rows, 5);
    matrix<double> grad_x = filled_with_nan<double>(4, cols);
    layer.backward(x.view(), g.view(), grad_x.view());
    const auto p = layer.parameters()[0];
    for (index_t i = 0; i < p.size(); ++i) {
      CHECK(p.value(i) == 0);
      CHECK(p.gradient[i] == 0);
    }
    const decomposition parts = layer.to_decomposition();
    CHECK(parts.rank() == 0);
    CHECK(largest_difference(grad_x, slow_multiply(g, slow_base(parts))) <= double_tolerance);
    layer.finish_refresh();
    for (index_t i = 0; i < p.size(); ++i) CHECK(p.gradient[i] == 0);
  }
}

TEST_CASE("loqt_layer: gradients in float and with bf16 storage are those in double", "[train]") {
  // Without compensation T and P start as the same numbers of float.
  const loqt_options options{.rank = 4, .compensation_steps = 0};
  const matrix<float> x = random_numbers<float>(7, 130, 4);
  const matrix<float> c = random_numbers<float>(7, 66, 5);
  auto half = make_loqt_layer<bfloat16>(66, 130, options);
  const decomposition parts = half.to_decomposition();
  const auto found = gradients_of(half, x, c);
  REQUIRE(found.size() == 2);
  const matrix<double> grad_weight = slow_multiply(flipped(widened(c)), widened(x));
  const matrix<double> expected = slow_multiply(flipped(widened(parts.left)), grad_weight, 0.5);
  CHECK(largest_difference(found[0], slow_add(expected, matrix<double>(4, 130, 0.5))) <= float_tolerance);
  CHECK(largest_difference(found[1], slow_multiply(widened(c), slow_weight(parts))) <= float_tolerance);
}

TEST_CASE("loqt_layer: bits do not depend on the number of threads", "[train]") {
  for (const auto& shape : {std::pair<index_t, index_t>{530, 70}, {300, 310}}) {
    const index_t rows = shape.first;
    const index_t cols = shape.second;
    const loqt_options options{.rank = 5, .compensation_steps = 2};
    const matrix<float> x = random_numbers<float>(70, cols, 4);
    const matrix<float> c = random_numbers<float>(70, rows, 5);
    const auto cycle = [&](const executor& run) {
      auto layer = make_loqt_layer<float>(rows, cols, options, make_quantizer("nf4"), run);
      change_factor(layer);
      layer.start_refresh(run);
      add_some_gradient(layer, 70, 33, run);
      layer.finish_refresh(run);
      return layer;
    };
    auto first = cycle({});
    const auto y = output_of(first, x);
    const auto gradients = gradients_of(first, x, c);
    for (const int threads : {1, 2, 3}) {
      thread_pool pool(threads);
      auto layer = cycle(pool);
      CAPTURE(rows, cols, threads);
      CHECK(has_equal_bytes(layer.to_decomposition(), first.to_decomposition()));
      CHECK(has_equal_bytes(output_of(layer, x, pool), y));
      const auto found = gradients_of(layer, x, c, pool);
      for (std::size_t k = 0; k < 2; ++k) CHECK(has_equal_bytes(found[k], gradients[k]));
    }
  }
}

TEST_CASE("loqt_layer: its bytes are those of packed Q, P and T, and of a refresh besides", "[train]") {
  const index_t of_q = 64 * 64 + 2 * 128 + 2 * 128; // codes, packed scales, and scales as they were
  const loqt_options plain{.rank = 3};
  CHECK(make_loqt_layer<float>(64, 128, plain).stored_bytes() == of_q + 4 * 3 * (64 + 128));
  CHECK(make_loqt_layer<bfloat16>(64, 128, plain).stored_bytes() == of_q + 2 * 3 * (64 + 128));
  const loqt_options quantized{.rank = 3, .projection_quantizer = make_quantizer("nf4")};
  // P has 3 vectors of 64 elements: the smaller side is the frozen one.
  CHECK(make_loqt_layer<float>(64, 128, quantized).stored_bytes() == of_q + 3 * (32 + 2) + 4 * 3 * 128);
  // W and the gradient; two quantized matrices; 4 (3 + 8) vectors on both sides.
  const index_t quantized_twice = 2 * (64 * 64 + 2 * 128);
  CHECK(make_loqt_layer<float>(64, 128, plain).refresh_bytes() ==
        8 * 64 * 128 + quantized_twice + 4 * 44 * (64 + 128));
  CHECK(make_loqt_layer<double>(64, 128, plain).refresh_bytes() ==
        16 * 64 * 128 + quantized_twice + 4 * 44 * (64 + 128));
  CHECK(make_loqt_layer<float>(64, 128, {.rank = 60}).refresh_bytes() ==
        8 * 64 * 128 + quantized_twice + 4 * 64 * (64 + 128)); // no more vectors than the smaller side has
}

TEST_CASE("loqt_layer: refuses impossible options, and says what is allowed", "[train]") {
  const matrix<float> weight = random_numbers<float>(6, 9, 21);
  const auto refusal = [&](const loqt_options& options,
                           const any_quantizer& quantizer = make_quantizer("nf4")) {
    return report_of([&] { loqt_layer<float>(weight.view(), quantizer, options); });
  };
  CHECK(refusal({.rank = 7}).says(status_code::invalid_argument, "rank is 7, allowed for 6 x 9 are 0 to 6"));
  CHECK(refusal({.rank = -1}).says(status_code::invalid_argument, "rank is -1"));
  for (const float scale : {0.0F, -1.0F, HUGE_VALF, std::numeric_limits<float>::quiet_NaN()}) {
    CHECK(refusal({.rank = 2, .scale = scale}).says(status_code::invalid_argument, "it must be positive"));
  }
  CHECK(refusal({.rank = 2, .compensation_steps = -1})
            .says(status_code::invalid_argument, "compensation_steps is -1, allowed are 0 and above"));
  CHECK(refusal({.rank = 2}, make_quantizer("nf4", {.group_size = 10}))
            .says(status_code::invalid_argument, "group_size is 10"));
  CHECK(refusal({.rank = 2, .projection_quantizer = make_quantizer("nf4", {.group_size = 7})})
            .says(status_code::invalid_argument, "group_size is 7, allowed for 6 columns"));
  matrix<float> bad(weight);
  bad(2, 3) = HUGE_VALF;
  CHECK(report_of([&] {
          loqt_layer<float>(std::as_const(bad).view(), make_quantizer("nf4"), {.rank = 1});
        }).says(status_code::non_finite, "weight(2, 3)"));
  const matrix<float> empty(0, 4);
  CHECK(report_of([&] {
          loqt_layer<float>(empty.view(), make_quantizer("nf4"), {.rank = 0});
        }).says(status_code::invalid_argument, "must not be empty"));
}

TEST_CASE("loqt_layer: refuses operands that do not fit", "[train]") {
  auto layer = make_loqt_layer<float>(6, 9, {.rank = 2});
  matrix<float> x(2, 8, 0.0F);
  matrix<float> y(2, 6, 0.0F);
  CHECK(report_of([&] {
          layer.forward(std::as_const(x).view(), y.view());
        }).says(status_code::shape_mismatch, "X is 2 x 8, the weight is 6 x 9"));
  CHECK(report_of([&] {
          layer.backward(std::as_const(x).view(), std::as_const(y).view(), {});
        }).says(status_code::shape_mismatch, "X is 2 x 8, the weight is 6 x 9"));
}
