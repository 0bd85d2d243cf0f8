// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/optimizer.hpp>

#include <io/support.hpp>
#include <qlr/train/state.hpp>
#include <support/catch.hpp>
#include <support/oracles.hpp>
#include <train/optimizers.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

constexpr double rate = 0.01;

/// An optimizer with all its options in use.
template <class Optimizer, class T>
Optimizer make(const std::vector<parameter_view<T>>& views, std::uint64_t seed) {
  if constexpr (std::same_as<Optimizer, sgd<T>>) {
    return Optimizer(views, {.momentum = 0.9, .weight_decay = 0.05, .seed = seed});
  } else {
    return Optimizer(views, {.weight_decay = 0.05, .seed = seed});
  }
}

template <class Optimizer, class Storage>
std::vector<double> values_after(index_t num_steps, std::uint64_t seed, const executor& run = {}) {
  some_parameters<Storage> parameters;
  parameters.add(301, 167, {}); // more than three pieces of 2^14 numbers
  auto optimizer = make<Optimizer>(parameters.views(), seed);
  run_steps(optimizer, parameters, 1, num_steps, rate, run);
  return parameters.values();
}

/// One step of plain descent of 1 x count ones with gradients of 1.
std::vector<float> ones_after(index_t count, index_t num_steps, double learning_rate, std::uint64_t seed) {
  parameter<bfloat16> p(1, count);
  p.values().fill(to_bfloat16(1.0F));
  p.gradient().fill(1.0F);
  const std::vector<parameter_view<float>> views = {p.view("p")};
  sgd<float> optimizer(views, {.seed = seed});
  for (index_t step = 0; step < num_steps; ++step) optimizer.step(views, learning_rate);
  std::vector<float> values;
  for (index_t j = 0; j < count; ++j) values.push_back(p(0, j));
  return values;
}

template <class Optimizer, class Storage>
void check_resumed(const std::string& path) {
  constexpr index_t total = 12;
  constexpr index_t saved_at = 7;
  constexpr std::uint64_t seed = 5;
  some_parameters<Storage> straight;
  auto optimizer = make<Optimizer>(straight.views(), seed);
  run_steps(optimizer, straight, 1, saved_at, rate);
  save_state(path, [&](auto& archive) {
    straight.visit_state(archive);
    optimizer.visit_state(archive, "optimizer.");
  });
  run_steps(optimizer, straight, saved_at + 1, total, rate);

  some_parameters<Storage> resumed;
  auto restored = make<Optimizer>(resumed.views(), seed);
  run_steps(restored, resumed, 3, 4, rate); // must leave no trace
  load_state(path, [&](auto& archive) {
    resumed.visit_state(archive);
    restored.visit_state(archive, "optimizer.");
  });
  CHECK(restored.num_steps() == saved_at);
  run_steps(restored, resumed, saved_at + 1, total, rate);
  CHECK(restored.num_steps() == total);
  CHECK(resumed.values() == straight.values());
}

} // namespace

TEMPLATE_TEST_CASE("sgd and adamw: values have the same bits on any number of threads", "[train][threads]",
                   sgd<float>, adamw<float>) {
  const std::vector<double> serial = values_after<TestType, float>(3, 1);
  const std::vector<double> serial_bf16 = values_after<TestType, bfloat16>(3, 1);
  for (const int num_threads : {1, 2, 3}) {
    CAPTURE(num_threads);
    thread_pool pool(num_threads);
    CHECK(values_after<TestType, float>(3, 1, pool) == serial);
    CHECK(values_after<TestType, bfloat16>(3, 1, pool) == serial_bf16);
  }
}

TEMPLATE_TEST_CASE("sgd and adamw: bf16 is rounded by the seed, float is not", "[train]", sgd<float>,
                   adamw<float>) {
  const std::vector<double> once = values_after<TestType, bfloat16>(3, 1);
  CHECK(values_after<TestType, bfloat16>(3, 1) == once);
  CHECK(values_after<TestType, bfloat16>(3, 2) != once);
  CHECK(values_after<TestType, float>(3, 1) == values_after<TestType, float>(3, 2));
}

