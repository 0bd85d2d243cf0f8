// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// allocate() on large instances and the tables of costs that feed it.
//
//   allocate_rows     Rows = matrices, 500 choices each; gap_rel = (cost - lower bound) / cost,
//   linear_gap_rel
//                     the same with the linear bound, proven = 1 for a proven optimum
//   cost_table_rows   square matrices; LQ-LoRA's 432 choices, at rank 0 and with rank 16

#include <harness/environment.hpp>
#include <harness/program.hpp>
#include <harness/timing.hpp>

#include <qlr/allocate/knapsack.hpp>
#include <qlr/core/random.hpp>
#include <qlr/host/cost_table.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace qlr;
using namespace qlr::bench;

constexpr index_t num_choices = 500;
constexpr int timed_runs = 3;

using instance = std::vector<std::vector<allocation_choice>>;

/// What distinguishes the instances.
enum class instance_kind {
  table,        ///< cost falls as 4^-bits with 30 % noise; matrices of 64 sizes and weights over decades
  smooth,       ///< the same without noise: every choice is on the hull
  uncorrelated, ///< cost and size are independent
  correlated,   ///< cost is almost minus the size: the classical hard case
  identical     ///< smooth, and all matrices are equal: the worst case, as many solutions are
};

double uniform_at(std::uint64_t stream, index_t index) {
  return to_unit_interval(philox(stream, static_cast<std::uint64_t>(index))[0]);
}

allocation_choice make_choice(instance_kind kind, index_t matrix, index_t choice) {
  const index_t at = matrix * num_choices + choice;
  const double u = uniform_at(1, at);
  const double v = uniform_at(2, at);
  const double step = static_cast<double>(choice) / static_cast<double>(num_choices);
  const double elements = 65536.0 * std::floor(1.0 + 64.0 * uniform_at(3, matrix));
  const double weight = std::exp(2.0 * normal_at(4, matrix));
  const auto rate = [&](double bits, double count, double factor) {
    return allocation_choice{factor * count * std::exp2(-2.0 * bits), static_cast<index_t>(bits * count)};
  };
  switch (kind) {
  case instance_kind::table:
    return rate(2.0 + 6.625 * u, elements, weight * (1.0 + 0.3 * v));
  case instance_kind::smooth:
    return rate(2.0 + 6.625 * step, elements, weight);
  case instance_kind::uncorrelated:
    return {v, static_cast<index_t>(1e6 * u)};
  case instance_kind::correlated:
    return {1000.0 - std::floor(1000.0 * u) + 10.0 * v, static_cast<index_t>(1000.0 * u)};
  case instance_kind::identical:
    break;
  }
  return rate(2.0 + 6.625 * step, 4096.0, 1.0);
}

instance make_instance(instance_kind kind, index_t matrices) {
  instance result(static_cast<std::size_t>(matrices));
  for (index_t i = 0; i < matrices; ++i) {
    for (index_t c = 0; c < num_choices; ++c) {
      result[static_cast<std::size_t>(i)].push_back(make_choice(kind, i, c));
    }
  }
  return result;
}

/// 0.2371 of the way from the smallest to the largest size: round shares are met exactly by equal matrices.
index_t budget_of(const instance& matrices) {
  index_t smallest = 0;
  index_t largest = 0;
  for (const auto& choices : matrices) {
    const auto [least, most] = std::minmax_element(
        choices.begin(), choices.end(), [](const auto& a, const auto& b) { return a.size < b.size; });
    smallest += least->size;
    largest += most->size;
  }
  return smallest + static_cast<index_t>(0.2371 * static_cast<double>(largest - smallest));
}

