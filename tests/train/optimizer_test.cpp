// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/optimizer.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>
#include <train/optimizers.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

constexpr index_t num_steps = 20;
constexpr double rate = 0.01;

/// Each step rounds a few numbers of about 1 + |value| to the type; the recursions of the moments forget.
template <class T>
constexpr double tolerance = 4 * num_steps* static_cast<double>(std::numeric_limits<T>::epsilon());

template <class T>
double defect_of_sgd(const sgd_options& options) {
  some_parameters<T> parameters;
  const std::vector<double> expected = slow_steps(
      parameters, num_steps,
      [&](slow_number_state& state, double g, index_t /*step*/, const parameter_options& of_parameter) {
        slow_sgd(state, g, rate * of_parameter.learning_rate_factor, options, of_parameter.has_weight_decay);
      });
  const auto views = parameters.views();
  sgd<T> optimizer(views, options);
  run_steps(optimizer, parameters, 1, num_steps, rate);
  CHECK(optimizer.num_steps() == num_steps);
  return largest_difference(parameters.values(), expected);
}

template <class T>
double defect_of_adamw(const adamw_options& options) {
  some_parameters<T> parameters;
  const std::vector<double> expected = slow_steps(
      parameters, num_steps,
      [&](slow_number_state& state, double g, index_t step, const parameter_options& of_parameter) {
        slow_adamw(state, g, step, rate * of_parameter.learning_rate_factor, options,
                   of_parameter.has_weight_decay);
      });
  const auto views = parameters.views();
  adamw<T> optimizer(views, options);
  run_steps(optimizer, parameters, 1, num_steps, rate);
  CHECK(optimizer.num_steps() == num_steps);
  return largest_difference(parameters.values(), expected);
}

template <class Options>
report refusal_of(const Options& options) {
  some_parameters<float> parameters;
  const auto views = parameters.views();
  if constexpr (std::same_as<Options, sgd_options>) {
    return report_of([&] { sgd<float>(views, options); });
  } else {
    return report_of([&] { adamw<float>(views, options); });
  }
}

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr status_code invalid = status_code::invalid_argument;

} // namespace

TEMPLATE_TEST_CASE("sgd: twenty steps equal the definition in double", "[train]", float, double) {
  const double momentum = GENERATE(0.0, 0.5, 0.95);
  const double decay = GENERATE(0.0, 0.3);
  CAPTURE(momentum, decay);
  // With momentum 0.95 steps are up to 20 times as long, and as much is rounded.
  const double allowed = tolerance<TestType> / (1 - momentum);
  CHECK(defect_of_sgd<TestType>({.momentum = momentum, .weight_decay = decay}) < allowed);
}

TEMPLATE_TEST_CASE("adamw: twenty steps equal the definition in double", "[train]", float, double) {
  const double decay = GENERATE(0.0, 0.3);
  CAPTURE(decay);
  CHECK(defect_of_adamw<TestType>({.weight_decay = decay}) < tolerance<TestType>);
  CHECK(defect_of_adamw<TestType>({.beta1 = 0.8, .beta2 = 0.95, .weight_decay = decay}) <
        tolerance<TestType>);
  CHECK(defect_of_adamw<TestType>({.beta1 = 0, .beta2 = 0, .epsilon = 0.5, .weight_decay = decay}) <
        tolerance<TestType>);
}

TEMPLATE_TEST_CASE("adamw: the first step moves by the learning rate, whatever the gradient's size",
                   "[train]", float, double) {
  parameter<TestType> p(1, 3);
  const std::vector<parameter_view<TestType>> views = {p.view("p")};
  adamw<TestType> optimizer(views, {.epsilon = 1e-12});
  p.gradient()(0, 0) = static_cast<TestType>(1e3);
  p.gradient()(0, 1) = static_cast<TestType>(-1e-3);
  optimizer.step(views, 0.125);
  // A few roundings of numbers near 1; epsilon is 1e-9 of the smaller gradient.
  const double allowed = 0.125 * (8 * static_cast<double>(std::numeric_limits<TestType>::epsilon()) + 2e-9);
  CHECK(is_near(static_cast<double>(p(0, 0)), -0.125, allowed));
  CHECK(is_near(static_cast<double>(p(0, 1)), 0.125, allowed));
  CHECK(p(0, 2) == 0);
}

