// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "loqt_layers.hpp"

#include <qlr/train/optimizer.hpp>

#include <limits>
#include <string>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::test::quantized_layers;
using qlr::train::loqt_layer;
using qlr::train::loqt_options;

namespace {

struct matrix_shape {
  index_t rows;
  index_t cols;
};

/// m < n, m = n and m > n, and beside the tiles and pieces of both orientations.
constexpr matrix_shape shapes[] = {{7, 12},  {11, 11}, {13, 6},  {65, 64},
                                   {63, 66}, {257, 9}, {9, 257}, {257, 258}};

const any_quantizer int3 = make_quantizer("int3", {.group_size = 4});

/// P transposed (r, smaller side) of what a layer stands for.
template <class Layer>
matrix<double> projection_of(const Layer& layer) {
  const decomposition parts = layer.to_decomposition();
  return layer.trains_left() ? widened(parts.right) : flipped(widened(parts.left));
}

/// T as (larger side, r).
template <class Layer>
matrix<double> trained_of(const Layer& layer) {
  const decomposition parts = layer.to_decomposition();
  return layer.trains_left() ? widened(parts.left) : flipped(widened(parts.right));
}

/// W - Q - s L R, its rows along the larger side, so that P is at its right.
template <class Layer>
matrix<double> residual_of(const Layer& layer, const matrix<float>& weight) {
  const matrix<double> residual = slow_add(widened(weight), slow_weight(layer.to_decomposition()), -1);
  return layer.trains_left() ? residual : flipped(residual);
}

double distance_from_orthonormal(const matrix<double>& vectors) {
  matrix<double> identity(vectors.rows(), vectors.rows(), 0.0);
  for (index_t k = 0; k < vectors.rows(); ++k) identity(k, k) = 1;
  return largest_difference(slow_multiply(vectors, flipped(vectors)), identity);
}

double plain_error(const matrix<float>& weight, const any_quantizer& quantizer) {
  return frobenius(
      slow_add(widened(weight), widened(slow_dequantize(quantize(weight.view(), quantizer))), -1));
}

/// What least squares leave at most of a residual without direction, of whose squares a P of some rank takes
/// rank / min(m,n): half of that is allowed for.
double largest_share_left(index_t rows, index_t cols, index_t rank) {
  return std::sqrt(1 - 0.5 * static_cast<double>(rank) / static_cast<double>(std::min(rows, cols)));
}

/// Coordinates with gradients of decreasing size: entry (i, i) of the gradient of a square weight is of the
/// size 2^-i' where i' is the place of i in 3, 1, 4, 0, 2.
template <class Layer>
void add_coordinate_gradient(Layer& layer) {
  using T = typename Layer::compute_type;
  matrix<T> x(5, layer.cols(), T{0});
  matrix<T> g(5, layer.rows(), T{0});
  const index_t order[] = {3, 1, 4, 0, 2};
  for (index_t t = 0; t < 5; ++t) {
    x(t, order[t]) = static_cast<T>(std::ldexp(1.0, -static_cast<int>(t)));
    g(t, order[t]) = 1;
  }
  layer.backward(std::as_const(x).view(), std::as_const(g).view(), {});
}

} // namespace

TEMPLATE_TEST_CASE("loqt_layer refresh: P is orthonormal, as far as it is stored", "[train]", float, double,
                   bfloat16) {
  // Float products of up to 257 terms; bf16 rounds each entry of vectors of length 1 by up to 2^-9.
  const double tolerance = std::is_same_v<TestType, bfloat16> ? 4 * 0x1p-9 : 1e-5;
  for (const auto& [rows, cols] : shapes) {
    CAPTURE(rows, cols);
    const auto layer = make_loqt_layer<TestType>(rows, cols, {.rank = 4});
    CHECK(projection_of(layer).rows() == 4);
    CHECK(distance_from_orthonormal(projection_of(layer)) <= tolerance);
  }
}

TEST_CASE("loqt_layer refresh: P spans the gradient on its smaller side", "[train]") {
  for (const auto& [rows, cols] : shapes) {
    // As many tokens as the rank: X and G have that rank, and the gradient G^T X too.
    const matrix<float> weight = random_numbers<float>(rows, cols, 21);
    loqt_layer<double> layer(weight.view(), make_quantizer("nf4"), {.rank = 3});
    const matrix<double> x = random_numbers<double>(3, cols, 31);
    const matrix<double> g = random_numbers<double>(3, rows, 32);
    layer.backward(x.view(), g.view(), {});
    layer.finish_refresh();
    const matrix<double> p = projection_of(layer);
    const matrix<double>& spanned = layer.trains_left() ? x : g;
    const matrix<double> inside = slow_multiply(slow_multiply(spanned, flipped(p)), p);
    CAPTURE(rows, cols);
    CHECK(largest_difference(inside, spanned) <= 1e-4); // the singular vectors are in float
  }
}

