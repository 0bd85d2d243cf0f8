// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/allocate/knapsack.hpp>

#include <allocate/instances.hpp>
#include <support/catch.hpp>
#include <support/oracles.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

/// Least cost within the budget over all combinations; infinite when none fits.
double brute_force(const instance& matrices, index_t budget, std::size_t first = 0) {
  if (first == matrices.size()) return budget >= 0 ? 0.0 : std::numeric_limits<double>::infinity();
  double least = std::numeric_limits<double>::infinity();
  for (const allocation_choice& choice : matrices[first]) {
    least = std::min(least, choice.cost + brute_force(matrices, budget - choice.size, first + 1));
  }
  return least;
}

/// Checks what every result must satisfy, whether or not it is proven.
void check_consistent(const instance& matrices, index_t budget, const allocation& found) {
  REQUIRE(found.chosen.size() == matrices.size());
  double cost = 0;
  double magnitude = 0;
  index_t size = 0;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    REQUIRE(found.chosen[i] >= 0);
    REQUIRE(found.chosen[i] < static_cast<index_t>(matrices[i].size()));
    const allocation_choice& choice = matrices[i][static_cast<std::size_t>(found.chosen[i])];
    cost += choice.cost;
    magnitude += std::fabs(choice.cost);
    size += choice.size;
  }
  CHECK(found.size == size);
  CHECK(found.size <= budget);
  CHECK(is_near(found.cost, cost, 1e-13 * magnitude)); // orders of summation differ
  CHECK(found.lower_bound <= found.cost);
  CHECK(found.linear_bound <= found.lower_bound + 1e-13 * magnitude);
  CHECK(is_near(found.gap_rel * std::fabs(found.cost), found.cost - found.lower_bound, 1e-13 * magnitude));
  if (found.is_proven) CHECK(found.lower_bound == found.cost);
}

allocation solve(const instance& matrices, index_t budget, const allocate_options& options = {}) {
  const allocation found = allocate(matrices, budget, options);
  check_consistent(matrices, budget, found);
  return found;
}

/// 1e-12 of the sum of magnitudes: costs that differ by less are the same in double precision.
void check_optimal(const instance& matrices, index_t budget) {
  const double least = brute_force(matrices, budget);
  const allocation found = solve(matrices, budget);
  CAPTURE(budget, found.cost, least);
  CHECK(found.is_proven);
  CHECK(found.gap_rel == 0.0);
  CHECK(is_near(found.cost, least, 1e-12 * (1.0 + std::fabs(least))));
}

} // namespace

TEST_CASE("allocate: equals brute force at every budget of small instances", "[allocate][property]") {
  for (const instance_kind kind : all_kinds) {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      const auto count = static_cast<index_t>(1 + seed % 6);
      const instance matrices = random_instance(kind, count, 5, 100 * seed);
      CAPTURE(static_cast<int>(kind), seed);
      for (const double share : {0.0, 0.01, 0.1, 0.25, 0.4, 0.5, 0.7, 0.95, 1.0, 1.5}) {
        check_optimal(matrices, budget_at(matrices, share));
      }
    }
  }
}

TEST_CASE("allocate: every budget of a lattice instance, met exactly or missed by one", "[allocate]") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const instance matrices = random_instance(instance_kind::lattice, 7, 4, 7 * seed, false);
    CAPTURE(seed);
    for (index_t budget = smallest_size(matrices); budget <= largest_size(matrices) + 1; ++budget) {
      check_optimal(matrices, budget);
    }
  }
}

TEST_CASE("allocate: ties, duplicates, equal sizes, zero sizes and negative costs", "[allocate]") {
  check_optimal({{{1, 2}, {1, 2}, {1, 2}}, {{1, 2}, {1, 2}}}, 4);
  check_optimal({{{3, 5}, {2, 5}, {1, 5}}, {{7, 5}, {9, 5}}}, 10);
  check_optimal({{{3, 0}, {2, 0}}, {{5, 0}, {1, 0}}}, 0);
  check_optimal({{{0, 0}, {0, 3}}, {{0, 1}}}, 1);
  check_optimal({{{-5, 3}, {2, 0}}, {{-1, 4}, {0, 2}, {-3, 6}}}, 7);
  check_optimal({{{-5, 3}, {-7, 8}}, {{-1, 4}, {-3, 6}}}, 10);
  // Costs that cancel to nothing.
  check_optimal({{{-5, 3}, {2, 0}}, {{5, 4}, {6, 2}}}, 7);
}

