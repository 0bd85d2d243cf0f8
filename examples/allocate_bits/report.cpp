// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <allocate_bits/report.hpp>

#include <common/text.hpp>

#include <qlr/version.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <map>

namespace {

using json = nlohmann::ordered_json;
using qlr::index_t;

double bits_of(index_t bytes, index_t weights) {
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
}

double relative(double squared_error, double energy) {
  return energy > 0 ? std::sqrt(squared_error / energy) : 0.0;
}

void add_choice(json& out, const qlr::compression_choice& choice) {
  const qlr::format_description& format = qlr::find_format(choice.quantizer);
  out["quantizer"] = choice.quantizer;
  out["bits"] = format.bits;
  out["group_size"] = choice.format.group_size.value_or(format.group_size);
  out["scale"] = to_string(choice.format.scales.value_or(format.scales));
  out["rank"] = choice.rank;
  switch (choice.factors) {
  case qlr::factor_storage::fp32:
    out["factor_bits"] = 32;
    break;
  case qlr::factor_storage::fp16:
    out["factor_bits"] = 16;
    break;
  case qlr::factor_storage::int8:
    out["factor_bits"] = 8;
    break;
  case qlr::factor_storage::int4:
    out["factor_bits"] = 4;
    break;
  }
}

void add_totals(json& out, const report& run, const totals& sums) {
  out["bytes"] = sums.bytes;
  out["bits_per_weight"] = bits_of(sums.bytes, run.num_weights);
  out["cost"] = sums.cost;
  out["squared_error"] = sums.squared_error;
  out["relative_error"] = relative(sums.squared_error, run.energy);
}

json to_json(const report& run) {
  json out;
  out["qlr_version"] = qlr::version_string;
  out["input"] = run.args.input;
  out["grid"] = run.args.grid;
  out["ranks"] = run.args.ranks;
  out["method"] = run.args.method.empty() ? json(nullptr) : json(run.args.method);
  out["cost_kind"] = run.args.cost;
  out["budget_bits_per_weight"] = run.args.budget;
  out["budget_bytes"] = run.budget_bytes;
  out["num_weights"] = run.num_weights;
  add_totals(out, run, run.sums);
  out["linear_bound"] = run.plan.linear_bound;
  out["lower_bound"] = run.plan.lower_bound;
  out["gap_rel"] = run.plan.gap_rel;
  out["is_proven"] = run.plan.is_proven;
  out["uniform"] = nullptr;
  if (run.uniform) {
    out["uniform"] = json::object();
    add_choice(out["uniform"], run.uniform->choice);
    add_totals(out["uniform"], run, run.uniform->sums);
  }
  out["tensors"] = json::array();
  for (std::size_t i = 0; i < run.tensors.size(); ++i) {
    const qlr::cost_table& table = run.tensors[i].table;
    const qlr::cost_entry& entry = run.chosen(i);
    json tensor{{"name", run.tensors[i].name}, {"rows", table.rows}, {"cols", table.cols}};
    add_choice(tensor, entry.choice);
    tensor["squared_error"] = entry.cost;
    tensor["relative_error"] = relative(entry.cost, table.energy);
    tensor["cost_weight"] = run.tensors[i].weight;
    tensor["bytes"] = entry.bytes;
    tensor["bits_per_weight"] = bits_of(entry.bytes, table.rows * table.cols);
    out["tensors"].push_back(std::move(tensor));
  }
  return out;
}

/// A name of a tensor that is not UTF-8 must not fail a run that is done.
std::string dump(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

} // namespace

std::optional<uniform_choice> find_uniform(const std::vector<tensor_costs>& tensors, index_t budget) {
  std::map<std::string, std::pair<uniform_choice, std::size_t>> found; // sums and the number of tensors
  for (const tensor_costs& tensor : tensors) {
    for (const qlr::cost_entry& entry : tensor.table.entries) {
      auto& [uniform, count] = found[to_string(entry.choice)];
      uniform.choice = entry.choice;
      uniform.sums.cost += tensor.weight * entry.cost;
      uniform.sums.squared_error += entry.cost;
      uniform.sums.bytes += entry.bytes;
      ++count;
    }
  }
  std::optional<uniform_choice> best;
  for (const auto& [name, candidate] : found) {
    const auto& [uniform, count] = candidate;
    if (count != tensors.size() || uniform.sums.bytes > budget) continue;
    if (!best || uniform.sums.cost < best->sums.cost) best = uniform;
  }
  return best;
}

void print_summary(const report& run) {
  std::printf("%-44s %11s  %-28s %8s  %8s\n", "tensor", "shape", "format", "bits", "error");
  for (std::size_t i = 0; i < run.tensors.size(); ++i) {
    const qlr::cost_table& table = run.tensors[i].table;
    const qlr::cost_entry& entry = run.chosen(i);
    std::printf("%-44s %11s  %-28s %8.4f  %8.6f\n", printable(run.tensors[i].name).c_str(),
                qlr::sentence(table.rows, " x ", table.cols).c_str(), to_string(entry.choice).c_str(),
                bits_of(entry.bytes, table.rows * table.cols), relative(entry.cost, table.energy));
  }
  const auto print = [&](const char* what, const totals& sums, const std::string& text) {
    std::printf("%-8s %10lld bytes, %.4f bits per weight, relative error %.6f, cost %.6g%s\n", what,
                static_cast<long long>(sums.bytes), bits_of(sums.bytes, run.num_weights),
                relative(sums.squared_error, run.energy), sums.cost, text.c_str());
  };
  std::printf("\n%lld weights, budget %lld bytes\n", static_cast<long long>(run.num_weights),
              static_cast<long long>(run.budget_bytes));
  print("plan", run.sums, "");
  if (run.uniform) print("uniform", run.uniform->sums, "  (" + to_string(run.uniform->choice) + ")");
  std::printf("linear bound %.9g, gap to it %.2e; %s, gap %.2e\n", run.plan.linear_bound,
              run.plan.cost != 0 ? (run.plan.cost - run.plan.linear_bound) / std::fabs(run.plan.cost) : 0.0,
              run.plan.is_proven ? "proven optimum" : "not proven", run.plan.gap_rel);
  std::printf("time         %.2f s costs, %.3f s search; %d threads\n", run.seconds_costs, run.seconds_search,
              run.threads);
}

std::string plan_json(const report& run) {
  return dump(to_json(run));
}

std::string report_json(const report& run) {
  json out = to_json(run);
  out["num_nodes"] = run.plan.num_nodes;
  out["threads"] = run.threads;
  out["seconds_costs"] = run.seconds_costs;
  out["seconds_search"] = run.seconds_search;
  return dump(out);
}
