// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/cost_table.hpp>

#include <qlr/allocate/knapsack.hpp>

#include <support/catch.hpp>
#include <support/decompose.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

schedule one_step() {
  schedule steps = find_preset("lq-lora").steps;
  steps.iterations = 1;
  return steps;
}

/// What decompose() makes of a choice.
decompose_result realise(const matrix<float>& w, const compression_choice& choice, const schedule& steps,
                         const metric& weights = {}) {
  decompose_options options;
  options.rank = choice.rank;
  options.steps = steps;
  options.svd = svd_method::exact;
  options.factors = choice.factors;
  return decompose(w.view(), make_quantizer(choice), options, weights);
}

cost_table table_of(const matrix<float>& w, const std::vector<compression_choice>& choices,
                    const metric& weights = {}, const executor& run = {}) {
  return make_cost_table(w.view(), choices, {svd_method::exact, {}}, weights, run);
}

/// A few of every kind: shared and unshared formats, ranks, storages of factors.
std::vector<compression_choice> mixed_choices() {
  std::vector<compression_choice> choices;
  for (const index_t rank : {0, 2, 5}) {
    for (const factor_storage factors : {factor_storage::fp32, factor_storage::fp16, factor_storage::int8}) {
      choices.push_back({"nf2", {16, double_quantized(2, scale_type::bf16, 16), false}, rank, factors});
      choices.push_back({"nf3", {16, double_quantized(8, scale_type::fp32, 64), false}, rank, factors});
      choices.push_back({"nf8", {16, double_quantized(8, scale_type::fp32, 64), false}, rank, factors});
      choices.push_back({"nf4", {}, rank, factors});
      choices.push_back({"nf4", {32, {}, true}, rank, factors});
      choices.push_back({"int3", {32, {}, false}, rank, factors});
      choices.push_back({"mxfp4", {}, rank, factors});
      choices.push_back({"uint2", {group_per_tensor, {}, false}, rank, factors});
    }
  }
  return choices;
}

void check_realised(const matrix<float>& w, const metric& weights) {
  const std::vector<compression_choice> choices = mixed_choices();
  const cost_table table = table_of(w, choices, weights);
  CHECK((table.rows == w.rows() && table.cols == w.cols()));
  REQUIRE(table.entries.size() == choices.size());
  for (const cost_entry& entry : table.entries) {
    CAPTURE(to_string(entry.choice), to_string(entry.choice.factors));
    const decompose_result found = realise(w, entry.choice, one_step(), weights);
    CHECK(found.best.storage_bytes() == entry.bytes);
    CHECK(found.best.quantized.layout().storage_bytes() == entry.quantized_bytes);
    const double cost = found.weighted_error * found.weighted_error * table.energy;
    // An SVD of another rank differs in the last bits, which moves a few codes across a threshold.
    CHECK(is_near(entry.cost, cost, 2e-3 * cost));
  }
}

} // namespace

TEST_CASE("cost_table: decompose realises every choice at its size and cost", "[host][allocate]") {
  const matrix<float> w = weight_like_matrix(40, 96, 7);
  check_realised(w, {});
  matrix<float> fisher(40, 96);
  for (index_t i = 0; i < fisher.size(); ++i)
    fisher.data()[i] = 0.1F + std::fabs(w.data()[(7 * i) % w.size()]);
  check_realised(w, make_fisher_metric(fisher.view(), 40, 96));
}

TEST_CASE("cost_table: costs are squared errors of the dense sum", "[host][allocate]") {
  const matrix<float> w = weight_like_matrix(24, 64, 9);
  const std::vector<compression_choice> choices{
      {"nf3", {16, double_quantized(), false}, 3, factor_storage::fp32},
      {"nf3", {16, double_quantized(), false}, 0}};
  const cost_table table = table_of(w, choices);
  for (const cost_entry& entry : table.entries) {
    const decomposition parts = realise(w, entry.choice, one_step()).best;
    const double error = squared_error(w, reconstruct(parts));
    CHECK(is_near(entry.cost, error, 1e-4 * error)); // float sums of L R
  }
  CHECK(is_near(table.energy, squared_error(w, matrix<float>(24, 64, 0.0F)), 1e-12 * table.energy));
}

TEST_CASE("cost_table: further iterations cost no more than the table says", "[host][allocate]") {
  const matrix<float> w = weight_like_matrix(48, 64, 10);
  const std::vector<compression_choice> choices = small_grid(std::vector<index_t>{0, 4});
  const cost_table table = table_of(w, choices);
  for (const cost_entry& entry : table.entries) {
    CAPTURE(to_string(entry.choice));
    const decompose_result found = realise(w, entry.choice, find_preset("lq-lora").steps);
    CHECK(found.best.storage_bytes() == entry.bytes);
    CHECK(found.weighted_error * found.weighted_error * table.energy <= 1.002 * entry.cost);
  }
}

TEST_CASE("cost_table: the full table is what decompose reaches", "[host][allocate]") {
  const matrix<float> w = weight_like_matrix(24, 64, 12);
  const std::vector<compression_choice> choices = small_grid(std::vector<index_t>{3});
  const schedule steps = find_preset("loftq").steps;
  const cost_table table = make_full_cost_table(w.view(), choices, steps, {svd_method::exact, {}});
  const cost_table fast = table_of(w, choices);
  REQUIRE(table.entries.size() == choices.size());
  CHECK(table.energy == fast.energy);
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const decompose_result found = realise(w, choices[i], steps);
    CHECK(table.entries[i].cost == found.weighted_error * found.weighted_error * table.energy);
    CHECK(table.entries[i].bytes == found.best.storage_bytes());
    CHECK(table.entries[i].bytes == fast.entries[i].bytes);
    CHECK(table.entries[i].quantized_bytes == fast.entries[i].quantized_bytes);
  }
}