TEST_CASE("allocate: of equal choices the first is taken", "[allocate]") {
  const allocation found = solve({{{4, 9}, {1, 2}, {1, 2}, {1, 3}}}, 100);
  CHECK(found.chosen == std::vector<index_t>{1});
}

TEST_CASE("allocate: no matrix, one matrix, one choice", "[allocate]") {
  const allocation nothing = solve({}, 0);
  CHECK((nothing.is_proven && nothing.cost == 0.0 && nothing.size == 0));
  check_optimal({{{3.5, 7}}}, 7);
  check_optimal({{{3.5, 7}, {1.5, 9}, {2.5, 8}}}, 8);
  const allocation forced = solve({{{1, 1}}, {{2, 2}}, {{3, 3}}}, 6);
  CHECK((forced.is_proven && forced.cost == 6.0 && forced.size == 6));
}

TEST_CASE("allocate: a budget of everything takes the cheapest of each", "[allocate]") {
  for (const instance_kind kind : all_kinds) {
    const instance matrices = random_instance(kind, 50, 40, 3);
    const allocation found = solve(matrices, std::numeric_limits<index_t>::max());
    CHECK(found.is_proven);
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      for (const allocation_choice& choice : matrices[i]) {
        CHECK(matrices[i][static_cast<std::size_t>(found.chosen[i])].cost <= choice.cost);
      }
    }
  }
}

TEST_CASE("allocate: more budget never costs more, and the linear bound is convex in it",
          "[allocate][property]") {
  for (const instance_kind kind : all_kinds) {
    const instance matrices = random_instance(kind, 60, 30, 17);
    std::vector<allocation> found;
    const index_t low = smallest_size(matrices);
    const index_t step = (largest_size(matrices) - low) / 24;
    for (index_t i = 0; i <= 24; ++i) found.push_back(solve(matrices, low + i * step));
    for (std::size_t i = 1; i < found.size(); ++i) {
      CHECK(found[i].is_proven);
      CHECK(found[i].cost <= found[i - 1].cost);
      if (i + 1 == found.size()) break;
      const double middle = 0.5 * (found[i - 1].linear_bound + found[i + 1].linear_bound);
      CHECK(found[i].linear_bound <= middle + 1e-12 * std::fabs(found[0].linear_bound));
    }
  }
}

TEST_CASE("allocate: costs and sizes may be scaled and matrices reordered", "[allocate][property]") {
  for (const instance_kind kind : all_kinds) {
    instance matrices = random_instance(kind, 40, 20, 23);
    const index_t budget = budget_at(matrices, 0.3);
    const double cost = solve(matrices, budget).cost;
    std::reverse(matrices.begin(), matrices.end());
    for (auto& choices : matrices) {
      std::reverse(choices.begin(), choices.end());
      for (allocation_choice& choice : choices) choice = {choice.cost * 0x1p-40, choice.size * 1000000007};
    }
    const allocation scaled = solve(matrices, budget * 1000000007 + 1000000006);
    CHECK(scaled.is_proven);
    CHECK(is_near(scaled.cost, cost * 0x1p-40, 1e-12 * std::fabs(cost) * 0x1p-40));
  }
}

TEST_CASE("allocate: the same result every time", "[allocate]") {
  const instance matrices = random_instance(instance_kind::rate_distortion, 300, 40, 29);
  const allocation first = solve(matrices, budget_at(matrices, 0.2));
  const allocation second = solve(matrices, budget_at(matrices, 0.2));
  CHECK((first.chosen == second.chosen && first.num_nodes == second.num_nodes));
}

TEST_CASE("allocate: stops at the gap that is asked for", "[allocate]") {
  for (const instance_kind kind : all_kinds) {
    const instance matrices = random_instance(kind, 30, 20, 31);
    const index_t budget = budget_at(matrices, 0.3);
    const allocation exact = solve(matrices, budget);
    for (const double gap : {1e-1, 1e-2, 1e-3, 1e-4}) {
      const allocation found = solve(matrices, budget, {.gap_rel = gap});
      CHECK(found.gap_rel <= gap);
      CHECK(found.cost >= exact.cost * (1 - 1e-13));
      CHECK(found.cost <= exact.cost * (1 + 1.2 * gap)); // cost - bound <= gap * cost, bound <= exact cost
      CHECK(found.lower_bound <= exact.cost * (1 + 1e-13));
      CHECK(found.num_nodes <= exact.num_nodes);
    }
  }
}

