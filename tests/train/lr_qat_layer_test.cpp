// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/lr_qat_layer.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>
#include <train/lr_qat_oracle.hpp>
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

constexpr frozen_storage all_storages[] = {frozen_storage::fp32, frozen_storage::bf16,
                                           frozen_storage::fixed8};

/// Weights with a few beyond the range of the scales that belong to the others.
matrix<float> weight_for(const rounding_case& c) {
  matrix<float> weight = weight_like_matrix(c.rows, c.cols, 7);
  for (index_t i = 0; i < weight.size(); i += 6) weight.data()[i] *= 2.5F;
  return weight;
}

quantized_matrix start_for(const rounding_case& c) {
  return quantized_start(weight_like_matrix(c.rows, c.cols, 7), c.format, c.group_size);
}

lr_qat_options options_for(const rounding_case& c, frozen_storage storage) {
  return {.rank = c.rank, .alpha = 0.75 * static_cast<double>(c.rank), .start = storage, .seed = 3};
}

template <class Layer>
void move(Layer& layer) {
  using number = typename Layer::compute_type;
  const auto scale = layer.parameters()[0];
  random_source random(45);
  for (index_t i = 0; i < scale.size(); ++i)
    scale.set_value(i, scale.value(i) * static_cast<number>(random.between(0.7, 1.3)));
  disturb(layer, "left", 1.0, 46);
}

} // namespace

TEMPLATE_TEST_CASE("lr_qat_layer: W_hat is the definition for every storage of W", "[train]", float, double,
                   bfloat16) {
  // W / s0, L R and their sum are rounded in float; doubles begin with W / s0 in float, too.
  constexpr double tolerance = 3e-6;
  for (const rounding_case& c : rounding_cases) {
    for (const frozen_storage storage : all_storages) {
      CAPTURE(c.rows, c.cols, c.rank, c.format, c.group_size, to_string(storage));
      const matrix<float> weight = weight_for(c);
      const quantized_matrix start = start_for(c);
      const lr_qat_options options = options_for(c, storage);
      lr_qat_layer<TestType> layer(weight.view(), start, options);
      const slow_lr_qat slow(weight, start, options);
      move(layer);
      const named_numbers numbers = values_of(layer);
      const matrix<double> low_rank = slow_low_rank(numbers.at("left"), numbers.at("right"));
      const matrix<double> expected = slow.rounded_weight(numbers);
      const auto found = forward_weight(layer);
      index_t num_unsure = 0;
      for (index_t i = 0; i < c.rows; ++i) {
        for (index_t j = 0; j < c.cols; ++j) {
          const double scale = std::fabs(slow.scale(numbers, i, j));
          const double zero = std::fabs(slow.grid().zero(i, j));
          const slow_rounding rounding = slow.rounding(low_rank, i, j);
          // Phi_0 alone has few bits and no error: its ties are ties in any precision.
          const bool is_exact = storage != frozen_storage::fp32 && c.rank == 0;
          const double error = tolerance * (1 + std::fabs(rounding.value) + zero);
          if (!is_exact && rounding.is_near_tie(error)) {
            ++num_unsure;
            continue;
          }
          const double allowed = tolerance * (std::fabs(expected(i, j)) + scale * zero);
          CAPTURE(i, j, found(i, j), expected(i, j));
          REQUIRE(is_near(static_cast<double>(found(i, j)), expected(i, j), allowed));
        }
      }
      CHECK(num_unsure <= 2 + weight.size() / 50);
    }
  }
}

TEST_CASE("lr_qat_layer: gradients are those of the smooth surrogate by central differences", "[train]") {
  constexpr index_t tokens = 3;
  for (const rounding_case& c : rounding_cases) {
    for (const frozen_storage storage : all_storages) {
      CAPTURE(c.rows, c.cols, c.rank, c.format, c.group_size, to_string(storage));
      const matrix<float> weight = weight_for(c);
      const quantized_matrix start = start_for(c);
      const lr_qat_options options = options_for(c, storage);
      lr_qat_layer<double> layer(weight.view(), start, options);
      const slow_lr_qat slow(weight, start, options);
      move(layer);
      const named_numbers base = values_of(layer);
      matrix<double> x = normal_numbers<double>(tokens, c.cols, 5);
      const matrix<double> target = normal_numbers<double>(tokens, c.rows, 6);
      matrix<double> y = unset<double>(tokens, c.rows);
      matrix<double> grad_x = unset<double>(tokens, c.cols);
      layer.forward(std::as_const(x).view(), y.view());
      matrix<double> grad_y(tokens, c.rows);
      for (index_t i = 0; i < y.size(); ++i) grad_y.data()[i] = y.data()[i] - target.data()[i];
      layer.backward(std::as_const(x).view(), std::as_const(grad_y).view(), grad_x.view());
      check_derivatives(base, gradients_of(layer), [&](const named_numbers& numbers) {
        return half_squared_error(x, slow.smooth_weight(numbers, base), target);
      });
      check_product(grad_x.view(), grad_y, transpose(slow.rounded_weight(base)));
    }
  }
}

