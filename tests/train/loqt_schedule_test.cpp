// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/loqt_schedule.hpp>

#include <support/catch.hpp>
#include <support/oracles.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using qlr::train::loqt_schedule;

namespace {

/// The refresh steps below a number.
std::vector<index_t> steps_below(const loqt_schedule& schedule, index_t end) {
  std::vector<index_t> steps;
  for (index_t step = -3; step < end; ++step) {
    if (schedule.is_refresh_step(step)) steps.push_back(step);
  }
  return steps;
}

constexpr index_t last_step = std::numeric_limits<index_t>::max();

} // namespace

TEST_CASE("loqt_schedule: 100 and 1.2 give the steps that follow by hand", "[train]") {
  // int(1.2^k) for k = 1 ... 10: 1, 1, 1, 2, 2, 2, 3, 4, 5, 6
  CHECK(steps_below({}, 1234) ==
        std::vector<index_t>{0, 100, 201, 302, 403, 505, 607, 709, 812, 916, 1021, 1127});
}

TEST_CASE("loqt_schedule: gaps grow as the powers do", "[train]") {
  CHECK(steps_below({.interval = 5, .growth = 2}, 200) ==
        std::vector<index_t>{0, 5, 12, 21, 34, 55, 92, 161}); // 5, then 5 + 2, 5 + 4, ... 5 + 64
  CHECK(steps_below({.interval = 3, .growth = 1}, 20) == std::vector<index_t>{0, 3, 7, 11, 15, 19});
  CHECK(steps_below({.interval = 4, .growth = 0.5}, 17) == std::vector<index_t>{0, 4, 8, 12, 16});
  CHECK(steps_below({.interval = 1, .growth = 0}, 4) == std::vector<index_t>{0, 1, 2, 3});
}

TEST_CASE("loqt_schedule: powers beyond any number end it without overflow", "[train]") {
  const loqt_schedule huge{.interval = 7, .growth = 1e300};
  CHECK(huge.is_refresh_step(7));
  CHECK(!huge.is_refresh_step(14));
  CHECK(!huge.is_refresh_step(last_step));
  const loqt_schedule infinite{.interval = 7, .growth = HUGE_VAL};
  CHECK(infinite.is_refresh_step(7));
  CHECK(!infinite.is_refresh_step(last_step));
  CHECK(!loqt_schedule{}.is_refresh_step(last_step));
  const loqt_schedule rare{.interval = last_step, .growth = 2};
  CHECK(rare.is_refresh_step(last_step));
  CHECK(!rare.is_refresh_step(last_step - 1));
}

TEST_CASE("loqt_schedule: refuses what gives no schedule", "[train]") {
  const auto refusal = [](const loqt_schedule& schedule) {
    return report_of([&] { (void)schedule.is_refresh_step(5); });
  };
  CHECK(
      refusal({.interval = 0}).says(status_code::invalid_argument, "interval is 0, allowed are 1 and above"));
  CHECK(refusal({.growth = -1}).says(status_code::invalid_argument, "growth is -1, allowed are 0 and above"));
  CHECK(refusal({.growth = std::nan("")}).says(status_code::invalid_argument, "growth is nan"));
}
