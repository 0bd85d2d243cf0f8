// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Chooses format and rank of every weight matrix of a checkpoint so that the total error is least within a
// budget of bits; --help tells the rest.
#include <allocate_bits/arguments.hpp>
#include <allocate_bits/costs.hpp>
#include <allocate_bits/report.hpp>
#include <common/output.hpp>
#include <common/program.hpp>

#include <qlr/allocate/knapsack.hpp>

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Fills in what the tables say before a plan is made.
void add_sizes(report& run) {
  for (const tensor_costs& tensor : run.tensors) {
    run.num_weights += tensor.table.rows * tensor.table.cols;
    run.energy += tensor.table.energy;
  }
  run.budget_bytes =
      static_cast<qlr::index_t>(std::floor(run.args.budget * static_cast<double>(run.num_weights) / 8.0));
}

void check_budget(const report& run) {
  qlr::index_t smallest = 0;
  for (const tensor_costs& tensor : run.tensors) {
    qlr::index_t least = tensor.table.entries.front().bytes;
    for (const qlr::cost_entry& entry : tensor.table.entries) least = std::min(least, entry.bytes);
    smallest += least;
  }
  qlr::require(smallest <= run.budget_bytes, qlr::status_code::invalid_argument, "budget is ",
               run.args.budget, " bits per weight, the smallest possible is ",
               8.0 * static_cast<double>(smallest) / static_cast<double>(run.num_weights));
}

void make_plan(report& run) {
  std::vector<std::vector<qlr::allocation_choice>> choices;
  for (const tensor_costs& tensor : run.tensors) {
    choices.push_back(qlr::to_allocation_choices(tensor.table, tensor.weight));
  }
  check_budget(run);
  run.plan = qlr::allocate(choices, run.budget_bytes, {.gap_rel = run.args.gap});
  run.sums.cost = run.plan.cost;
  run.sums.bytes = run.plan.size;
  for (std::size_t i = 0; i < run.tensors.size(); ++i) run.sums.squared_error += run.chosen(i).cost;
}

void run(const arguments& args) {
  check_tensors(args);
  check_outputs({args.output, args.json == "-" ? "" : args.json});
  qlr::thread_pool pool(args.threads);
  const qlr::executor threads(pool);
  auto start = std::chrono::steady_clock::now();
  const std::vector<tensor_costs> tensors = measure_costs(args, threads);
  report result{args, tensors};
  result.threads = pool.num_threads();
  result.seconds_costs = seconds_since(start);
  start = std::chrono::steady_clock::now();
  add_sizes(result);
  make_plan(result);
  result.uniform = find_uniform(tensors, result.budget_bytes);
  result.seconds_search = seconds_since(start);
  if (!args.quiet) print_summary(result);
  if (!args.output.empty()) write_text(args.output, plan_json(result));
  if (!args.json.empty()) write_text(args.json, report_json(result));
}

} // namespace

int main(int argc, char** argv) {
  return run_program("allocate_bits", [&] { run(parse_arguments(argc, argv)); });
}
