// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <quantize_adapter/arguments.hpp>

#include <common/command_line.hpp>

#include <qlr/version.hpp>

#include <array>
#include <string_view>

namespace {

/// What is parsed as text and checked afterwards.
struct names {
  std::string refine = "none";
  std::string split = "reaches";
  std::string range = "searched";
  std::string scale = "bf16";
};

void add_options(CLI::App& app, arguments& args, names& text) {
  qlr::adapter_options& options = args.options;
  app.set_version_flag("--version", std::string("qlr ") + qlr::version_string);
  app.add_option("INPUT", args.input, "adapter of PEFT: adapter_model.safetensors or its folder")->required();
  app.add_option("--high-bits", options.high_bits, "of the leading singular pairs, 1 to 8; the others have 1")
      ->capture_default_str();
  app.add_option("--ratio", options.ratio, "share of the squared singular values that get them, 0 to 1")
      ->capture_default_str();
  app.add_option("--group-size", options.group_size, "elements per scale along a vector; 0 = per vector")
      ->capture_default_str();
  app.add_option("--scale", text.scale, "storage of the scales: fp32 | fp16 | bf16")->capture_default_str();
  app.add_option("--split", text.split, "reaches (the ratio) | before (one pair fewer, the authors' code)")
      ->capture_default_str();
  app.add_option("--range", text.range, "searched | extended (includes 0) | tight (the authors' code)")
      ->capture_default_str();
  app.add_option("--refine", text.refine, "none | sgd (the paper's, 300 steps) | als (least squares)")
      ->capture_default_str();
  app.add_option("--output", args.output, "write the packed adapter (.safetensors)");
  app.add_option("--peft", args.peft, "write what it decodes to as an adapter of PEFT into this folder");
  app.add_option("--peft-type", args.peft_type, "of its tensors: fp16 | fp32")->capture_default_str();
  app.add_option("--json", args.json, "write the report; - is standard output and prints nothing else");
  app.add_option("--threads", args.threads, "0 = all; results do not depend on it")->capture_default_str();
  app.add_flag("--quiet", args.quiet, "no table");
}

/// The value that belongs to a name.
template <class Enum, std::size_t Count>
Enum choose(std::string_view option, std::string_view name,
            const std::array<std::string_view, Count>& allowed, const std::array<Enum, Count>& values) {
  require_one_of(option, name, allowed);
  for (std::size_t i = 0; i < Count; ++i) {
    if (allowed[i] == name) return values[i];
  }
  return values[0];
}

} // namespace

arguments parse_arguments(int argc, char** argv) {
  using qlr::adapter_range;
  using qlr::adapter_refinement;
  using qlr::adapter_split;
  using text_pair = std::array<std::string_view, 2>;
  using text_triple = std::array<std::string_view, 3>;
  arguments result;
  names text;
  CLI::App app{"Quantizes the pairs L R of a LoRA adapter in mixed precision (LoRAQuant, arXiv 2510.26690)."};
  add_options(app, result, text);
  parse(app, argc, argv);
  if (result.json == "-") result.quiet = true;
  qlr::adapter_options& options = result.options;
  options.refinement =
      choose("refine", text.refine, text_triple{"none", "sgd", "als"},
             std::array{adapter_refinement::none, adapter_refinement::sgd, adapter_refinement::als});
  options.split = choose("split", text.split, text_pair{"reaches", "before"},
                         std::array{adapter_split::reaches, adapter_split::before});
  options.range = choose("range", text.range, text_triple{"searched", "extended", "tight"},
                         std::array{adapter_range::searched, adapter_range::extended, adapter_range::tight});
  options.scales = choose("scale", text.scale, text_triple{"fp32", "fp16", "bf16"},
                          std::array{qlr::scale_type::fp32, qlr::scale_type::fp16, qlr::scale_type::bf16});
  require_one_of("peft-type", result.peft_type, text_pair{"fp16", "fp32"});
  check_threads(result.threads);
  qlr::validate(options);
  return result;
}

const char* to_string(qlr::adapter_refinement refinement) {
  switch (refinement) {
  case qlr::adapter_refinement::none:
    return "none";
  case qlr::adapter_refinement::sgd:
    return "sgd";
  case qlr::adapter_refinement::als:
    return "als";
  }
  return "";
}