TEST_CASE("loqt_layer refresh: of the directions of the gradient the largest become P", "[train]") {
  for (const auto& [rows, cols] : {matrix_shape{9, 6}, matrix_shape{6, 6}, matrix_shape{6, 9}}) {
    const matrix<float> weight = random_numbers<float>(rows, cols, 21);
    loqt_layer<float> layer(weight.view(), make_quantizer("nf4"), {.rank = 2});
    add_coordinate_gradient(layer);
    layer.finish_refresh();
    const matrix<double> p = projection_of(layer);
    for (index_t k = 0; k < 2; ++k) {
      for (index_t j = 0; j < 6; ++j) {
        const double expected = j == (k == 0 ? 3 : 1) ? 1 : 0;
        CHECK(is_near(std::fabs(p(k, j)), expected, 1e-5));
      }
    }
  }
}

TEST_CASE("loqt_layer refresh: gradients of several batches are added up", "[train]") {
  const matrix<float> weight = random_numbers<float>(9, 6, 21);
  loqt_layer<float> layer(weight.view(), make_quantizer("nf4"), {.rank = 1});
  matrix<float> x(1, 6, 0.0F);
  matrix<float> g(1, 9, 0.0F);
  g(0, 2) = 1;
  for (const index_t j : {4, 5, 5}) { // twice coordinate 5, from the same row: direction (1, 2) / sqrt(5)
    x.fill(0);
    x(0, j) = 1;
    layer.backward(std::as_const(x).view(), std::as_const(g).view(), {});
  }
  layer.finish_refresh();
  const matrix<double> p = projection_of(layer);
  CHECK(is_near(p(0, 5) / p(0, 4), 2, 1e-5));
}

TEST_CASE("loqt_layer refresh: without compensation T is zero and Q the quantized weight", "[train]") {
  for (const auto& [rows, cols] : shapes) {
    const matrix<float> weight = random_numbers<float>(rows, cols, 21);
    const auto layer = make_loqt_layer<float>(rows, cols, {.rank = 2, .compensation_steps = 0}, int3);
    CHECK(has_same_bytes(layer.to_decomposition().quantized, quantize(weight.view(), int3)));
    CHECK(largest_entry(trained_of(layer)) == 0);
  }
}

TEMPLATE_TEST_CASE("loqt_layer refresh: one round fits T to what Q leaves, by least squares", "[train]",
                   float, double, bfloat16) {
  for (const auto& [rows, cols] : shapes) {
    for (const bool has_quantizer : {false, true}) {
      loqt_options options{.rank = 4, .compensation_steps = 1};
      if (has_quantizer) options.projection_quantizer = make_quantizer("nf4");
      const matrix<float> weight = random_numbers<float>(rows, cols, 21);
      const auto layer = make_loqt_layer<TestType>(rows, cols, options, int3);
      CAPTURE(rows, cols, has_quantizer);
      CHECK(has_same_bytes(layer.to_decomposition().quantized, quantize(weight.view(), int3)));
      // Least squares leave nothing along P. T of bf16 is rounded by up to 2^-9 of its entries, which are
      // below 4.
      const double tolerance = std::is_same_v<TestType, bfloat16> ? 0.5 * 4 * 0x1p-9 * 2 : 2e-5;
      CHECK(largest_entry(slow_multiply(residual_of(layer, weight), flipped(projection_of(layer)))) <=
            tolerance);
      CHECK(error_of(layer.to_decomposition(), weight) <
            largest_share_left(rows, cols, 4) * plain_error(weight, int3));
    }
  }
}

TEMPLATE_TEST_CASE("loqt_layer refresh: no number of rounds is worse than plain quantization or than fewer",
                   "[train][property]", float, bfloat16) {
  for (const auto& [rows, cols] : shapes) {
    for (const bool has_quantizer : {false, true}) {
      const matrix<float> weight = random_numbers<float>(rows, cols, 21);
      double before = plain_error(weight, int3);
      for (const int steps : {0, 1, 2, 3, 6}) {
        loqt_options options{.rank = 3, .compensation_steps = steps};
        if (has_quantizer) options.projection_quantizer = make_quantizer("int4");
        const auto layer = make_loqt_layer<TestType>(rows, cols, options, int3);
        const double error = error_of(layer.to_decomposition(), weight);
        CAPTURE(rows, cols, steps, has_quantizer);
        CHECK(error <= before * (1 + 1e-12)); // the same sums in another order
        before = error;
      }
    }
  }
}

