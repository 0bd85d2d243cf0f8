// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "slow_model.hpp"
#include "toy_model.hpp"

#include <support/catch.hpp>
#include <support/oracles.hpp>

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

matrix<double> normal_doubles(index_t rows, index_t cols, std::uint64_t seed) {
  random_source random(seed);
  matrix<double> values(rows, cols);
  for (index_t i = 0; i < values.size(); ++i) values.data()[i] = random.normal();
  return values;
}

transformer_block<double> toy_block(const model_config& config, bool trains_norms = false) {
  return {config, toy_weights(config).blocks[1], 1, dense_factory<double>(), trains_norms};
}

/// sum(C Y), whose gradient to Y is C.
double weighted_sum(const matrix<double>& weights, const matrix<double>& y) {
  double sum = 0;
  for (index_t i = 0; i < y.size(); ++i) sum += weights.data()[i] * y.data()[i];
  return sum;
}

std::vector<double> to_vector(matrix_view<const double> x) {
  return {x.data(), x.data() + x.size()};
}

} // namespace

TEST_CASE("transformer_block: writes what the definition says", "[finetune]") {
  const model_config config = toy_config(GENERATE(1, 3));
  transformer_block<double> block = toy_block(config);
  const matrix<double> x = normal_doubles(7, config.dim, 3);
  matrix<double> y(7, config.dim, not_a_number);
  block.forward({1, 7}, x.view(), y.view());
  std::vector<numbers> rows;
  for (index_t t = 0; t < 7; ++t) rows.emplace_back(x.view().row(t), x.view().row(t) + config.dim);
  const auto expected = slow_transformer_block(config, toy_weights(config).blocks[1], rows);
  for (index_t t = 0; t < 7; ++t) {
    for (index_t i = 0; i < config.dim; ++i)
      CHECK(is_near(y(t, i), at(expected[static_cast<std::size_t>(t)], i), 1e-12));
  }
}

TEST_CASE("transformer_block: the gradient of its input is the slope", "[finetune]") {
  const model_config config = toy_config(GENERATE(1, 3));
  const batch_shape shape = GENERATE(batch_shape{2, 5}, batch_shape{1, 1});
  transformer_block<double> block = toy_block(config);
  matrix<double> x = normal_doubles(shape.tokens(), config.dim, 3);
  const matrix<double> grad_y = normal_doubles(shape.tokens(), config.dim, 4);
  matrix<double> y(shape.tokens(), config.dim, not_a_number);
  matrix<double> grad_x(shape.tokens(), config.dim, not_a_number);
  block.forward(shape, x.view(), y.view());
  block.backward(grad_y.view(), grad_x.view());
  const auto loss = [&] {
    block.forward(shape, x.view(), y.view());
    return weighted_sum(grad_y, y);
  };
  constexpr double h = 1e-5; // errors of order h^2 and 1e-15 / h: below 1e-8 of sums of size 10
  for (index_t i = 0; i < x.size(); ++i) {
    const double before = std::exchange(x.data()[i], x.data()[i] + h);
    const double above = loss();
    x.data()[i] = before - h;
    const double slope = (above - loss()) / (2.0 * h);
    x.data()[i] = before;
    CHECK(is_near(grad_x.data()[i], slope, 1e-6 * std::fabs(slope) + 1e-7));
  }
}

TEST_CASE("transformer_block: input and output may be one matrix, and gradients too", "[finetune]") {
  const model_config config = toy_config(1);
  transformer_block<double> block = toy_block(config);
  const matrix<double> x = normal_doubles(10, config.dim, 3);
  const matrix<double> grad_y = normal_doubles(10, config.dim, 4);
  matrix<double> y(10, config.dim, not_a_number);
  matrix<double> grad_x(10, config.dim, not_a_number);
  block.forward({2, 5}, x.view(), y.view());
  block.backward(grad_y.view(), grad_x.view());
  matrix<double> both = x;
  block.forward({2, 5}, both.view(), both.view());
  CHECK(to_vector(both.view()) == to_vector(y.view()));
  matrix<double> both_gradients = grad_y;
  block.backward(both_gradients.view(), both_gradients.view());
  CHECK(to_vector(both_gradients.view()) == to_vector(grad_x.view()));
}

