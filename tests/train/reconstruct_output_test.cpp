// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/reconstruct_output.hpp>

#include <qlr/core/parallel.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/train/dense_layer.hpp>
#include <qlr/train/lrq_layer.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Y = a X, a the sum of two trained numbers: for Y = 2 X the relative error is |a - 2| / 2. Keeps what it
/// was given.
struct scalar_layer {
  using compute_type = double;

  explicit scalar_layer(index_t n, double start = 0) : width(n) { factor.set(0, 0, start); }

  [[nodiscard]] index_t rows() const { return width; }
  [[nodiscard]] index_t cols() const { return width; }
  [[nodiscard]] double a() const { return factor(0, 0) + shift(0, 0); }
  void forward(matrix_view<const double> x, matrix_view<double> y, const executor& /*run*/ = {}) const {
    tokens_seen.push_back(x.rows());
    for (index_t i = 0; i < x.rows(); ++i) {
      for (index_t j = 0; j < width; ++j) y(i, j) = a() * x(i, j);
    }
  }
  void backward(matrix_view<const double> x, matrix_view<const double> grad_y, matrix_view<double> grad_x,
                const executor& /*run*/ = {}) {
    wanted_x = wanted_x || grad_x.data() != nullptr;
    const double energy = 4 * squared_norm(x);
    std::vector<double> rows;
    double sum = 0;
    for (index_t i = 0; i < x.rows(); ++i) {
      rows.push_back(x(i, 0));
      for (index_t j = 0; j < width; ++j) {
        // Of || a X - 2 X ||^2 / || 2 X ||^2.
        const double expected = 2 * (a() - 2) * x(i, j) / (energy > 0 ? energy : 1);
        has_wrong_gradient =
            has_wrong_gradient || !is_near(grad_y(i, j), expected, 1e-14 * std::fabs(expected));
        sum += grad_y(i, j) * x(i, j);
      }
    }
    factor.gradient()(0, 0) += sum;
    shift.gradient()(0, 0) += sum;
    rows_seen.push_back(rows);
  }
  [[nodiscard]] std::vector<parameter_view<double>> parameters(const std::string& prefix = {}) {
    return {factor.view(prefix + "factor"), shift.view(prefix + "shift")};
  }
  [[nodiscard]] index_t stored_bytes() const { return 16; }

  index_t width;
  parameter<double> factor{1, 1};
  parameter<double> shift{1, 1};
  mutable std::vector<index_t> tokens_seen;   ///< of each forward
  std::vector<std::vector<double>> rows_seen; ///< first elements of the rows of each backward
  bool has_wrong_gradient = false;
  bool wanted_x = false;
};

static_assert(trainable_layer<scalar_layer>);

/// X (t,2), whose row i begins with i + 1, and Y = 2 X.
struct scalar_problem {
  matrix<double> x;
  matrix<double> y;

  explicit scalar_problem(index_t tokens) : x(tokens, 2), y(tokens, 2) {
    for (index_t i = 0; i < tokens; ++i) {
      x(i, 0) = static_cast<double>(i + 1);
      x(i, 1) = 0.25;
      for (index_t j = 0; j < 2; ++j) y(i, j) = 2 * x(i, j);
    }
  }
  template <class Layer>
  reconstruct_result fit(Layer& layer, const reconstruct_options& options, const executor& run = {}) const {
    return reconstruct_output(layer, x.view(), y.view(), options, run);
  }
};

reconstruct_options steps_at(double rate, index_t num_steps) {
  reconstruct_options options;
  options.rate = {.highest = rate, .num_steps = num_steps};
  return options;
}

matrix<double> normals(index_t rows, index_t cols, std::uint64_t seed) {
  random_source random(seed);
  matrix<double> out(rows, cols);
  for (index_t i = 0; i < out.size(); ++i) out.data()[i] = random.normal();
  return out;
}

/// W trained by the loops of the definitions: the error before every step, and the weights there.
struct slow_training {
  std::vector<double> errors;
  std::vector<matrix<double>> weights;