TEST_CASE("loqt_layer refresh: the rounds are those of the algorithm", "[train]") {
  for (const auto& [rows, cols] : {matrix_shape{30, 12}, matrix_shape{12, 30}}) {
    const matrix<float> weight = random_numbers<float>(rows, cols, 21);
    const loqt_options options{.rank = 3, .scale = 0.25F, .compensation_steps = 4};
    const auto layer = make_loqt_layer<double>(rows, cols, options, int3);
    const matrix<double> p = projection_of(layer);      // orthonormal: P^T is its pseudo-inverse
    const auto project = [&](const matrix<double>& x) { // x P P^T on the smaller side
      return layer.trains_left() ? slow_multiply(slow_multiply(x, flipped(p)), p)
                                 : slow_multiply(flipped(p), slow_multiply(p, x));
    };
    matrix<float> rest(weight);
    double best = HUGE_VAL;
    for (int step = 0; step < 4; ++step) {
      const quantized_matrix q = quantize(std::as_const(rest).view(), int3);
      const matrix<double> left_over = slow_add(widened(weight), widened(slow_dequantize(q)), -1);
      const matrix<double> low_rank = project(left_over); // s L R
      best = std::min(best, frobenius(slow_add(left_over, low_rank, -1)));
      for (index_t i = 0; i < rest.size(); ++i)
        rest.data()[i] = static_cast<float>(static_cast<double>(weight.data()[i]) - low_rank.data()[i]);
    }
    CAPTURE(rows, cols);
    CHECK(is_near(error_of(layer.to_decomposition(), weight), best, 1e-4 * best));
  }
}

TEST_CASE("loqt_layer refresh: a scale that T cannot make up for leaves plain quantization", "[train]") {
  const matrix<float> weight = random_numbers<float>(12, 9, 21);
  const auto layer = make_loqt_layer<float>(12, 9, {.rank = 3, .scale = 1e-42F}, int3); // T would overflow
  CHECK(has_same_bytes(layer.to_decomposition().quantized, quantize(weight.view(), int3)));
  CHECK(largest_entry(trained_of(layer)) == 0);
}

TEST_CASE("loqt_layer refresh: a gradient of zero takes P from what Q leaves of W", "[train]") {
  for (const auto& [rows, cols] : {matrix_shape{12, 8}, matrix_shape{8, 12}}) {
    const matrix<float> weight = random_numbers<float>(rows, cols, 21);
    loqt_layer<float> layer(weight.view(), int3, {.rank = 1, .compensation_steps = 1});
    layer.finish_refresh();
    matrix<double> left_over =
        slow_add(widened(weight), widened(slow_dequantize(quantize(weight.view(), int3))), -1);
    if (layer.trains_left()) left_over = flipped(left_over);
    matrix<double> vector = random_numbers<double>(left_over.rows(), 1, 5); // by power iteration
    for (int step = 0; step < 500; ++step) {
      vector = slow_multiply(left_over, slow_multiply(flipped(left_over), vector));
      vector = slow_multiply(vector, matrix<double>(1, 1, 1 / frobenius(vector)));
    }
    CHECK(is_near(std::fabs(slow_multiply(projection_of(layer), vector)(0, 0)), 1, 1e-4));
  }
}

TEST_CASE("loqt_layer refresh: a weight of zeros and one that Q holds exactly stay as they are", "[train]") {
  for (const float value : {0.0F, 1.0F}) {
    for (const auto& [rows, cols] : {matrix_shape{12, 8}, matrix_shape{8, 12}, matrix_shape{1, 1}}) {
      const matrix<float> weight(rows, cols, value);
      loqt_layer<float> layer(weight.view(), make_quantizer("nf4"), {.rank = 1});
      layer.finish_refresh();
      CHECK(error_of(layer.to_decomposition(), weight) == 0);
      CHECK(distance_from_orthonormal(projection_of(layer)) <= 1e-5);
    }
  }
}