TEMPLATE_TEST_CASE("sgd and adamw: gradients stay as they are", "[train]", float, bfloat16) {
  some_parameters<TestType> parameters;
  parameters.set_gradients(1);
  const matrix<float> before = parameters.owners[0].gradient();
  const auto views = parameters.views();
  sgd<float>(views, {.momentum = 0.9, .weight_decay = 0.1}).step(views, rate);
  adamw<float>(views, {.weight_decay = 0.1}).step(views, rate);
  for (index_t i = 0; i < before.size(); ++i)
    CHECK(is_same(parameters.owners[0].gradient().data()[i], before.data()[i]));
}

TEMPLATE_TEST_CASE("sgd and adamw: a learning rate of zero changes no value", "[train]", float, bfloat16) {
  some_parameters<TestType> parameters;
  const std::vector<double> before = parameters.values();
  const auto views = parameters.views();
  sgd<float> first(views, {.momentum = 0.9, .weight_decay = 0.1});
  adamw<float> second(views, {.weight_decay = 0.1});
  run_steps(first, parameters, 1, 3, 0.0);
  run_steps(second, parameters, 1, 3, 0.0);
  CHECK(parameters.values() == before);
}

TEST_CASE("sgd and adamw: the state is as large as documented", "[train]") {
  some_parameters<bfloat16> of_floats;
  some_parameters<double> of_doubles;
  const auto floats = of_floats.views();
  const auto doubles = of_doubles.views();
  const auto count = static_cast<index_t>(of_floats.values().size());
  REQUIRE(count == 35 + 0 + 1 + 70 + 130);
  CHECK(sgd<float>(floats).state_bytes() == 0);
  CHECK(sgd<float>(floats, {.momentum = 0.5}).state_bytes() == 4 * count);
  CHECK(sgd<double>(doubles, {.momentum = 0.5}).state_bytes() == 8 * count);
  CHECK(adamw<float>(floats).state_bytes() == 8 * count);
  CHECK(adamw<double>(doubles).state_bytes() == 16 * count);
}

TEST_CASE("sgd and adamw: options that are not allowed are refused by name", "[train]") {
  CHECK(refusal_of(sgd_options{.momentum = 0.999, .weight_decay = 5}).message.empty());
  CHECK(refusal_of(sgd_options{.momentum = 1}).says(invalid, "momentum is 1, allowed are 0 to below 1"));
  CHECK(refusal_of(sgd_options{.momentum = -0.5}).says(invalid, "momentum is -0.5"));
  CHECK(refusal_of(sgd_options{.momentum = not_a_number}).says(invalid, "momentum is"));
  CHECK(refusal_of(sgd_options{.weight_decay = -1}).says(invalid, "weight_decay is -1, allowed are 0"));
  CHECK(refusal_of(adamw_options{.beta1 = 0, .beta2 = 0}).message.empty());
  CHECK(refusal_of(adamw_options{.beta1 = 1}).says(invalid, "beta is 1, allowed are 0 to below 1"));
  CHECK(refusal_of(adamw_options{.beta2 = -0.25}).says(invalid, "beta is -0.25"));
  CHECK(refusal_of(adamw_options{.beta2 = not_a_number}).says(invalid, "beta is"));
  CHECK(refusal_of(adamw_options{.epsilon = 0}).says(invalid, "epsilon is 0, it must be positive"));
  CHECK(refusal_of(adamw_options{.epsilon = not_a_number}).says(invalid, "epsilon is"));
  CHECK(refusal_of(adamw_options{.weight_decay = -2}).says(invalid, "weight_decay is -2, allowed are 0"));
}

TEMPLATE_TEST_CASE("sgd and adamw: other parameters than at the start are refused and not changed", "[train]",
                   sgd<float>, adamw<float>) {
  some_parameters<float> parameters;
  const std::vector<double> before = parameters.values();
  parameters.set_gradients(1);
  auto views = parameters.views();
  TestType optimizer = [&] {
    if constexpr (std::same_as<TestType, sgd<float>>) return TestType(views, {.momentum = 0.9});
    if constexpr (std::same_as<TestType, adamw<float>>) return TestType(views);
  }();
  constexpr status_code mismatch = status_code::shape_mismatch;
  const auto refused = [&](const std::vector<parameter_view<float>>& others) {
    return report_of([&] { optimizer.step(others, rate); });
  };
  auto fewer = views;
  fewer.pop_back();
  CHECK(refused(fewer).says(mismatch, "optimizer has the state of 5 parameters, it was given 4"));
  auto more = views;
  more.push_back(views[0]);
  CHECK(refused(more).says(mismatch, "the state of 5 parameters, it was given 6"));
  auto swapped = views;
  std::swap(swapped[3], swapped[4]);
  CHECK(refused(swapped).says(mismatch, "parameter p4 is 65 x 2, the optimizer's state of it is 1 x 70"));
  auto turned = views;
  std::swap(turned[0].rows, turned[0].cols); // as many numbers as before
  CHECK(refused(turned).says(mismatch, "parameter p0 is 7 x 5, the optimizer's state of it is 5 x 7"));
  CHECK(parameters.values() == before);
  CHECK(optimizer.num_steps() == 0);
  optimizer.step(views, rate);
  CHECK(optimizer.num_steps() == 1);
}

