// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/dense_layer.hpp>

#include <io/support.hpp>
#include <qlr/train/state.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>
#include <train/layers.hpp>

#include <cmath>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

template <class Storage>
matrix<double> weight_of(dense_layer<Storage>& layer) {
  const auto view = layer.parameters()[0];
  matrix<double> weight(view.rows, view.cols);
  for (index_t i = 0; i < weight.size(); ++i) weight.data()[i] = static_cast<double>(view.value(i));
  return weight;
}

template <class Storage>
matrix<double> gradient_of(dense_layer<Storage>& layer) {
  const auto view = layer.parameters()[0];
  return to_double(matrix_view(view.gradient, view.rows, view.cols));
}

/// A layer with a batch and the gradient of its output.
template <class Storage>
struct example {
  using compute_type = compute_t<Storage>;

  matrix<float> weight;
  matrix<compute_type> x;
  matrix<compute_type> grad_y;
  dense_layer<Storage> layer;

  explicit example(const layer_shape& shape)
      : weight(normal_matrix(shape.rows, shape.cols, 1)),
        x(normal_numbers<compute_type>(shape.tokens, shape.cols, 2)),
        grad_y(normal_numbers<compute_type>(shape.tokens, shape.rows, 3)),
        layer(std::as_const(weight).view()) {}

  [[nodiscard]] matrix_view<const compute_type> x_view() const { return x.view(); }
  [[nodiscard]] matrix_view<const compute_type> grad_y_view() const { return grad_y.view(); }
};

} // namespace

static_assert(trainable_layer<dense_layer<float>> && trainable_layer<dense_layer<double>> &&
              trainable_layer<dense_layer<bfloat16>>);

TEMPLATE_TEST_CASE("dense_layer: the weight is what it was given, as it is stored", "[train]", float, double,
                   bfloat16) {
  const matrix<float> weight = normal_matrix(6, 5, 1);
  for (const placement where : all_placements) {
    CAPTURE(static_cast<int>(where));
    const placed_matrix<float> placed(weight.view(), where);
    dense_layer<TestType> layer(placed.view());
    CHECK(layer.rows() == 6);
    CHECK(layer.cols() == 5);
    CHECK(layer.stored_bytes() == 30 * static_cast<index_t>(sizeof(TestType)));
    const matrix<double> stored = weight_of(layer);
    for (index_t i = 0; i < weight.size(); ++i) {
      double expected = static_cast<double>(weight.data()[i]);
      if constexpr (std::same_as<TestType, bfloat16>) expected = slow_value(to_bfloat16(weight.data()[i]));
      CHECK(stored.data()[i] == expected);
    }
  }
}

TEMPLATE_TEST_CASE("dense_layer: its only parameter is named after the prefix", "[train]", float, bfloat16) {
  example<TestType> some({1, 3, 2});
  const auto parameters = some.layer.parameters("layers.0.query.");
  REQUIRE(parameters.size() == 1);
  CHECK(parameters[0].name == "layers.0.query.weight");
  CHECK(parameters[0].rows == 3);
  CHECK(parameters[0].cols == 2);
  CHECK(parameters[0].options.has_weight_decay);
  CHECK(parameters[0].options.learning_rate_factor == 1);
  CHECK(some.layer.parameters()[0].name == "weight");
}

TEMPLATE_TEST_CASE("dense_layer: Y is X W^T", "[train]", float, double, bfloat16) {
  using compute = compute_t<TestType>;
  for (const layer_shape& shape : layer_shapes) {
    CAPTURE(shape.tokens, shape.rows, shape.cols);
    example<TestType> some(shape);
    matrix<compute> y = unset<compute>(shape.tokens, shape.rows);
    some.layer.forward(some.x_view(), y.view());
    check_product(y.view(), to_double(some.x.view()), weight_of(some.layer));
  }
}

TEMPLATE_TEST_CASE("dense_layer: the gradients of W and X are the products of the definition", "[train]",
                   float, double, bfloat16) {
  using compute = compute_t<TestType>;
  for (const layer_shape& shape : layer_shapes) {
    CAPTURE(shape.tokens, shape.rows, shape.cols);
    example<TestType> some(shape);
    matrix<compute> grad_x = unset<compute>(shape.tokens, shape.cols);
    some.layer.backward(some.x_view(), some.grad_y_view(), grad_x.view());
    const matrix<double> g = to_double(some.grad_y.view());
    const matrix<double> x = to_double(some.x.view());
    const matrix<double> grad_w = gradient_of(some.layer);
    const auto stored = some.layer.parameters()[0];
    check_product(matrix_view(stored.gradient, shape.rows, shape.cols), transpose(g), transpose(x));
    check_product(grad_x.view(), g, transpose(weight_of(some.layer)));
  }
}