  slow_training(matrix<double> w, const matrix<double>& x, const matrix<double>& y, double rate,
                index_t num_steps) {
    matrix<double> first(w.rows(), w.cols(), 0.0);
    matrix<double> second(w.rows(), w.cols(), 0.0);
    for (index_t step = 0; step <= num_steps; ++step) {
      double energy = 0;
      double squares = 0;
      matrix<double> gradient(w.rows(), w.cols(), 0.0);
      for (index_t t = 0; t < x.rows(); ++t) {
        for (index_t i = 0; i < w.rows(); ++i) {
          double difference = -y(t, i);
          for (index_t j = 0; j < w.cols(); ++j) difference += x(t, j) * w(i, j);
          energy += y(t, i) * y(t, i);
          squares += difference * difference;
          for (index_t j = 0; j < w.cols(); ++j) gradient(i, j) += 2 * difference * x(t, j);
        }
      }
      errors.push_back(std::sqrt(squares / energy));
      weights.push_back(w);
      for (index_t k = 0; k < w.size(); ++k) {
        const double g = gradient.data()[k] / energy;
        const auto power = static_cast<double>(step + 1);
        first.data()[k] = 0.9 * first.data()[k] + 0.1 * g;
        second.data()[k] = 0.999 * second.data()[k] + 0.001 * g * g;
        const double mean = first.data()[k] / (1 - std::pow(0.9, power));
        const double spread = std::sqrt(second.data()[k] / (1 - std::pow(0.999, power))) + 1e-8;
        const double share = static_cast<double>(num_steps - step) / static_cast<double>(num_steps);
        w.data()[k] -= rate * share * mean / spread; // the rate falls linearly
      }
    }
  }
};

} // namespace

TEST_CASE("reconstruct_output: steps as AdamW on the relative squared error does", "[train]") {
  struct shape {
    index_t tokens, rows, cols;
  };
  for (const auto& [tokens, rows, cols] : {shape{1, 1, 1}, {5, 1, 3}, {4, 65, 1}, {9, 3, 6}, {2, 66, 65}}) {
    CAPTURE(tokens, rows, cols);
    const matrix<float> start = normal_matrix(rows, cols, 1);
    matrix<double> wide(rows, cols);
    for (index_t i = 0; i < wide.size(); ++i) wide.data()[i] = static_cast<double>(start.data()[i]);
    const matrix<double> x = normals(tokens, cols, 2);
    const matrix<double> y = normals(tokens, rows, 3);
    constexpr double rate = 0.05;
    constexpr index_t num_steps = 12;
    const slow_training expected(wide, x, y, rate, num_steps);
    dense_layer<double> layer(start.view());
    std::vector<double> errors;
    reconstruct_options options = steps_at(rate, num_steps);
    options.rate.decay = rate_decay::linear;
    options.on_step = [&](index_t step, double error) {
      CHECK(step == static_cast<index_t>(errors.size()));
      errors.push_back(error);
    };
    const reconstruct_result result = reconstruct_output(layer, x.view(), y.view(), options);
    REQUIRE(errors.size() == expected.errors.size());
    // Sums in another order, 12 steps of which each passes the difference on; epsilon bounds the quotient.
    for (std::size_t k = 0; k < errors.size(); ++k) CHECK(is_near(errors[k], expected.errors[k], 1e-9));
    const auto least = std::min_element(errors.begin(), errors.end());
    CHECK(result.first_error == errors.front());
    CHECK(result.best_error == *least);
    CHECK(result.best_step == least - errors.begin());
    const matrix<double>& weight = expected.weights[static_cast<std::size_t>(result.best_step)];
    for (index_t i = 0; i < weight.size(); ++i)
      CHECK(is_near(layer.parameters()[0].value(i), weight.data()[i], 1e-9));
  }
}

TEST_CASE("reconstruct_output: leaves the layer with the best parameters of all steps", "[train]") {
  const scalar_problem problem(4);
  scalar_layer layer(2);
  const reconstruct_result result = problem.fit(layer, steps_at(0.15, 12)); // passes 2 after 7 steps
  CHECK(result.first_error == 1.0);
  CHECK(result.best_step > 4);
  CHECK(result.best_step < 10);
  CHECK(result.best_error < 0.08); // half a step of 2 x 0.15, over 2
  CHECK(is_near(result.best_error, std::fabs(layer.a() - 2) / 2, 1e-15));
  CHECK(layer.tokens_seen == std::vector<index_t>(13, 4));
  CHECK(layer.rows_seen.size() == 12);
  CHECK_FALSE(layer.has_wrong_gradient);
  CHECK_FALSE(layer.wanted_x);
}

TEMPLATE_TEST_CASE("reconstruct_output: gives the first parameters back where no step is better", "[train]",
                   float, bfloat16) {
  const matrix<float> weight = normal_matrix(3, 5, 1);
  const matrix<float> x = normal_matrix(7, 5, 2);
  dense_layer<TestType> layer(weight.view());
  matrix<float> y(7, 3, std::numeric_limits<float>::quiet_NaN());
  layer.forward(x.view(), y.view());
  y(2, 1) += 1e-3F; // or the gradient would be zero
  std::vector<float> before;
  for (index_t i = 0; i < 15; ++i) before.push_back(layer.parameters()[0].value(i));
  reconstruct_options options = steps_at(10, 3);
  const reconstruct_result result = reconstruct_output(layer, x.view(), std::as_const(y).view(), options);
  CHECK(result.best_step == 0);
  CHECK(result.best_error == result.first_error);
  for (index_t i = 0; i < 15; ++i)
    CHECK(layer.parameters()[0].value(i) == before[static_cast<std::size_t>(i)]);
}