TEMPLATE_TEST_CASE("sgd and adamw: an update that is not finite stops with step and parameter", "[train]",
                   float, double, bfloat16) {
  using compute = compute_t<TestType>;
  constexpr status_code non_finite = status_code::non_finite;
  constexpr compute infinity = std::numeric_limits<compute>::infinity();
  some_parameters<TestType> parameters;
  const auto views = parameters.views();
  sgd<compute> first(views);
  run_steps(first, parameters, 1, 2, rate);
  parameters.owners[4].gradient()(63, 1) = infinity;
  CHECK(report_of([&] {
          first.step(views, rate);
        }).says(non_finite, "step 2: parameter p4(63, 1) is -inf after the update"));

  some_parameters<TestType> others;
  const auto other_views = others.views();
  adamw<compute> second(other_views);
  run_steps(second, others, 1, 1, rate);
  others.owners[3].gradient()(0, 69) = std::numeric_limits<compute>::quiet_NaN();
  const report found = report_of([&] { second.step(other_views, rate); });
  CHECK(found.says(non_finite, "step 1: parameter p3(0, 69) is "));
  CHECK(found.says(non_finite, "nan after the update"));
}

TEST_CASE("sgd: a value beyond the largest number of the storage stops", "[train]") {
  parameter<bfloat16> p(1, 2);
  const std::vector<parameter_view<float>> views = {p.view("w")};
  p.gradient()(0, 1) = -0x1.FFFFFEp127F; // finite in float, infinite in bf16
  const report found = report_of([&] { sgd<float>(views).step(views, 1.0); });
  CHECK(found.says(status_code::non_finite, "step 0: parameter w(0, 1) is inf after the update"));
}

TEST_CASE("adamw: a gradient whose square overflows still moves its parameter", "[train]") {
  parameter<float> p(1, 1);
  const std::vector<parameter_view<float>> views = {p.view("w")};
  adamw<float> optimizer(views);
  p.gradient()(0, 0) = 1e38F;
  optimizer.step(views, 0.5);
  CHECK(std::fabs(p(0, 0) + 0.5F) < 1e-6F); // by the rate, as any first step
  const float before = p(0, 0);
  p.gradient()(0, 0) = 1e15F;
  for (int step = 0; step < 3; ++step) optimizer.step(views, 0.5);
  CHECK(is_finite(p(0, 0)));
  CHECK(p(0, 0) < before);
}

TEST_CASE("optimizers: refuse rates that are negative or not finite, and change nothing", "[train]") {
  parameter<float> p(1, 1);
  const std::vector<parameter_view<float>> views = {p.view("w")};
  p.gradient()(0, 0) = 1;
  adamw<float> adam(views);
  sgd<float> plain(views);
  for (const double bad : {-1e-3, std::numeric_limits<double>::infinity(), not_a_number}) {
    CHECK(report_of([&] { adam.step(views, bad); }).says(invalid, "learning rate is "));
    CHECK(report_of([&] { plain.step(views, bad); }).says(invalid, "learning rate is "));
  }
  CHECK(p(0, 0) == 0);
  CHECK(adam.num_steps() == 0);
  CHECK(plain.num_steps() == 0);
}

TEST_CASE("optimizers: refuse options that would give no numbers in float", "[train]") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  CHECK(refusal_of(adamw_options{.epsilon = 1e-60}).says(invalid, "epsilon is 1e-60"));
  CHECK(refusal_of(adamw_options{.weight_decay = infinity}).says(invalid, "weight_decay is inf"));
  CHECK(refusal_of(sgd_options{.weight_decay = infinity}).says(invalid, "weight_decay is inf"));
}
