// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/learning_rate.hpp>

#include <support/catch.hpp>
#include <support/oracles.hpp>

#include <limits>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

// A few roundings in double of numbers of at most 1.
constexpr double tolerance = 1e-15;

void check_rates(const learning_rate_schedule& schedule, const std::vector<double>& expected) {
  validate(schedule);
  for (std::size_t step = 0; step < expected.size(); ++step) {
    CAPTURE(step);
    CHECK(is_near(schedule.at(static_cast<index_t>(step)), expected[step], tolerance));
  }
}

report refusal_of(const learning_rate_schedule& schedule) {
  return report_of([&] { validate(schedule); });
}

} // namespace

TEST_CASE("learning_rate_schedule: without warm-up and decay it is constant", "[train]") {
  check_rates({.highest = 0.3, .num_steps = 4}, {0.3, 0.3, 0.3, 0.3, 0.3});
  CHECK(learning_rate_schedule{}.at(0) == 1e-3);
}

TEST_CASE("learning_rate_schedule: the warm-up rises linearly and its last step has the highest rate",
          "[train]") {
  check_rates({.highest = 0.8, .num_steps = 7, .warmup_steps = 4}, {0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8});
  check_rates({.highest = 0.8, .num_steps = 3, .warmup_steps = 1}, {0.8, 0.8, 0.8});
}

TEST_CASE("learning_rate_schedule: linear decay starts at the top and reaches its floor after the run",
          "[train]") {
  check_rates({.highest = 1, .num_steps = 4, .decay = rate_decay::linear}, {1, 0.75, 0.5, 0.25, 0, 0, 0});
  check_rates({.highest = 1, .num_steps = 6, .warmup_steps = 2, .decay = rate_decay::linear},
              {0.5, 1, 1, 0.75, 0.5, 0.25, 0});
  check_rates({.highest = 0.5, .num_steps = 4, .decay = rate_decay::linear, .final_fraction = 0.2},
              {0.5, 0.4, 0.3, 0.2, 0.1, 0.1});
}

TEST_CASE("learning_rate_schedule: cosine decay has the cosines of 0, 30, 60 ... degrees", "[train]") {
  constexpr double root3 = 1.7320508075688772;
  check_rates({.highest = 1, .num_steps = 6, .decay = rate_decay::cosine},
              {1, 0.5 + root3 / 4, 0.75, 0.5, 0.25, 0.5 - root3 / 4, 0, 0});
  check_rates({.highest = 1, .num_steps = 5, .warmup_steps = 3, .decay = rate_decay::cosine},
              {1.0 / 3, 2.0 / 3, 1, 1, 0.5, 0});
  check_rates({.highest = 0.4, .num_steps = 3, .decay = rate_decay::cosine, .final_fraction = 0.5},
              {0.4, 0.35, 0.25, 0.2});
}

TEST_CASE("learning_rate_schedule: runs of no step or of warm-up alone have finite rates", "[train]") {
  check_rates({.highest = 1, .num_steps = 0, .decay = rate_decay::linear}, {1, 0});
  check_rates({.highest = 1, .num_steps = 2, .warmup_steps = 2, .decay = rate_decay::cosine}, {0.5, 1, 1, 0});
  check_rates({.highest = 1, .num_steps = 2, .warmup_steps = 4, .decay = rate_decay::linear},
              {0.25, 0.5, 0.75, 1, 1, 0});
}

TEST_CASE("learning_rate_schedule: what is not allowed is refused by name", "[train]") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr status_code invalid = status_code::invalid_argument;
  CHECK(refusal_of({.highest = 0, .num_steps = 0}).message.empty());
  CHECK(refusal_of({.final_fraction = 0}).message.empty());
  CHECK(refusal_of({.final_fraction = 1}).message.empty());
  CHECK(refusal_of({.highest = -1e-9}).says(invalid, "learning rate is -1e-09, allowed are 0 and above"));
  CHECK(refusal_of({.highest = nan}).says(invalid, "learning rate is"));
  CHECK(refusal_of({.highest = infinity}).says(invalid, "learning rate is inf"));
  CHECK(refusal_of({.num_steps = -1}).says(invalid, "steps are -1 with 0 of warm-up, allowed are 0"));
  CHECK(refusal_of({.warmup_steps = -2}).says(invalid, "steps are 1 with -2 of warm-up"));
  CHECK(refusal_of({.final_fraction = 1.5}).says(invalid, "final_fraction is 1.5, allowed are 0 to 1"));
  CHECK(refusal_of({.final_fraction = -0.5}).says(invalid, "final_fraction is -0.5"));
  CHECK(refusal_of({.final_fraction = nan}).says(invalid, "final_fraction is"));
}
