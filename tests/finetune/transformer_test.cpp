// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "slow_model.hpp"
#include "toy_model.hpp"

#include <qlr/core/parallel.hpp>

#include <support/catch.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

/// (f(x + h) - f(x - h)) / 2 h for one number x; the error of the second order is about h^2, that of rounding
/// 1e-16 f / h, so with h = 1e-5 both are below 1e-9.
template <class Loss>
double central_difference(double& x, Loss&& loss) {
  constexpr double h = 1e-5;
  const double before = x;
  x = before + h;
  const double above = loss();
  x = before - h;
  const double below = loss();
  x = before;
  return (above - below) / (2.0 * h);
}

/// Relative to the slope; 1e-8 is what the difference itself is good for.
bool is_slope(double gradient, double slope) {
  return std::fabs(gradient - slope) <= 1e-5 * std::fabs(slope) + 1e-8;
}

template <class T>
std::vector<train::parameter_view<T>> clean_parameters(transformer<T>& model) {
  auto parameters = model.parameters();
  train::zero_gradients(std::span<const train::parameter_view<T>>(parameters));
  return parameters;
}

/// The first number of a parameter whose gradient is wrong, in words.
std::string find_wrong_gradient(transformer<double>& model, const token_batch& batch) {
  const auto parameters = clean_parameters(model);
  model.forward(batch);
  model.backward();
  for (const auto& p : parameters) {
    double* values = std::get<double*>(p.values);
    for (index_t i = 0; i < p.size(); ++i) {
      const double slope = central_difference(values[i], [&] { return model.evaluate(batch); });
      if (!is_slope(p.gradient[i], slope))
        return sentence(p.name, '[', i, "]: gradient ", p.gradient[i], ", slope ", slope);
    }
  }
  return "none";
}

template <class T>
std::vector<T> all_gradients(transformer<T>& model) {
  std::vector<T> all;
  for (const auto& p : model.parameters()) all.insert(all.end(), p.gradient, p.gradient + p.size());
  return all;
}

} // namespace

TEST_CASE("transformer: every gradient is the slope of the loss", "[finetune]") {
  const index_t num_kv_heads = GENERATE(1, 3);
  const model_config config = toy_config(num_kv_heads);
  transformer<double> model = toy_model<double>(config);
  toy_batch batch({2, 6}, config);
  CHECK(find_wrong_gradient(model, batch.view()) == "none");
  for (const std::size_t i : {0U, 3U, 11U}) batch.targets[i] = token_batch::not_counted;
  CHECK(find_wrong_gradient(model, batch.view()) == "none");
}

TEST_CASE("transformer: gradients of texts of one token are slopes too", "[finetune]") {
  const index_t sequences = GENERATE(1, 3);
  const model_config config = toy_config(1);
  transformer<double> model = toy_model<double>(config);
  const toy_batch batch({sequences, 1}, config);
  CHECK(find_wrong_gradient(model, batch.view()) == "none");
}

TEST_CASE("transformer: no part has a gradient of zero", "[finetune]") {
  const model_config config = toy_config(3);
  transformer<double> model = toy_model<double>(config);
  const toy_batch batch({2, 6}, config);
  model.forward(batch.view());
  model.backward();
  // Otherwise the slopes above would say nothing.
  for (const auto& p : model.parameters()) {
    INFO(p.name);
    CHECK(std::any_of(p.gradient, p.gradient + p.size(), [](double g) { return std::fabs(g) > 1e-3; }));
  }
}

TEMPLATE_TEST_CASE("transformer: logits and loss are those of the definition", "[finetune]", double, float) {
  const index_t num_kv_heads = GENERATE(1, 3);
  const model_config config = toy_config(num_kv_heads);
  transformer<TestType> model = toy_model<TestType>(config);
  const model_weights weights = toy_weights(config);
  toy_batch batch({2, 9}, config);
  batch.targets[5] = token_batch::not_counted;
  const auto logits = model.logits(batch.shape, batch.tokens);
  // Of numbers of size 10, after some hundred roundings.
  const double tolerance = 1000.0 * static_cast<double>(std::numeric_limits<TestType>::epsilon());
  double loss = 0;
  for (std::size_t text = 0; text < 2; ++text) {
    const auto expected = slow_logits(weights, std::span(batch.tokens).subspan(9 * text, 9));
    for (std::size_t t = 0; t < 9; ++t) {
      const auto row = static_cast<index_t>(9 * text + t);
      for (index_t i = 0; i < config.num_tokens; ++i)
        CHECK(is_near(static_cast<double>(logits(row, i)), at(expected[t], i), tolerance));
      const token_t target = batch.targets[9 * text + t];
      if (target != token_batch::not_counted) loss += slow_cross_entropy(expected[t], target) / 17.0;
    }
  }
  CHECK(is_near(model.forward(batch.view()), loss, tolerance));
}

