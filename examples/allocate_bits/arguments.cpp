// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <allocate_bits/arguments.hpp>

#include <qlr/decompose/presets.hpp>
#include <qlr/version.hpp>

#include <array>
#include <string_view>

namespace {

void add_options(CLI::App& app, arguments& args) {
  app.set_version_flag("--version", std::string("qlr ") + qlr::version_string);
  app.add_option("INPUT", args.input, "checkpoint (.safetensors)")->required();
  app.add_option("--budget", args.budget, "bits per weight of all tensors together, scales, L and R included")
      ->required();
  app.add_option("--ranks", args.ranks, "ranks to choose from, such as 0,4,8")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--grid", args.grid,
                 "lq-lora: 432 formats of 2 to 8.6 bits for each rank | small: 12 of them")
      ->capture_default_str();
  app.add_option("--factor-bits", args.factor_bits, "storage of L and R: 32, 16, 8 or 4")
      ->capture_default_str();
  app.add_option(
      "--method", args.method,
      "measure every choice with a whole decomposition by this method, such as best (slow; default: one "
      "SVD of each tensor for all its choices)");
  app.add_option("--cost", args.cost,
                 "absolute: the sum of squared errors | relative: each divided by the tensor's squared norm")
      ->capture_default_str();
  app.add_option("--weights", args.weights,
                 "JSON object: tensor names and numbers that their costs are multiplied with");
  app.add_option("--fisher", args.fisher,
                 ".safetensors with a Fisher matrix of the same name for every tensor");
  app.add_option("--tensors", args.tensors,
                 "names of the tensors, * stands for any text (default: all 2-D ones)")
      ->delimiter(',');
  app.add_option("--exclude", args.exclude, "names of tensors that are left alone, such as '*embed*'")
      ->delimiter(',');
  app.add_option("--gap", args.gap, "stop this close to the optimum, relative; 0 = the optimum")
      ->capture_default_str();
  app.add_option("--svd", args.svd, "exact | randomized")->capture_default_str();
  app.add_option("--seed", args.seed, "of the randomized SVD")->capture_default_str();
  app.add_option("--threads", args.threads, "0 = all; results do not depend on it")->capture_default_str();
  app.add_option("--output", args.output, "write the plan (JSON)");
  app.add_option("--json", args.json, "write the report; - is standard output and implies --quiet");
  app.add_flag("--quiet", args.quiet, "no table, no progress");
}

} // namespace

arguments parse_arguments(int argc, char** argv) {
  arguments result;
  CLI::App app{
      "Chooses format and rank of every weight matrix of a checkpoint so that the error is least within a "
      "budget of bits."};
  add_options(app, result);
  parse(app, argc, argv);
  if (result.json == "-") result.quiet = true;
  constexpr auto grids = std::to_array<std::string_view>({"lq-lora", "small"});
  constexpr auto costs = std::to_array<std::string_view>({"absolute", "relative"});
  constexpr auto svd_names = std::to_array<std::string_view>({"exact", "randomized"});
  require_one_of("grid", result.grid, grids);
  require_one_of("cost", result.cost, costs);
  require_one_of("svd", result.svd, svd_names);
  if (!result.method.empty()) (void)qlr::find_preset(result.method);
  (void)qlr::factor_storage_of_bits(result.factor_bits);
  check_threads(result.threads);
  qlr::require(result.budget > 0 && result.budget <= 64, qlr::status_code::invalid_argument, "budget is ",
               result.budget, ", allowed are more than 0 and at most 64 bits per weight");
  qlr::require(result.gap >= 0 && qlr::is_finite(result.gap), qlr::status_code::invalid_argument, "gap is ",
               result.gap, ", allowed are 0 and finite numbers above");
  for (const qlr::index_t rank : result.ranks) {
    qlr::require(rank >= 0, qlr::status_code::invalid_argument, "rank is ", rank,
                 ", allowed are 0 and above");
  }
  return result;
}