TEST_CASE("transformer_block: without a gradient of the input the parameters have the same", "[finetune]") {
  const bool trains_norms = GENERATE(false, true);
  const model_config config = toy_config(1);
  transformer_block<double> block = toy_block(config, trains_norms);
  const auto parameters = block.parameters();
  CHECK(parameters.size() == (trains_norms ? 9 : 7));
  const matrix<double> x = normal_doubles(10, config.dim, 3);
  const matrix<double> grad_y = normal_doubles(10, config.dim, 4);
  matrix<double> y(10, config.dim);
  matrix<double> grad_x(10, config.dim);
  block.forward({2, 5}, x.view(), y.view());
  const auto gradients_with = [&](matrix_view<double> wanted) {
    train::zero_gradients(std::span<const train::parameter_view<double>>(parameters));
    block.backward(grad_y.view(), wanted);
    std::vector<double> all;
    for (const auto& p : parameters) all.insert(all.end(), p.gradient, p.gradient + p.size());
    return all;
  };
  CHECK(gradients_with({}) == gradients_with(grad_x.view()));
}

TEST_CASE("transformer_block: tells what each layer reads", "[finetune]") {
  const model_config config = toy_config(3);
  transformer_block<double> block = toy_block(config);
  const matrix<double> x = normal_doubles(6, config.dim, 3);
  matrix<double> y(6, config.dim);
  block.forward({1, 6}, x.view(), y.view());
  // The stream is rebuilt from the layers alone: x + output(...) + down(...).
  matrix<double> of_output(6, config.dim, not_a_number);
  matrix<double> of_down(6, config.dim, not_a_number);
  block.layer(output).forward(block.layer_input(output), of_output.view());
  block.layer(down).forward(block.layer_input(down), of_down.view());
  for (index_t i = 0; i < y.size(); ++i)
    CHECK(is_near(y.data()[i], x.data()[i] + of_output.data()[i] + of_down.data()[i], 1e-13));
  // silu(gate) up is what down reads.
  matrix<double> gates(6, config.hidden_dim, not_a_number);
  matrix<double> ups(6, config.hidden_dim, not_a_number);
  block.layer(gate).forward(block.layer_input(gate), gates.view());
  block.layer(up).forward(block.layer_input(up), ups.view());
  for (index_t i = 0; i < gates.size(); ++i) {
    const double z = gates.data()[i];
    CHECK(is_near(block.layer_input(down).data()[i], z / (1.0 + std::exp(-z)) * ups.data()[i], 1e-13));
  }
  const matrix<float> norm = toy_weights(config).blocks[1].attention_norm;
  const auto epsilon = static_cast<double>(config.norm_epsilon);
  const numbers normed = slow_norm(norm, {x.view().row(5), x.view().row(5) + config.dim}, epsilon);
  for (const linear_layer which : {query, key, value}) {
    for (index_t i = 0; i < config.dim; ++i)
      CHECK(is_near(block.layer_input(which)(5, i), at(normed, i), 1e-13));
  }
}

TEST_CASE("transformer_block: refuses what does not fit", "[finetune]") {
  const model_config config = toy_config(1);
  const layer_factory<double> wrong = [](index_t, linear_layer which, matrix_view<const float> weight) {
    const matrix_view<const float> part = weight.middle_rows(0, weight.rows() - (which == up ? 1 : 0));
    return train::any_layer<double>(train::dense_layer<double>(part));
  };
  const block_weights weights = toy_weights(config).blocks[0];
  CHECK(report_of([&] {
          transformer_block<double>(config, weights, 4, wrong);
        }).says(status_code::shape_mismatch, "layer mlp.up_proj of block 4 is 19 x 12, it must be 20 x 12"));
  transformer_block<double> block = toy_block(config);
  const auto refuses = [&](batch_shape shape) {
    matrix<double> x(shape.tokens(), config.dim, 0.0);
    return report_of([&] { block.forward(shape, x.view(), x.view()); })
        .says(status_code::invalid_argument, "allowed are 1 text and above of 1 to 70 tokens");
  };
  CHECK(refuses({1, 71}));
  CHECK(refuses({0, 4}));
  CHECK(refuses({4, 0}));
  CHECK_FALSE(refuses({1, 70}));
  matrix<double> x(4, config.dim, 0.0);
  matrix<double> other(4, config.dim + 1, 0.0);
  const auto refuses_shape = [&](auto&& call, const std::string& name) {
    return report_of(call).says(status_code::shape_mismatch,
                                name + " is 4 x 13, it must be 4 x 12 with contiguous rows");
  };
  CHECK(refuses_shape([&] { block.forward({2, 2}, other.view(), x.view()); }, "X"));
  CHECK(refuses_shape([&] { block.forward({2, 2}, x.view(), other.view()); }, "Y"));
  block.forward({2, 2}, x.view(), x.view());
  CHECK(refuses_shape([&] { block.backward(other.view(), x.view()); }, "the gradient of Y"));
  CHECK(refuses_shape([&] { block.backward(x.view(), other.view()); }, "the gradient of X"));
}