TEST_CASE("cost_table: equal sizes are merged into the cheaper one", "[host][allocate]") {
  const matrix<float> w = weight_like_matrix(32, 128, 13);
  const std::vector<compression_choice> choices = lq_lora_grid(std::vector<index_t>{0});
  cost_table table = table_of(w, choices);
  REQUIRE(table.entries.size() == 432);
  const cost_table all = table;
  merge_equal_sizes(table);
  CHECK(table.entries.size() <= 288);
  std::set<index_t> sizes;
  for (const cost_entry& entry : table.entries) CHECK(sizes.insert(entry.bytes).second);
  for (const cost_entry& entry : all.entries) {
    double least = std::numeric_limits<double>::infinity();
    for (const cost_entry& kept : table.entries) {
      if (kept.bytes == entry.bytes) least = kept.cost;
    }
    CHECK(least <= entry.cost);
  }
}

TEST_CASE("cost_table: an allocation over two matrices is realised within the budget", "[host][allocate]") {
  const std::vector<matrix<float>> weights{weight_like_matrix(32, 64, 14), weight_like_matrix(16, 128, 15)};
  std::vector<cost_table> tables;
  std::vector<std::vector<allocation_choice>> choices;
  for (const matrix<float>& w : weights) {
    tables.push_back(table_of(w, lq_lora_grid(std::vector<index_t>{0, 2})));
    choices.push_back(to_allocation_choices(tables.back()));
  }
  constexpr index_t budget = 2 * 32 * 64 * 3 / 8; // 3 bits per weight
  const allocation plan = allocate(choices, budget);
  CHECK(plan.is_proven);
  index_t bytes = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const cost_entry& entry = tables[i].entries[static_cast<std::size_t>(plan.chosen[i])];
    bytes += realise(weights[i], entry.choice, one_step()).best.storage_bytes();
  }
  CHECK(bytes == plan.size);
  CHECK(bytes <= budget);
  CHECK(to_allocation_choices(tables[0], 3.0)[5].cost == 3.0 * tables[0].entries[5].cost);
}

TEST_CASE("cost_table: zeros, one element, one row, double weights", "[host][allocate]") {
  const std::vector<compression_choice> narrow{{"nf4", {1, double_quantized(), false}, 0},
                                               {"nf4", {group_per_row, double_quantized(), false}, 1}};
  const cost_table zeros = table_of(matrix<float>(3, 5, 0.0F), narrow);
  CHECK((zeros.energy == 0.0 && zeros.entries[0].cost == 0.0 && zeros.entries[1].cost == 0.0));
  const cost_table one = table_of(matrix<float>(1, 1, 0.7F), narrow);
  CHECK(one.entries[0].cost == 0.0);
  CHECK(one.entries[1].cost < 1e-6);
  CHECK(table_of(weight_like_matrix(1, 9, 1), narrow).entries.size() == 2);
  const matrix<float> w = weight_like_matrix(6, 32, 2);
  matrix<double> wide(6, 32);
  std::copy_n(w.data(), w.size(), wide.data());
  CHECK(table_of(w, narrow).entries[1].cost ==
        make_cost_table(std::as_const(wide).view(), narrow, {svd_method::exact, {}}).entries[1].cost);
}

TEST_CASE("cost_table: what fp16 scales cannot hold is left out", "[host][allocate]") {
  const matrix<float> w = scaled(weight_like_matrix(8, 64, 3), 0x1p30F);
  const cost_table table = table_of(w, lq_lora_grid(std::vector<index_t>{0}));
  CHECK(table.entries.size() == 288);
  for (const cost_entry& entry : table.entries) CHECK(entry.choice.format.scales->type != scale_type::fp16);
}

TEST_CASE("cost_table: refuses choices that the matrix does not suit", "[host][allocate]") {
  const matrix<float> w = weight_like_matrix(8, 48, 4);
  const auto refuse = [&](const std::vector<compression_choice>& choices, status_code code,
                          const char* part) {
    const report caught = report_of([&] { (void)table_of(w, choices); });
    CAPTURE(caught.message, part);
    CHECK(caught.says(code, part));
  };
  refuse({}, status_code::invalid_argument, "choices is empty");
  refuse({{"nf4", {64, {}, false}}}, status_code::invalid_argument, "group_size is 64");
  refuse({{"nf5", {}}}, status_code::invalid_argument, "quantizer is 'nf5'");
  refuse({{"nf4", {}, 0}, {"nf4", {}, 9}, {"nf4", {}, 3}}, status_code::invalid_argument, "rank is 9");
  refuse({{"nf4", {}, 0}, {"nf4", {}, -1}}, status_code::invalid_argument, "rank is -1");
  matrix<float> bad = w;
  bad(3, 4) = std::numeric_limits<float>::quiet_NaN();
  CHECK(report_of([&] {
          (void)table_of(bad, {{"nf4", {16, {}, false}}});
        }).says(status_code::non_finite, "weight(3, 4) is nan"));
}

TEST_CASE("threads: cost tables do not depend on them", "[host][allocate][threads]") {
  thread_pool three(3);
  const matrix<float> w = weight_like_matrix(96, 1500, 21);
  const std::vector<compression_choice> choices = small_grid(std::vector<index_t>{0, 4});
  const cost_table alone = make_cost_table(w.view(), choices);
  const cost_table shared = make_cost_table(w.view(), choices, {}, {}, three);
  for (std::size_t i = 0; i < choices.size(); ++i) CHECK(alone.entries[i].cost == shared.entries[i].cost);
}