TEST_CASE("transformer: texts of a batch do not see each other", "[finetune]") {
  const model_config config = toy_config(1);
  transformer<double> model = toy_model<double>(config);
  const toy_batch batch({3, 50}, config); // more tokens than the context, which each text has for itself
  const std::span<const token_t> tokens = batch.tokens;
  const auto together = model.logits(batch.shape, tokens);
  const std::vector<double> expected(together.row(50), together.row(50) + 50 * config.num_tokens);
  const auto alone = model.logits({1, 50}, tokens.subspan(50, 50));
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(is_near(alone.data()[i], expected[i], 1e-12));
}

TEST_CASE("transformer: what is not counted does not matter", "[finetune]") {
  const model_config config = toy_config(3);
  transformer<double> model = toy_model<double>(config);
  toy_batch batch({1, 6}, config);
  double sum = 0;
  const std::vector<token_t> targets = batch.targets;
  for (const std::size_t counted : {1U, 4U}) {
    std::fill(batch.targets.begin(), batch.targets.end(), token_batch::not_counted);
    batch.targets[counted] = targets[counted];
    sum += model.evaluate(batch.view());
  }
  batch.targets[1] = targets[1];
  CHECK(is_near(model.evaluate(batch.view()), sum / 2.0, 1e-13));
}

TEST_CASE("transformer: evaluating leaves what backward needs", "[finetune]") {
  const model_config config = toy_config(3);
  transformer<double> model = toy_model<double>(config);
  const toy_batch batch({2, 6}, config);
  const toy_batch other({4, 9}, config, 8);
  clean_parameters(model);
  const double loss = model.forward(batch.view());
  model.backward();
  const std::vector<double> expected = all_gradients(model);
  clean_parameters(model);
  CHECK(model.forward(batch.view()) == loss);
  CHECK(model.evaluate(batch.view()) == loss);
  CHECK(model.evaluate(other.view()) != loss);
  CHECK(model.logits(other.shape, other.tokens).rows() == 36);
  model.backward();
  CHECK(all_gradients(model) == expected);
}

TEST_CASE("transformer: backward adds to what is there", "[finetune]") {
  const model_config config = toy_config(1);
  transformer<double> model = toy_model<double>(config);
  const toy_batch large({3, 8}, config);
  const toy_batch batch({2, 6}, config);
  clean_parameters(model);
  model.forward(large.view()); // buffers keep its numbers behind those of the next
  model.forward(batch.view());
  model.backward();
  const std::vector<double> once = all_gradients(model);
  model.forward(batch.view());
  model.backward();
  const std::vector<double> twice = all_gradients(model);
  for (std::size_t i = 0; i < once.size(); ++i)
    CHECK(is_near(twice[i], 2.0 * once[i], 1e-12 * std::max(1.0, std::fabs(once[i]))));
}

TEMPLATE_TEST_CASE("transformer: any number of threads gives the same bits", "[finetune]", float, double) {
  const model_config config = toy_config(1, 150); // more than one task for the rows and columns of the head
  const toy_batch batch({3, 50}, config);
  const auto run_with = [&](const executor& run) {
    transformer<TestType> model = toy_model<TestType>(config);
    std::vector<double> results{model.forward(batch.view(), run)};
    model.backward(run);
    for (const TestType g : all_gradients(model)) results.push_back(static_cast<double>(g));
    const auto logits = model.logits(batch.shape, batch.tokens, run);
    results.insert(results.end(), logits.data(), logits.data() + logits.size());
    return results;
  };
  const std::vector<double> expected = run_with({});
  for (const int num_threads : {1, 2, 3}) {
    thread_pool pool(num_threads);
    CHECK(run_with(pool) == expected);
  }
}