TEST_CASE("dense_layer: gradients are those of a loss by central differences", "[train]") {
  constexpr double step = 1e-3;
  for (const layer_shape& shape : {layer_shape{1, 1, 1}, {3, 2, 5}, {4, 63, 65}, {3, 300, 7}}) {
    CAPTURE(shape.tokens, shape.rows, shape.cols);
    example<double> some(shape);
    matrix<double> y = unset<double>(shape.tokens, shape.rows);
    matrix<double> grad_x = unset<double>(shape.tokens, shape.cols);
    some.layer.forward(some.x_view(), y.view());
    const matrix<double> target = some.grad_y;
    for (index_t i = 0; i < y.size(); ++i) some.grad_y.data()[i] = y.data()[i] - target.data()[i];
    some.layer.backward(some.x_view(), some.grad_y_view(), grad_x.view());
    const matrix<double> gradient = gradient_of(some.layer);
    matrix<double> weight = weight_of(some.layer);
    // The loss is a polynomial of degree 2, so only roundings of losses of up to 1e6 are left: 1e-10 / step.
    const auto check = [&](double& number, double derivative) {
      const double at = number;
      number = at + step;
      const double above = half_squared_error(some.x, weight, target);
      number = at - step;
      const double below = half_squared_error(some.x, weight, target);
      number = at;
      CHECK(is_near((above - below) / (2 * step), derivative, 1e-6 * (1 + std::fabs(derivative))));
    };
    random_source random(9);
    for (int count = 0; count < 60; ++count) {
      const index_t i = random.below(weight.size());
      check(weight.data()[i], gradient.data()[i]);
      const index_t j = random.below(some.x.size());
      check(some.x.data()[j], grad_x.data()[j]);
    }
  }
}

TEST_CASE("dense_layer: gradients are added to what is there, that of X is not", "[train]") {
  example<double> some({3, 70, 11});
  matrix<double> grad_x = unset<double>(3, 11);
  some.layer.backward(some.x_view(), some.grad_y_view(), grad_x.view());
  const matrix<double> once = gradient_of(some.layer);
  const matrix<double> grad_x_once = grad_x;
  some.layer.backward(some.x_view(), some.grad_y_view(), grad_x.view());
  const matrix<double> twice = gradient_of(some.layer);
  for (index_t i = 0; i < once.size(); ++i) CHECK(twice.data()[i] == 2 * once.data()[i]);
  CHECK(has_same_bits(grad_x, grad_x_once));
}

TEMPLATE_TEST_CASE("dense_layer: without a view for it the gradient of X is not computed", "[train]", float,
                   bfloat16) {
  example<TestType> with({3, 300, 11});
  example<TestType> without({3, 300, 11});
  matrix<float> grad_x(3, 11);
  with.layer.backward(with.x_view(), with.grad_y_view(), grad_x.view());
  without.layer.backward(without.x_view(), without.grad_y_view(), {});
  CHECK(has_same_bits(gradient_of(with.layer), gradient_of(without.layer)));
}

TEMPLATE_TEST_CASE("dense_layer: rows of X and Y may have gaps", "[train]", float, double) {
  const layer_shape shape{4, 65, 13};
  example<TestType> some(shape);
  const matrix<float> x = normal_matrix(4, 13, 2);
  const matrix<float> grad_y = normal_matrix(4, 65, 3);
  const placed_matrix<TestType> wide_x(x.view(), placement::padded_rows);
  const placed_matrix<TestType> wide_grad_y(grad_y.view(), placement::padded_rows);
  placed_matrix<TestType> y(unset<float>(4, 65).view(), placement::padded_rows);
  placed_matrix<TestType> grad_x(unset<float>(4, 13).view(), placement::padded_rows);
  some.layer.forward(wide_x.view(), y.writable());
  some.layer.backward(wide_x.view(), wide_grad_y.view(), grad_x.writable());
  const matrix<double> g = to_double(grad_y.view());
  check_product(y.view(), to_double(x.view()), weight_of(some.layer));
  check_product(grad_x.view(), g, transpose(weight_of(some.layer)));
  const auto stored = some.layer.parameters()[0];
  check_product(matrix_view(stored.gradient, 65, 13), transpose(g), transpose(to_double(x.view())));
  for (index_t i = 0; i + 1 < 4; ++i) { // the gap behind each row
    for (index_t j = 0; j < 3; ++j) {
      CHECK(std::isnan(y.view().row(i)[65 + j]));
      CHECK(std::isnan(grad_x.view().row(i)[13 + j]));
    }
  }
}