TEST_CASE("reconstruct_output: no steps measure the error and change nothing", "[train]") {
  const scalar_problem problem(3);
  scalar_layer layer(2, 0.5);
  for (const index_t batch : {0, 2}) {
    reconstruct_options options = steps_at(1, 0);
    options.batch_tokens = batch;
    const reconstruct_result result = problem.fit(layer, options);
    CHECK(result.first_error == 0.75);
    CHECK(result.best_error == 0.75);
    CHECK(layer.a() == 0.5);
    CHECK(layer.rows_seen.empty());
  }
}

TEST_CASE("reconstruct_output: batches are rows of X with their rows of Y, drawn anew", "[train]") {
  const scalar_problem problem(50);
  const auto rows_with = [&](std::uint64_t seed) {
    scalar_layer layer(2);
    reconstruct_options options = steps_at(0.01, 40);
    options.batch_tokens = 5;
    options.seed = seed;
    int calls = 0;
    options.on_step = [&](index_t step, double error) {
      CHECK(step == calls++);
      CHECK(is_near(error, std::fabs(layer.a() - 2) / 2, 1e-14));
    };
    const reconstruct_result result = problem.fit(layer, options);
    CHECK(calls == 40);
    CHECK_FALSE(layer.has_wrong_gradient); // holds only where Y = 2 X row by row
    CHECK(result.first_error == 1.0);
    CHECK(is_near(result.best_error, std::fabs(layer.a() - 2) / 2, 1e-15));
    return layer.rows_seen;
  };
  const auto rows = rows_with(1);
  REQUIRE(rows.size() == 40);
  std::set<double> all;
  for (const std::vector<double>& batch : rows) {
    CHECK(batch.size() == 5);
    all.insert(batch.begin(), batch.end());
  }
  CHECK(all.size() > 40); // of 50, 200 draws miss one with probability 0.018
  CHECK(*all.begin() >= 1.0);
  CHECK(*all.rbegin() <= 50.0);
  CHECK(std::set<std::vector<double>>(rows.begin(), rows.end()).size() == 40);
  CHECK((rows_with(1) == rows));
  CHECK((rows_with(2) != rows));
}

TEST_CASE("reconstruct_output: with batches it looks at all tokens at intervals and at the end", "[train]") {
  const scalar_problem problem(9);
  for (const auto& [interval, looks] : {std::pair<index_t, index_t>{1, 8}, {3, 4}, {4, 3}, {100, 2}}) {
    scalar_layer layer(2);
    reconstruct_options options = steps_at(0.05, 7);
    options.batch_tokens = 8;
    options.check_interval = interval;
    const reconstruct_result result = problem.fit(layer, options);
    CHECK(std::count(layer.tokens_seen.begin(), layer.tokens_seen.end(), 9) == looks);
    CHECK(std::count(layer.tokens_seen.begin(), layer.tokens_seen.end(), 8) == 7);
    CHECK(result.best_step == 7); // the error falls at every step
    CHECK(is_near(result.best_error, std::fabs(layer.a() - 2) / 2, 1e-15));
  }
  for (const index_t batch : {9, 10}) { // all of them, once each
    scalar_layer layer(2);
    reconstruct_options options = steps_at(0.1, 2);
    options.batch_tokens = batch;
    problem.fit(layer, options);
    CHECK(layer.rows_seen[1] == std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 9});
    CHECK(layer.tokens_seen.size() == 3);
  }
}

TEST_CASE("reconstruct_output: a target of zeros and no tokens give absolute errors", "[train]") {
  scalar_problem problem(1);
  problem.y.fill(0);
  scalar_layer layer(2, 8);
  const reconstruct_result result = problem.fit(layer, steps_at(0.25, 3));
  CHECK(is_near(result.first_error, 8 * std::sqrt(1 + 0.0625), 1e-14));
  CHECK(result.best_error < result.first_error);
  CHECK(result.best_step == 3);
  scalar_layer other(2, 8);
  CHECK(scalar_problem(0).fit(other, steps_at(0.5, 3)).best_error == 0.0);
  CHECK(other.a() == 8.0);
}