/// Checks sums, budget and bound; the bound is recomputed for the price that makes it largest among a few.
std::string verify(const instance& matrices, index_t budget, const allocation& found) {
  double cost = 0;
  index_t size = 0;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const allocation_choice& choice = matrices[i][static_cast<std::size_t>(found.chosen[i])];
    cost += choice.cost;
    size += choice.size;
  }
  if (size != found.size || size > budget) return "the size is wrong or exceeds the budget";
  if (std::fabs(cost - found.cost) > 1e-12 * std::fabs(cost)) return "the cost is not the sum of the choices";
  double bound = -std::numeric_limits<double>::infinity();
  const double scale = std::fabs(cost) / static_cast<double>(budget);
  for (double price = 1e-3 * scale; price < 1e3 * scale; price *= 1.3) {
    double relaxed = -price * static_cast<double>(budget); // Lagrange: a lower bound at every price
    for (const auto& choices : matrices) {
      double least = std::numeric_limits<double>::infinity();
      for (const allocation_choice& choice : choices) {
        least = std::min(least, choice.cost + price * static_cast<double>(choice.size));
      }
      relaxed += least;
    }
    bound = std::max(bound, relaxed);
  }
  if (bound > found.cost * (1 + 1e-9)) return "the cost is below a lower bound";
  if (bound > found.linear_bound * (1 + 1e-9)) return "the linear bound is not the largest";
  return {};
}

void time_allocate(benchmark::State& state, instance_kind kind, index_t matrices) {
  const instance choices = make_instance(kind, matrices);
  const index_t budget = budget_of(choices);
  const allocation found = allocate(choices, budget);
  const auto times = verify_then_time(
      state, [&] { return verify(choices, budget, found); }, 0,
      [&](int /*turn*/) { return allocate(choices, budget); });
  state.counters["gap_rel"] = found.gap_rel;
  state.counters["linear_gap_rel"] = (found.cost - found.linear_bound) / std::fabs(found.cost);
  state.counters["proven"] = found.is_proven ? 1 : 0;
  state.counters["nodes"] = static_cast<double>(found.num_nodes);
  report(state, times);
}

void time_cost_table(benchmark::State& state, index_t rows, index_t rank) {
  thread_pool threads;
  matrix<float> weight(rows, rows);
  for (index_t i = 0; i < weight.size(); ++i) weight.data()[i] = static_cast<float>(0.02 * normal_at(5, i));
  const matrix_view<const float> view = weight.view();
  const std::vector<compression_choice> choices = lq_lora_grid(std::vector<index_t>{rank});
  const auto check = [&]() -> std::string {
    const cost_table table = make_cost_table(view, choices, {}, {}, threads);
    if (table.entries.size() != choices.size()) return "choices are missing";
    if (rank > 0) return {};
    for (std::size_t i = 0; i < choices.size(); i += 71) {
      const double cost = quantization_cost(view, make_quantizer(choices[i]), {}, threads).frobenius;
      if (std::fabs(cost - table.entries[i].cost) > 1e-5 * cost) return "a cost is not the quantizer's error";
    }
    return {};
  };
  const auto times = verify_then_time(
      state, check, 0, [&](int /*turn*/) { return make_cost_table(view, choices, {}, {}, threads); });
  report(state, times);
  if (!times.is_empty()) {
    state.counters["ns_per_weight_and_choice"] =
        1e9 * times.median() / static_cast<double>(weight.size()) / static_cast<double>(choices.size());
  }
}

template <class Body>
void add_row(const std::string& name, Body body) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->UseManualTime()
      ->Iterations(timed_runs)
      ->Unit(benchmark::kMillisecond);
}

void register_rows() {
  constexpr std::pair<instance_kind, const char*> kinds[] = {{instance_kind::table, "table"},
                                                             {instance_kind::smooth, "smooth"},
                                                             {instance_kind::uncorrelated, "uncorrelated"},
                                                             {instance_kind::correlated, "correlated"},
                                                             {instance_kind::identical, "identical"}};
  for (const auto& [kind, name] : kinds) {
    for (const index_t rows : {100, 1000, 10000}) {
      add_row(sentence("allocate_rows/", name, "/Rows:", rows),
              [kind = kind, rows](benchmark::State& state) { time_allocate(state, kind, rows); });
    }
  }
  for (const index_t rows : {1024, 4096}) {
    for (const index_t rank : {0, 16}) {
      add_row(sentence("cost_table_rows/Rows:", rows, "/Rank:", rank),
              [rows, rank](benchmark::State& state) { time_cost_table(state, rows, rank); });
    }
  }
}

} // namespace

int main(int argc, char** argv) {
  register_rows();
  return run_program(argc, argv);
}
