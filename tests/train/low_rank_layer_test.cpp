// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "quantized_layers.hpp"

#include <qlr/decompose/reconstruct.hpp>
#include <qlr/train/low_rank_layer.hpp>
#include <qlr/train/optimizer.hpp>
#include <qlr/train/state.hpp>

#include <io/support.hpp>

#include <string>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::test::quantized_layers;
using qlr::train::low_rank_layer;
using qlr::train::low_rank_options;

namespace {

decomposition make_parts(const low_rank_shape& shape, bool is_smoothed = false,
                         const any_quantizer& quantizer = make_quantizer("nf4")) {
  decomposition parts{quantized_numbers(quantizer, shape.rows, shape.cols),
                      random_numbers<float>(shape.rows, shape.rank, 2),
                      random_numbers<float>(shape.rank, shape.cols, 3), factor_storage::fp32, 0.75F};
  random_source random(6);
  for (index_t j = 0; is_smoothed && j < shape.cols; ++j)
    parts.input_scales.push_back(static_cast<float>(std::exp(random.normal())));
  return parts;
}

/// The parts with L and R rounded to bf16.
decomposition rounded_to_bf16(decomposition parts) {
  for (matrix<float>* factor : {&parts.left, &parts.right}) {
    for (index_t i = 0; i < factor->size(); ++i) factor->data()[i] = to_float(to_bfloat16(factor->data()[i]));
  }
  return parts;
}

/// Sums of up to 280 products of order one, in another order.
constexpr double float_tolerance = 280.0 * 280.0 * 0x1p-23;
constexpr double double_tolerance = 280.0 * 280.0 * 0x1p-52;

template <class Layer>
double error_of_output(const Layer& layer, index_t tokens, const decomposition& parts) {
  const auto x = random_numbers<typename Layer::compute_type>(tokens, layer.cols(), 4);
  return largest_difference(output_of(layer, x), slow_multiply(widened(x), flipped(slow_weight(parts))));
}

} // namespace

TEST_CASE("low_rank_layer: gradients are central differences, for every shape", "[train][property]") {
  for (const low_rank_shape& shape : low_rank_shapes) {
    low_rank_layer<double> layer(make_parts(shape));
    check_differences(layer, shape.tokens);
  }
}

TEST_CASE("low_rank_layer: gradients are central differences where the inputs of Q are smoothed", "[train]") {
  low_rank_layer<double> layer(make_parts({3, 9, 20, 3}, true, make_quantizer("uint3", {.group_size = 7})));
  check_differences(layer, 3);
}

TEST_CASE("low_rank_layer: Y is that of triple loops, in double, in float and with factors in bf16",
          "[train][property]") {
  for (const low_rank_shape& shape : low_rank_shapes) {
    CAPTURE(shape.tokens, shape.rows, shape.cols, shape.rank);
    const decomposition parts = make_parts(shape, true);
    CHECK(error_of_output(low_rank_layer<double>(parts), shape.tokens, parts) <= double_tolerance);
    CHECK(error_of_output(low_rank_layer<float>(parts), shape.tokens, parts) <= float_tolerance);
    CHECK(error_of_output(low_rank_layer<bfloat16>(parts), shape.tokens, rounded_to_bf16(parts)) <=
          float_tolerance);
  }
}

TEST_CASE("low_rank_layer: gradients in float and with factors in bf16 are those in double", "[train]") {
  const decomposition parts = rounded_to_bf16(make_parts({7, 66, 130, 4}, true));
  low_rank_layer<double> wide(parts);
  low_rank_layer<float> narrow(parts);
  low_rank_layer<bfloat16> half(parts);
  const matrix<float> x = random_numbers<float>(7, 130, 4);
  const matrix<float> c = random_numbers<float>(7, 66, 5);
  const auto expected = gradients_of(wide, widened(x), widened(c));
  const auto found = gradients_of(narrow, x, c);
  const auto found_half = gradients_of(half, x, c);
  REQUIRE(found.size() == 3);
  for (std::size_t k = 0; k < 3; ++k) {
    CHECK(largest_difference(found[k], expected[k]) <= float_tolerance);
    CHECK(has_equal_bytes(found_half[k], found[k])); // the same numbers in float, however they are stored
  }
}

TEST_CASE("low_rank_layer: a decomposition comes back as it was given", "[train]") {
  const decomposition parts = make_parts({1, 20, 70, 3}, true);
  const decomposition back = low_rank_layer<float>(parts).to_decomposition();
  CHECK(has_equal_bytes(back, parts));
  CHECK(back.quantized.format_name() == "nf4");
  CHECK(back.factors == factor_storage::fp32);
  CHECK(has_equal_bytes(low_rank_layer<double>(parts).to_decomposition(), parts));
  CHECK(has_equal_bytes(low_rank_layer<bfloat16>(parts).to_decomposition(), rounded_to_bf16(parts)));
}

