// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <merge_adapter/arguments.hpp>

#include <common/command_line.hpp>

#include <qlr/version.hpp>

#include <array>
#include <string_view>

namespace {

/// What is parsed as it is given and checked afterwards.
struct given_options {
  std::string scales = "best";
  std::optional<int> factor_bits;
  std::optional<double> largest_error;
  bool concatenate = false;
};

void add_options(CLI::App& app, arguments& args, given_options& given) {
  app.set_version_flag("--version", std::string("qlr ") + qlr::version_string);
  app.add_option("BASE", args.base, "decomposition (.safetensors), or checkpoint with compressed weights")
      ->required();
  app.add_option("ADAPTER", args.adapter, "adapter of PEFT: adapter_model.safetensors or its folder")
      ->required();
  app.add_option("--module", args.module, "which pair of the adapter; not needed where it has one");
  app.add_option("--weight", args.weight, "which weight of a checkpoint; MODULE.weight without it");
  app.add_flag("--concatenate", given.concatenate, "put the pair beside L and R, without loss (default)");
  app.add_flag("--merge", args.merge, "put it into the codes of Q, refused where too much is lost");
  app.add_option("--factor-bits", given.factor_bits,
                 "of L and R with --concatenate: 32 | 16 | 8 | 4; without it as many as lose nothing");
  app.add_option("--scales", given.scales, "of Q with --merge: kept | refitted | best (of both)")
      ->capture_default_str();
  app.add_option("--largest-error", given.largest_error,
                 "relative error of the adapter that --merge accepts [0.1]");
  app.add_flag("--force", args.options.allow_loss, "merge whatever is lost");
  app.add_option("--output", args.output, "write the decomposition (.safetensors)");
  app.add_option("--json", args.json, "write the report; - is standard output and prints nothing else");
  app.add_option("--threads", args.threads, "0 = all; results do not depend on it")->capture_default_str();
  app.add_flag("--quiet", args.quiet, "no table");
}

/// Options that only one of the two ways has.
void check_way(const arguments& args, const given_options& given) {
  constexpr auto refused = qlr::status_code::invalid_argument;
  qlr::require(!(given.concatenate && args.merge), refused,
               "--concatenate and --merge are given, allowed is one of them");
  qlr::require(!args.merge || !given.factor_bits, refused,
               "--factor-bits is given with --merge, which leaves L and R as they are");
  const bool has_merge_option = args.options.allow_loss || given.largest_error || given.scales != "best";
  qlr::require(args.merge || !has_merge_option, refused,
               "--force, --largest-error or --scales is given without --merge, which they belong to");
  qlr::require(!given.largest_error || *given.largest_error >= 0, refused, "largest-error is ",
               given.largest_error.value_or(0), ", allowed are 0 and above");
}

} // namespace

arguments parse_arguments(int argc, char** argv) {
  using qlr::merge_scales;
  arguments result;
  given_options given;
  CLI::App app{"Adds a pair of a LoRA adapter to a quantized weight: beside its factors, or into its codes."};
  add_options(app, result, given);
  parse(app, argc, argv);
  if (result.json == "-") result.quiet = true;
  check_way(result, given);
  require_one_of("scales", given.scales, std::array<std::string_view, 3>{"kept", "refitted", "best"});
  for (const merge_scales scales : {merge_scales::kept, merge_scales::refitted, merge_scales::best}) {
    if (given.scales == qlr::to_string(scales)) result.options.scales = scales;
  }
  if (given.factor_bits) result.storage = qlr::factor_storage_of_bits(*given.factor_bits);
  if (given.largest_error) result.options.largest_error = *given.largest_error;
  check_threads(result.threads);
  return result;
}