TEMPLATE_TEST_CASE("sgd and adamw: bf16 stays near what float gives", "[train]", sgd<float>, adamw<float>) {
  const std::vector<double> precise = values_after<TestType, float>(10, 1);
  const std::vector<double> rounded = values_after<TestType, bfloat16>(10, 1);
  // Ten roundings by at most 2^-7 of a value, and that of the start.
  CHECK(largest_difference(rounded, precise) < 11 * 0x1p-7);
}

TEST_CASE("sgd: updates below the step of bf16 move the mean", "[train]") {
  constexpr index_t count = 4096;
  constexpr double update = 0x1p-12; // below 1 neighbours are 2^-8 apart
  REQUIRE(to_float(to_bfloat16(1.0F - static_cast<float>(update))) == 1.0F);
  double sum = 0;
  for (const float value : ones_after(count, 16, update, 3)) {
    sum += static_cast<double>(value);
    REQUIRE(std::fmod(value, 0x1p-8F) == 0);
  }
  // 16 steps of variance 1/16 * 15/16 * 2^-16 each; six deviations of the mean of 4096.
  const double deviation = std::sqrt(16.0 * 15 / 256) * 0x1p-8 / std::sqrt(static_cast<double>(count));
  CHECK(is_near(sum / count, 1.0 - 16 * update, 6 * deviation));
}

TEST_CASE("sgd: the random numbers of steps, parameters and elements differ", "[train]") {
  constexpr index_t count = 512;
  constexpr double half = 0x1p-9; // up and down alike
  const std::vector<float> first = ones_after(count, 1, half, 3);
  const auto num_down = static_cast<double>(std::ranges::count(first, 1.0F - 0x1p-8F));
  CHECK(is_near(num_down, count / 2.0, 6 * std::sqrt(count) / 2)); // six deviations of a binomial
  // Were the numbers of both steps the same, what was down would have gone up again by them.
  const std::vector<float> second = ones_after(count, 2, half, 3);
  index_t num_repeats = 0;
  for (std::size_t i = 0; i < first.size(); ++i) {
    const bool first_down = first[i] < 1.0F;
    const bool second_down = second[i] < first[i];
    num_repeats += first_down == second_down ? 1 : 0;
  }
  CHECK(is_near(static_cast<double>(num_repeats), count / 2.0, 6 * std::sqrt(count) / 2));

  parameter<bfloat16> a(1, count);
  parameter<bfloat16> b(1, count);
  for (parameter<bfloat16>* p : {&a, &b}) {
    p->values().fill(to_bfloat16(1.0F));
    p->gradient().fill(1.0F);
  }
  const std::vector<parameter_view<float>> views = {a.view("a"), b.view("b")};
  sgd<float>(views, {.seed = 3}).step(views, half);
  index_t num_same = 0;
  for (index_t j = 0; j < count; ++j) num_same += a(0, j) == b(0, j) ? 1 : 0;
  CHECK(is_near(static_cast<double>(num_same), count / 2.0, 6 * std::sqrt(count) / 2));
}

TEMPLATE_TEST_CASE("sgd and adamw: a run that is saved and restored continues with the same bits", "[train]",
                   float, double, bfloat16) {
  using compute = compute_t<TestType>;
  const temporary_directory folder;
  check_resumed<sgd<compute>, TestType>(folder.file("sgd"));
  check_resumed<adamw<compute>, TestType>(folder.file("adamw"));
}

TEST_CASE("sgd and adamw: the state of one is not taken for the other's", "[train]") {
  const temporary_directory folder;
  some_parameters<float> parameters;
  const auto views = parameters.views();
  sgd<float> with_momentum(views, {.momentum = 0.9});
  sgd<float> without(views);
  adamw<float> adam(views);
  const auto save = [&](auto& optimizer) {
    save_state(folder.file("state"), [&](auto& archive) { optimizer.visit_state(archive, ""); });
  };
  const auto load = [&](auto& optimizer) {
    return report_of([&] {
      load_state(folder.file("state"), [&](auto& archive) { optimizer.visit_state(archive, ""); });
    });
  };
  save(with_momentum);
  CHECK(load(with_momentum).message.empty());
  CHECK(load(adam).says(status_code::malformed_file, "no tensor is named first.0"));
  CHECK(load(without).says(status_code::malformed_file, "belongs to no part of what is trained"));
  save(without);
  CHECK(load(with_momentum).says(status_code::malformed_file, "no tensor is named velocity.0"));
}