TEST_CASE("low_rank_layer: factors of a decomposition are rounded to what the caller chooses", "[train]") {
  const decomposition parts = make_parts({1, 70, 130, 3});
  const low_rank_layer<float> layer(parts);
  for (const factor_storage storage : {factor_storage::fp16, factor_storage::int8, factor_storage::int4}) {
    const decomposition back = layer.to_decomposition(storage);
    CAPTURE(to_string(storage));
    CHECK(back.factors == storage);
    matrix<float> columns(3, 70); // groups of int8 and int4 run along the columns of L
    for (index_t i = 0; i < 70; ++i) {
      for (index_t k = 0; k < 3; ++k) columns(k, i) = parts.left(i, k);
    }
    matrix<float> rows(parts.right);
    round_factor(columns, storage);
    round_factor(rows, storage);
    CHECK(largest_difference(flipped(widened(columns)), back.left) == 0);
    CHECK(has_equal_bytes(back.right, rows));
  }
}

TEST_CASE("low_rank_layer: starts as PEFT does, from Q alone with R uniform within 1 / sqrt(n)", "[train]") {
  const quantized_matrix q = quantized_numbers(make_quantizer("nf4"), 90, 400);
  const low_rank_layer<float> layer(q, {.rank = 40, .scale = 2, .seed = 3});
  const decomposition parts = layer.to_decomposition();
  CHECK(parts.scale == 2.0F);
  CHECK(largest_entry(parts.left) == 0);
  double sum = 0;
  double squares = 0;
  for (index_t i = 0; i < parts.right.size(); ++i) {
    const auto value = static_cast<double>(parts.right.data()[i]);
    sum += value;
    squares += value * value;
  }
  const double count = 40 * 400;
  CHECK(largest_entry(parts.right) <= 0.05);
  CHECK(largest_entry(parts.right) > 0.0499);                      // of 16000 numbers the largest
  CHECK(std::fabs(sum / count) < 4 * 0.05 / std::sqrt(3 * count)); // four standard deviations
  CHECK(is_near(squares / count, 0.05 * 0.05 / 3, 4 * 0.05 * 0.05 * std::sqrt(4.0 / 45 / count)));
  decomposition q_alone = parts;
  q_alone.right.fill(0);
  CHECK(error_of_output(layer, 3, q_alone) <= 400.0 * 400.0 * 0x1p-23);
}

TEST_CASE("low_rank_layer: the seed decides about R", "[train]") {
  const quantized_matrix q = quantized_numbers(make_quantizer("nf4"), 6, 9);
  const auto right = [&](std::uint64_t seed) {
    return low_rank_layer<float>(q, {.rank = 2, .seed = seed}).to_decomposition().right;
  };
  CHECK(has_equal_bytes(right(1), right(1)));
  CHECK(!has_equal_bytes(right(1), right(2)));
}

TEST_CASE("low_rank_layer: L and R are trained, and nothing of Q", "[train]") {
  low_rank_layer<float> layer(make_parts({1, 8, 12, 2}));
  const auto parameters = layer.parameters("layers.3.");
  REQUIRE(parameters.size() == 2);
  CHECK(parameters[0].name == "layers.3.left");
  CHECK((parameters[0].rows == 8 && parameters[0].cols == 2));
  CHECK(parameters[1].name == "layers.3.right");
  CHECK((parameters[1].rows == 2 && parameters[1].cols == 12));
  const decomposition before = layer.to_decomposition();
  qlr::train::adamw<float> optimizer(parameters);
  const std::vector<double> losses = train_steps(layer, optimizer, 0, 200);
  CHECK(losses.back() < 0.5 * losses.front());
  const decomposition after = layer.to_decomposition();
  CHECK(has_same_bytes(after.quantized, before.quantized));
  CHECK(!has_equal_bytes(after.left, before.left));
  CHECK(!has_equal_bytes(after.right, before.right));
}