TEST_CASE("allocate: a limit that ends the search gives an honest bound", "[allocate][property]") {
  int num_unproven = 0;
  for (const instance_kind kind : all_kinds) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const instance matrices = random_instance(kind, 40, 20, 1000 + 50 * seed);
      for (const double share : {0.05, 0.3, 0.6}) {
        const index_t budget = budget_at(matrices, share);
        const allocation exact = solve(matrices, budget);
        for (const allocate_options options :
             {allocate_options{0.0, 0, 1}, allocate_options{0.0, 50, 1000}, allocate_options{0.0, 1000, 1},
              allocate_options{0.0, 1000, 3}, allocate_options{1e-5, 1000, 3}}) {
          const allocation found = solve(matrices, budget, options);
          CHECK(found.cost >= exact.cost - 1e-12 * std::fabs(exact.cost));
          CHECK(found.lower_bound <= exact.cost + 1e-12 * std::fabs(exact.cost));
          if (found.is_proven) CHECK(is_near(found.cost, exact.cost, 1e-12 * std::fabs(exact.cost)));
          num_unproven += found.is_proven ? 0 : 1;
        }
      }
    }
  }
  CHECK(num_unproven > 100); // the limits did end searches
}

TEST_CASE("allocate: identical matrices end in spite of their symmetry", "[allocate]") {
  instance matrices(500);
  for (auto& choices : matrices) {
    for (index_t c = 0; c < 60; ++c) {
      choices.push_back({std::exp2(-0.2 * static_cast<double>(c)), 1000 + 37 * c});
    }
  }
  const allocation found = solve(matrices, budget_at(matrices, 0.37), {.max_nodes = 1 << 22});
  CHECK(found.num_nodes < (1 << 22) + 60 * (1 << 18));
  CHECK(found.gap_rel < 1e-3); // measured 2e-5
}

TEST_CASE("allocate: a budget that nothing fits names the smallest size", "[allocate]") {
  const instance matrices{{{1, 5}, {2, 3}}, {{1, 9}, {4, 8}}};
  CHECK(solve(matrices, 11).size == 11);
  CHECK(report_of([&] {
          (void)allocate(matrices, 10);
        }).says(status_code::invalid_argument, "budget is 10, the smallest possible size is 11"));
  CHECK(report_of([&] {
          (void)allocate(matrices, -1);
        }).says(status_code::invalid_argument, "budget is -1, the smallest possible size is 11"));
}

TEST_CASE("allocate: refuses impossible choices and options with a sentence", "[allocate]") {
  const auto refuse = [](const instance& matrices, status_code code, const char* part,
                         const allocate_options& options = {}) {
    const report caught = report_of([&] { (void)allocate(matrices, 100, options); });
    CAPTURE(caught.message, part);
    CHECK(caught.says(code, part));
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  constexpr index_t huge = std::numeric_limits<index_t>::max();
  refuse({{{1, 1}}, {{1, 1}, {nan, 2}}}, status_code::non_finite, "the cost of choice 1 of matrix 1 is nan");
  refuse({{{-infinite, 1}}}, status_code::non_finite, "the cost of choice 0 of matrix 0 is -inf");
  refuse({{{1, 1}}, {}}, status_code::invalid_argument, "matrix 1 has no choices");
  refuse({{{1, 0}, {1, -1}}}, status_code::invalid_argument, "the size of choice 1 of matrix 0 is -1");
  refuse({{{1, huge}}}, status_code::invalid_argument, "add up to more than 2^61");
  refuse({{{1, huge / 5}}, {{1, huge / 5}}}, status_code::invalid_argument, "up to matrix 1");
  refuse({{{1, 1}}}, status_code::invalid_argument, "gap_rel is nan", {.gap_rel = nan});
  refuse({{{1, 1}}}, status_code::invalid_argument, "gap_rel is -0.5", {.gap_rel = -0.5});
  refuse({{{1, 1}}}, status_code::invalid_argument, "max_nodes is -1", {.max_nodes = -1});
  refuse({{{1, 1}}}, status_code::invalid_argument, "max_states is 0", {.max_states = 0});
}