TEST_CASE("dense_layer: operands that do not fit are refused and nothing is written", "[train]") {
  constexpr status_code mismatch = status_code::shape_mismatch;
  example<float> some({4, 5, 3});
  matrix<float> memory(8, 8, -1.0F);
  const auto shaped = [&](index_t rows, index_t cols) {
    return matrix_view<float>(memory.data(), rows, cols);
  };
  const auto forward = [&](matrix_view<const float> x, matrix_view<float> y) {
    return report_of([&] { some.layer.forward(x, y); });
  };
  const auto backward = [&](matrix_view<const float> x, matrix_view<const float> grad_y,
                            matrix_view<float> grad_x) {
    return report_of([&] { some.layer.backward(x, grad_y, grad_x); });
  };
  CHECK(forward(shaped(4, 2), shaped(4, 5)).says(mismatch, "X is 4 x 2, the weight is 5 x 3"));
  CHECK(forward(some.x_view(), shaped(4, 4)).says(mismatch, "Y is 4 x 4, it must be 4 x 5"));
  CHECK(forward(some.x_view(), shaped(3, 5)).says(mismatch, "Y is 3 x 5, it must be 4 x 5"));
  CHECK(backward(shaped(4, 5), some.grad_y_view(), {}).says(mismatch, "X is 4 x 5, the weight is 5 x 3"));
  CHECK(backward(some.x_view(), shaped(5, 5), {}).says(mismatch, "Y is 5 x 5, it must be 4 x 5"));
  CHECK(backward(some.x_view(), some.grad_y_view(), shaped(4, 5)).says(mismatch, "is 4 x 5"));
  CHECK(backward(some.x_view(), some.grad_y_view(), shaped(3, 3)).says(mismatch, "4 x 5, it must be 3 x 5"));
  const matrix_view<float> turned(memory.data(), 4, 5, 1, 4);
  const matrix_view<float> turned_x(memory.data(), 4, 3, 1, 4);
  constexpr std::string_view sentence = "X and Y need contiguous rows";
  constexpr status_code invalid = status_code::invalid_argument;
  CHECK(forward(some.x_view(), turned).says(invalid, sentence));
  CHECK(forward(turned_x, shaped(4, 5)).says(invalid, sentence));
  CHECK(backward(some.x_view(), turned, {}).says(invalid, sentence));
  CHECK(backward(some.x_view(), some.grad_y_view(), turned_x).says(invalid, sentence));
  for (index_t i = 0; i < memory.size(); ++i) CHECK(memory.data()[i] == -1);
  const matrix<double> gradient = gradient_of(some.layer);
  for (index_t i = 0; i < gradient.size(); ++i) CHECK(gradient.data()[i] == 0);
}

TEMPLATE_TEST_CASE("dense_layer: the bits do not depend on the number of threads", "[train][threads]", float,
                   bfloat16) {
  for (const layer_shape& shape : {layer_shape{5, 300, 33}, {3, 2100, 17}}) {
    CAPTURE(shape.rows);
    example<TestType> serial(shape);
    matrix<float> y = unset<float>(shape.tokens, shape.rows);
    matrix<float> grad_x = unset<float>(shape.tokens, shape.cols);
    serial.layer.forward(serial.x_view(), y.view());
    serial.layer.backward(serial.x_view(), serial.grad_y_view(), grad_x.view());
    for (const int num_threads : {1, 2, 3}) {
      CAPTURE(num_threads);
      thread_pool pool(num_threads);
      example<TestType> some(shape);
      matrix<float> other_y = unset<float>(shape.tokens, shape.rows);
      matrix<float> other_grad_x = unset<float>(shape.tokens, shape.cols);
      some.layer.forward(some.x_view(), other_y.view(), pool);
      some.layer.backward(some.x_view(), some.grad_y_view(), other_grad_x.view(), pool);
      CHECK(has_same_bits(other_y, y));
      CHECK(has_same_bits(other_grad_x, grad_x));
      CHECK(has_same_bits(gradient_of(some.layer), gradient_of(serial.layer)));
    }
    check_product(grad_x.view(), to_double(serial.grad_y.view()), transpose(weight_of(serial.layer)));
  }
}

TEMPLATE_TEST_CASE("dense_layer: the state holds the weight and nothing else", "[train]", float, double,
                   bfloat16) {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  example<TestType> saved({1, 5, 3});
  example<TestType> loaded({1, 5, 3});
  loaded.layer.parameters()[0].set_value(7, 100);
  save_state(path, [&](auto& archive) { saved.layer.visit_state(archive, "a."); });
  load_state(path, [&](auto& archive) { loaded.layer.visit_state(archive, "a."); });
  CHECK(has_same_bits(weight_of(loaded.layer), weight_of(saved.layer)));
}

TEST_CASE("dense_layer: X and Y that overlap are refused", "[train]") {
  matrix<float> memory(4, 3, 1.0F);
  const dense_layer<float> layer(matrix_view<const float>(memory.view().middle_rows(0, 3)));
  CHECK(report_of([&] {
          layer.forward(memory.view(), memory.view());
        }).says(status_code::invalid_argument, "X and Y overlap in memory"));
  CHECK(report_of([&] {
          layer.forward(memory.view().middle_rows(0, 2), memory.view().middle_rows(1, 2));
        }).says(status_code::invalid_argument, "overlap"));
  matrix<float> y(2, 3);
  layer.forward(memory.view().middle_rows(0, 2), y.view());
  layer.forward(memory.view().middle_rows(0, 2), memory.view().middle_rows(2, 2)); // side by side
  CHECK(memory(2, 0) == 3.0F);
}