TEMPLATE_TEST_CASE("low_rank_layer: a run that was saved goes on with the bits of one that was not",
                   "[train]", float, double, bfloat16) {
  using layer_type = low_rank_layer<TestType>;
  using T = typename layer_type::compute_type;
  const temporary_directory directory;
  const std::string path = directory.file("state.safetensors");
  const quantized_matrix q = quantized_numbers(make_quantizer("nf4"), 8, 12);
  const low_rank_options options{.rank = 3, .scale = 0.5F, .seed = 1};
  const auto visit = [](layer_type& layer, qlr::train::adamw<T>& optimizer) {
    return [&](auto& archive) {
      layer.visit_state(archive, "layer.");
      optimizer.visit_state(archive, "optimizer.");
    };
  };
  layer_type whole(q, options);
  qlr::train::adamw<T> whole_optimizer(whole.parameters());
  (void)train_steps(whole, whole_optimizer, 0, 5);
  qlr::train::save_state(path, visit(whole, whole_optimizer));
  const std::vector<double> expected = train_steps(whole, whole_optimizer, 5, 12);
  layer_type resumed(q, {.rank = 3, .scale = 0.5F, .seed = 77});
  qlr::train::adamw<T> optimizer(resumed.parameters());
  qlr::train::load_state(path, visit(resumed, optimizer));
  CHECK(train_steps(resumed, optimizer, 5, 12) == expected);
  CHECK(has_equal_bytes(resumed.to_decomposition(), whole.to_decomposition()));
}

TEST_CASE("low_rank_layer: bits do not depend on the number of threads", "[train]") {
  const matrix<float> x = random_numbers<float>(70, 140, 4);
  const matrix<float> c = random_numbers<float>(70, 300, 5);
  low_rank_layer<float> layer(make_parts({1, 300, 140, 6}, true));
  const matrix<float> y = output_of(layer, x);
  const auto gradients = gradients_of(layer, x, c);
  for (const int threads : {1, 2, 3}) {
    thread_pool pool(threads);
    CHECK(has_equal_bytes(output_of(layer, x, pool), y));
    const auto found = gradients_of(layer, x, c, pool);
    for (std::size_t k = 0; k < 3; ++k) CHECK(has_equal_bytes(found[k], gradients[k]));
  }
}

TEST_CASE("low_rank_layer: its bytes are those of packed Q and of the factors as they are stored",
          "[train]") {
  const quantized_matrix q = quantized_numbers(make_quantizer("nf4"), 64, 128);
  const index_t of_q = 64 * 64 + 2 * 128 + 2 * 128; // codes, packed scales, and scales as they were
  CHECK(low_rank_layer<float>(q, {.rank = 3}).stored_bytes() == of_q + 4 * 3 * (64 + 128));
  CHECK(low_rank_layer<double>(q, {.rank = 3}).stored_bytes() == of_q + 8 * 3 * (64 + 128));
  CHECK(low_rank_layer<bfloat16>(q, {.rank = 3}).stored_bytes() == of_q + 2 * 3 * (64 + 128));
}

TEST_CASE("low_rank_layer: refuses what does not fit, and says what is allowed", "[train]") {
  const quantized_matrix q = quantized_numbers(make_quantizer("nf4"), 6, 9);
  const auto refusal = [&](const low_rank_options& options) {
    return report_of([&] { low_rank_layer<float>(q, options); });
  };
  CHECK(refusal({.rank = 7}).says(status_code::invalid_argument, "rank is 7, allowed for 6 x 9 are 0 to 6"));
  CHECK(refusal({.rank = -1}).says(status_code::invalid_argument, "rank is -1"));
  CHECK(refusal({.rank = 1, .scale = HUGE_VALF}).says(status_code::non_finite, "scale is inf"));
  const auto refused_parts = [](const auto& change) {
    decomposition parts = make_parts({1, 6, 9, 2});
    change(parts);
    return report_of([&] { low_rank_layer<float> layer(parts); });
  };
  CHECK(refused_parts([](decomposition& p) {
          p.left = matrix<float>(5, 2, 0.0F);
        }).says(status_code::shape_mismatch, "L is 5 x 2 and R is 2 x 9, Q is 6 x 9"));
  CHECK(refused_parts([](decomposition& p) {
          p.left = matrix<float>(6, 3, 0.0F);
        }).says(status_code::shape_mismatch, "L is 6 x 3"));
  CHECK(refused_parts([](decomposition& p) {
          p.right = matrix<float>(2, 8, 0.0F);
        }).says(status_code::shape_mismatch, "R is 2 x 8"));
  CHECK(refused_parts([](decomposition& p) {
          p.input_scales = {1.0F};
        }).says(status_code::shape_mismatch, "input_scales has 1 entries"));
  CHECK(refused_parts([](decomposition& p) {
          p.quantized = {};
        }).says(status_code::invalid_argument, "it must not be empty"));
}

TEST_CASE("low_rank_layer: a factor that is not finite is reported", "[train]") {
  low_rank_layer<float> layer(make_parts({1, 6, 9, 2}));
  layer.parameters()[1].set_value(4, std::numeric_limits<float>::quiet_NaN());
  const matrix<float> x(1, 9, 1.0F);
  CHECK(report_of([&] { (void)output_of(layer, x); }).says(status_code::non_finite, "R(0, 4)"));
  CHECK(report_of([&] { (void)layer.to_decomposition(); }).says(status_code::non_finite, "right(0, 4)"));
}
