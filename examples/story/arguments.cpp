// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <story/arguments.hpp>

#include <qlr/decompose/presets.hpp>

#include <array>
#include <string_view>
#include <vector>

namespace {

/// What is parsed as text and checked afterwards.
struct names {
  std::string precision = "exact";
  std::string isa;
};

void add_options(CLI::App& app, arguments& args, names& text) {
  app.add_option("MODEL", args.model,
                 "checkpoint of a Llama model, .safetensors or a folder; a compressed one runs as it is")
      ->required();
  app.add_option("--tokenizer", args.tokenizer, "its tokenizer in the format of llama2.c (.bin)")->required();
  add_decomposition_options(app, args, "of the sampled text and of the randomized SVD");
  app.get_option("--method")->description("none (weights as they are), or see below");
  CLI::Option* const plan = app.add_option(
      "--plan", args.plan, "format and rank of every layer, as allocate_bits writes them (JSON)");
  for (const char* const name : {"--quantizer", "--group-size", "--scale", "--factor-bits", "--rank"}) {
    plan->excludes(app.get_option(name)); // the plan says so
  }
  app.add_option("--sensitivity", args.sensitivity,
                 "write how much an error of each layer matters, for allocate_bits --weights (JSON)");
  app.add_option("--temperature", args.temperature, "0 = the likeliest token; else of the softmax")
      ->capture_default_str();
  app.add_option("--tokens", args.tokens, "to generate (default: 256, or what the context leaves)");
  app.add_option("--prompt", args.prompt, "how the text begins");
  app.add_flag("--evaluate", args.evaluate,
               "compare with the uncompressed model: perplexity, KL divergence, top-1 agreement");
  app.add_option("--reference", args.reference,
                 "for a compressed MODEL: the one to compare with, which it was made from");
  app.add_option("--precision", text.precision, "exact | bf16 | int8: of the fused product")
      ->capture_default_str();
  app.add_option("--isa", text.isa, "scalar | avx2 | avx512 | avx512_vnni (default: the fastest)");
  app.add_option("--json", args.json, "write the report; - is standard output and prints nothing else");
  app.add_flag("--quiet", args.quiet, "print the text only");
}

/// The first option given that makes no sense for a model that is compressed already.
std::string find_compression_option(const CLI::App& app) {
  for (const char* const name :
       {"--method", "--quantizer", "--group-size", "--scale", "--scale-search", "--factor-bits", "--rank",
        "--iterations", "--svd", "--plan", "--sensitivity"}) {
    if (app.get_option(name)->count() > 0) return name;
  }
  return {};
}

void check_method(arguments& args) {
  std::vector<std::string_view> methods{"none"};
  for (const qlr::preset& method : qlr::presets) methods.push_back(method.name);
  require_one_of("method", args.method, methods);
  if (args.is_compressed()) return check_decomposition_arguments(args);
  check_threads(args.threads);
}

} // namespace

arguments parse_arguments(int argc, char** argv) {
  arguments result;
  result.rank = 4;
  names text;
  CLI::App app{"Compresses the linear layers of a small Llama model, W ~= Q + L R, and lets it tell a story "
               "straight from the packed codes."};
  add_options(app, result, text);
  parse(app, argc, argv);
  result.compression_option = find_compression_option(app);
  if (result.json == "-") result.quiet = true;
  check_method(result);
  qlr::require(result.is_compressed() || (result.plan.empty() && result.sensitivity.empty()),
               qlr::status_code::invalid_argument, "method is 'none', --plan and --sensitivity need another");
  qlr::require(result.reference.empty() || result.evaluate, qlr::status_code::invalid_argument,
               "reference is '", result.reference, "', it needs --evaluate");
  result.mode = qlr::parse_precision(text.precision);
  result.instruction_set = text.isa.empty() ? qlr::default_isa() : qlr::parse_isa(text.isa);
  qlr::require_available(result.instruction_set);
  qlr::require(qlr::is_finite(result.temperature) && result.temperature >= 0,
               qlr::status_code::invalid_argument, "temperature is ", result.temperature,
               ", allowed are 0 and finite numbers above");
  qlr::require(result.tokens.value_or(0) >= 0, qlr::status_code::invalid_argument, "tokens is ",
               result.tokens.value_or(0), ", allowed are 0 and above");
  return result;
}