TEST_CASE("lr_qat_layer: the examples have levels in range and out of it", "[train]") {
  index_t num_out = 0;
  index_t num_all = 0;
  for (const rounding_case& c : rounding_cases) {
    const lr_qat_options options = options_for(c, frozen_storage::fp32);
    lr_qat_layer<double> layer(weight_for(c).view(), start_for(c), options);
    const slow_lr_qat slow(weight_for(c), start_for(c), options);
    move(layer);
    const named_numbers numbers = values_of(layer);
    const matrix<double> low_rank = slow_low_rank(numbers.at("left"), numbers.at("right"));
    for (index_t i = 0; i < c.rows; ++i) {
      for (index_t j = 0; j < c.cols; ++j) num_out += slow.rounding(low_rank, i, j).passes ? 0 : 1;
    }
    num_all += c.rows * c.cols;
  }
  CHECK(num_out * 50 > num_all);
  CHECK(num_out * 2 < num_all);
}

TEST_CASE("lr_qat_layer: weights take 1, 2 or 4 bytes each", "[train]") {
  const rounding_case c{6, 10, 3, "uint4", 4};
  const index_t others =
      2 * (6 * 3 + 3 * 10) + 4 * 18 + 4 * (18 + 18); // factors; scales; first scales, zeros
  const auto bytes_of = [&](frozen_storage storage) {
    return lr_qat_layer<bfloat16>(weight_for(c).view(), start_for(c), {.rank = 3, .start = storage})
        .stored_bytes();
  };
  CHECK(bytes_of(frozen_storage::fixed8) == 60 + others);
  CHECK(bytes_of(frozen_storage::bf16) == 120 + others);
  CHECK(bytes_of(frozen_storage::fp32) == 240 + others);
}

TEST_CASE("lr_qat_layer: parameters have names, shapes, starts and options as documented", "[train]") {
  const rounding_case c{6, 10, 3, "int4", 4};
  const quantized_matrix start = start_for(c);
  lr_qat_layer<float> layer(weight_for(c).view(), start,
                            {.rank = 3, .scale_learning_rate_factor = 0.125, .seed = 9});
  const auto all = layer.parameters("k.");
  REQUIRE(all.size() == 3);
  const std::vector<std::string> names = {"k.scale", "k.left", "k.right"};
  const std::vector<std::pair<index_t, index_t>> shapes = {{6, 3}, {6, 3}, {3, 10}};
  for (std::size_t k = 0; k < all.size(); ++k) {
    CHECK(all[k].name == names[k]);
    CHECK(std::pair(all[k].rows, all[k].cols) == shapes[k]);
    CHECK(all[k].options.has_weight_decay == (k != 0));
    CHECK(all[k].options.learning_rate_factor == (k == 0 ? 0.125 : 1.0));
  }
  const slow_grid grid(start);
  for (index_t i = 0; i < 6; ++i) {
    for (index_t g = 0; g < 3; ++g)
      CHECK(static_cast<double>(all[0].value(3 * i + g)) == grid.scale(i, 4 * g));
  }
  double largest = 0;
  for (index_t i = 0; i < 18; ++i) CHECK(all[1].value(i) == 0);
  for (index_t i = 0; i < 30; ++i)
    largest = std::max(largest, std::fabs(static_cast<double>(all[2].value(i))));
  CHECK(largest > 0.8 / std::sqrt(10.0));
  CHECK(largest <= 1 / std::sqrt(10.0));
}

TEST_CASE("lr_qat_layer: a scale that training drives to zero or below stays positive", "[train]") {
  const rounding_case c{3, 8, 2, "int4", group_per_row};
  lr_qat_layer<float> layer(weight_for(c).view(), start_for(c), {.rank = 2});
  const auto scale = layer.parameters()[0];
  const float before = scale.value(1);
  for (const float value : {0.0F, -1.0F}) {
    scale.set_value(1, value);
    CHECK(layer.scale(1, 0) > 0);
    CHECK(layer.scale(1, 0) < 1e-4F * before);
    CHECK(slow_grid(layer.to_quantized()).scale(1, 0) > 0);
  }
}

TEST_CASE("lr_qat_layer: what does not fit is refused with a sentence", "[train]") {
  const rounding_case c{6, 10, 3, "uint4", group_per_row};
  const matrix<float> weight = weight_for(c);
  const quantized_matrix start = start_for(c);
  const auto refusal_of = [](const matrix<float>& w, const quantized_matrix& q, const lr_qat_options& o) {
    return report_of([&] { lr_qat_layer<float>(w.view(), q, o); });
  };
  constexpr status_code invalid = status_code::invalid_argument;
  CHECK(refusal_of(weight, start, {.rank = 6}).message.empty());
  CHECK(refusal_of(weight, start, {.rank = 7}).says(invalid, "rank is 7, allowed for 6 x 10 are 0 to 6"));
  CHECK(refusal_of(weight, start, {.rank = -1}).says(invalid, "-1"));
  constexpr double infinity = std::numeric_limits<double>::infinity();
  CHECK(refusal_of(weight, start, {.rank = 1, .alpha = infinity}).says(invalid, "alpha is inf"));
  for (const double factor : {-0.5, infinity}) {
    CHECK(refusal_of(weight, start, {.rank = 1, .scale_learning_rate_factor = factor})
              .says(invalid, "scale_learning_rate_factor is "));
  }
  CHECK(refusal_of(weight_like_matrix(10, 6, 7), start, {.rank = 1})
            .says(status_code::shape_mismatch, "W is 10 x 6, its quantized start is 6 x 10"));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    matrix<float> broken = weight;
    broken(5, 9) = bad;
    CHECK(refusal_of(broken, start, {.rank = 1}).says(status_code::non_finite, "W"));
  }
  CHECK(refusal_of(weight, quantized_start(weight, "nf4", 5), {.rank = 1})
            .says(status_code::unsupported, "quantizer is nf4"));
}