TEMPLATE_TEST_CASE("loqt_layer refresh: what was trained is merged into the next Q", "[train]", float,
                   double) {
  for (const auto& [rows, cols] : shapes) {
    auto layer = make_loqt_layer<TestType>(rows, cols, {.rank = 3, .compensation_steps = 1}, int3);
    change_factor(layer);
    const matrix<double> merged = slow_weight(layer.to_decomposition());
    matrix<float> weight(rows, cols);
    for (index_t i = 0; i < weight.size(); ++i) weight.data()[i] = static_cast<float>(merged.data()[i]);
    layer.start_refresh();
    CHECK(layer.is_refreshing());
    const matrix<float> expected = slow_dequantize(quantize(std::as_const(weight).view(), int3));
    const matrix<float> found = slow_dequantize(layer.to_decomposition().quantized);
    CAPTURE(rows, cols);
    CHECK(largest_difference(found, expected) <=
          0.01); // scales of fp16 may round the other way, no code does
    add_some_gradient(layer, 9, 51);
    layer.finish_refresh();
    CHECK(!layer.is_refreshing());
    // The weight was kept: T is fitted to what the new Q leaves of it.
    CHECK(error_of(layer.to_decomposition(), weight) <
          largest_share_left(rows, cols, 3) * plain_error(weight, int3));
    CHECK(largest_entry(slow_multiply(residual_of(layer, weight), flipped(projection_of(layer)))) <= 1e-4);
  }
}

TEST_CASE("loqt_layer refresh: T keeps its place, so the optimizer's state goes on", "[train]") {
  auto layer = make_loqt_layer<float>(12, 8, {.rank = 3});
  const auto before = layer.parameters();
  qlr::train::adamw<float> optimizer(before);
  for (int round = 0; round < 3; ++round) {
    (void)train_steps(layer, optimizer, 0, 3);
    layer.start_refresh();
    add_some_gradient(layer, 9);
    layer.finish_refresh();
    const auto after = layer.parameters();
    CHECK(std::get<float*>(after[0].values) == std::get<float*>(before[0].values));
    CHECK(after[0].gradient == before[0].gradient);
    CHECK((after[0].rows == before[0].rows && after[0].cols == before[0].cols));
  }
  CHECK(optimizer.num_steps() == 9);
}

TEST_CASE("loqt_layer refresh: training goes on through it, beyond the rank of a single P", "[train]") {
  // The loss of a factor of rank 1 alone stalls above; each refresh gives it another direction.
  auto layer = make_loqt_layer<float>(10, 8, {.rank = 1, .compensation_steps = 1}, make_quantizer("int8"));
  auto still = make_loqt_layer<float>(10, 8, {.rank = 1, .compensation_steps = 1}, make_quantizer("int8"));
  qlr::train::adamw<float> optimizer(layer.parameters());
  qlr::train::adamw<float> other(still.parameters());
  double refreshed = 0;
  double stalled = 0;
  for (int round = 0; round < 20; ++round) {
    refreshed = train_steps(layer, optimizer, 0, 40).back();
    stalled = train_steps(still, other, 0, 40).back();
    layer.start_refresh();
    for (std::uint64_t batch = 0; batch < 4; ++batch) { // the gradient of the loss of train_steps
      const matrix<float> x = random_numbers<float>(12, 8, 100 + batch);
      const matrix<float> target = random_numbers<float>(12, 10, 200 + batch);
      matrix<float> y = output_of(layer, x);
      for (index_t i = 0; i < y.size(); ++i) y.data()[i] -= target.data()[i];
      layer.backward(x.view(), std::as_const(y).view(), {});
    }
    layer.finish_refresh();
  }
  CHECK(refreshed < 0.7 * stalled);
}

TEST_CASE("loqt_layer refresh: refuses to begin twice, to end without beginning, and what is not finite",
          "[train]") {
  auto layer = make_loqt_layer<float>(6, 9, {.rank = 2});
  CHECK(report_of([&] {
          layer.finish_refresh();
        }).says(status_code::invalid_argument, "the layer is not being refreshed"));
  layer.start_refresh();
  CHECK(report_of([&] {
          layer.start_refresh();
        }).says(status_code::invalid_argument, "the layer is being refreshed"));
  const matrix<float> x(1, 9, std::numeric_limits<float>::quiet_NaN());
  const matrix<float> g(1, 6, 1.0F);
  layer.backward(x.view(), g.view(), {});
  CHECK(report_of([&] { layer.finish_refresh(); }).says(status_code::non_finite, "gradient(0, 0)"));
  CHECK(layer.is_refreshing());
  add_some_gradient(layer, 9); // begins at zero again
  layer.finish_refresh();
  auto other = make_loqt_layer<float>(6, 9, {.rank = 2});
  other.start_refresh();
  add_some_gradient(other, 9);
  other.finish_refresh();
  CHECK(has_equal_bytes(layer.to_decomposition(), other.to_decomposition()));
  auto spoilt = make_loqt_layer<float>(6, 9, {.rank = 2});
  spoilt.parameters()[0].set_value(3, HUGE_VALF);
  CHECK(report_of([&] { spoilt.start_refresh(); }).says(status_code::non_finite, "weight(0, 3)"));
  CHECK(!spoilt.is_refreshing());
}