TEST_CASE("reconstruct_output: the same bits on any number of threads", "[train]") {
  const matrix<float> weight = normal_matrix(300, 70, 1);
  const quantized_matrix start = quantize(weight.view(), make_quantizer("uint3", {.group_size = 35}));
  const matrix<float> x = normal_matrix(33, 70, 2);
  const matrix<float> y = normal_matrix(33, 300, 3);
  for (const index_t batch : {0, 17}) {
    const auto fitted = [&](const executor& run) {
      lrq_layer<float> layer(weight.view(), start, {.rank = 3});
      reconstruct_options options = steps_at(1e-2, 5);
      options.batch_tokens = batch;
      const reconstruct_result result = reconstruct_output(layer, x.view(), y.view(), options, run);
      matrix<float> output(33, 300, std::numeric_limits<float>::quiet_NaN());
      layer.forward(x.view(), output.view());
      const double error = std::sqrt(subtract_target(y.view(), output.view()) / squared_norm(y.view()));
      CHECK(is_near(result.best_error, error, 1e-14)); // all parameters are those of the best step
      std::vector<double> numbers{result.first_error, result.best_error,
                                  static_cast<double>(result.best_step)};
      for (const auto& p : layer.parameters()) {
        for (index_t i = 0; i < p.size(); ++i) numbers.push_back(static_cast<double>(p.value(i)));
      }
      return numbers;
    };
    const std::vector<double> alone = fitted({});
    CHECK(alone[2] > 0);
    for (const int threads : {1, 2, 3}) {
      thread_pool pool(threads);
      CHECK((fitted(pool) == alone)); // not printed
    }
  }
}

TEST_CASE("reconstruct_output: a loss that is not a number names step and parameter", "[train]") {
  constexpr status_code code = status_code::non_finite;
  for (const index_t batch : {0, 3}) {
    reconstruct_options options = steps_at(0.05, 4);
    options.batch_tokens = batch;
    scalar_problem problem(4);
    problem.y.fill(not_a_number);
    scalar_layer layer(2);
    CHECK(report_of([&] {
            problem.fit(layer, options);
          }).says(code, "step 0: the loss is nan; the gradient of factor(0, 0) is nan"));
  }
  scalar_layer broken(2, not_a_number);
  CHECK(report_of([&] {
          scalar_problem(4).fit(broken, steps_at(0.05, 4));
        }).says(code, "step 0: the loss is nan; parameter factor(0, 0) is nan"));
  // The third step is the first to go wrong.
  scalar_layer layer(2);
  reconstruct_options options = steps_at(0.05, 4);
  options.on_step = [&](index_t step, double /*error*/) {
    if (step == 2) layer.factor.set(0, 0, HUGE_VAL);
  };
  CHECK(report_of([&] { scalar_problem(4).fit(layer, options); }).says(code, "step 2: the loss is 0.810"));
  CHECK(is_finite(layer.factor(0, 0))); // the best so far came back
}

TEST_CASE("reconstruct_output: refuses rows that are not contiguous", "[train]") {
  scalar_problem problem(4);
  scalar_layer layer(2, 0.5);
  const matrix_view<const double> columns = problem.y.view().transposed();
  const matrix_view<const double> strided(columns.data(), problem.y.rows(), problem.y.cols(), 1,
                                          problem.y.rows());
  CHECK(report_of([&] {
          reconstruct_output(layer, problem.x.view(), strided, steps_at(0.1, 1));
        }).says(status_code::invalid_argument, "contiguous rows"));
}

TEST_CASE("reconstruct_output: refuses what does not fit", "[train]") {
  const scalar_problem problem(4);
  scalar_layer layer(2, 0.5);
  const auto refusal = [&](const matrix<double>& x, const matrix<double>& y,
                           const reconstruct_options& options) {
    return report_of([&] { reconstruct_output(layer, x.view(), y.view(), options); });
  };
  const reconstruct_options fine = steps_at(0.1, 1);
  CHECK(refusal(problem.x, matrix<double>(3, 2, 0.0), fine)
            .says(status_code::shape_mismatch, "Y is 3 x 2, it must be 4 x 2"));
  CHECK(refusal(problem.x, matrix<double>(4, 3, 0.0), fine)
            .says(status_code::shape_mismatch, "Y is 4 x 3, it must be 4 x 2"));
  reconstruct_options options = fine;
  options.batch_tokens = -1;
  CHECK(refusal(problem.x, problem.y, options)
            .says(status_code::invalid_argument, "batch_tokens is -1 and check_interval 1"));
  options = fine;
  options.check_interval = 0;
  CHECK(refusal(problem.x, problem.y, options)
            .says(status_code::invalid_argument, "batch_tokens is 0 and check_interval 0"));
  CHECK(refusal(problem.x, problem.y, steps_at(-1, 1))
            .says(status_code::invalid_argument, "learning rate is -1"));
  CHECK(refusal(problem.x, problem.y, steps_at(1, -1)).says(status_code::invalid_argument, "steps are -1"));
  CHECK(layer.a() == 0.5);
  CHECK(layer.tokens_seen.empty());
}
