// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/arguments.hpp>

#include <array>
#include <string_view>

namespace {

void add_options(CLI::App& app, arguments& args) {
  app.add_option("INPUT_DIR", args.input,
                 "folder with model.safetensors or model.safetensors.index.json; it is never written")
      ->required();
  app.add_option("OUTPUT_DIR", args.output, "folder to write, made where it is missing")->required();
  app.add_option("--store", args.store,
                 "qlr: one layout for every method | bitsandbytes: 4-bit state dict and a PEFT adapter | "
                 "gguf: model and adapter for llama.cpp | svdquant: qweight, wscales, proj_down, proj_up, "
                 "smooth_factor")
      ->capture_default_str();
  app.add_option("--include", args.include,
                 "regular expression, found anywhere in the name of a tensor to compress; may be repeated "
                 "(default: every matrix named *.weight but embeddings and heads)")
      ->allow_extra_args(false);
  app.add_option("--exclude", args.exclude, "regular expression of tensors that stay as they are")
      ->allow_extra_args(false);
  app.add_flag("--list", args.list, "print what would be compressed and what kept, and stop");
  CLI::Option* const plan =
      app.add_option("--plan", args.plan, "format and rank of every layer, as allocate_bits writes them");
  add_decomposition_options(app, args, "of the randomized SVD");
  for (const char* const name : {"--quantizer", "--group-size", "--scale", "--factor-bits", "--rank"}) {
    plan->excludes(app.get_option(name)); // the plan says so
  }
  app.add_option(
      "--calibration", args.calibration,
      "folder with NAME.safetensors or NAME.npy for tensors, as decompose_matrix takes them, or an "
      "importance matrix (.gguf, .dat, .imatrix)");
  app.add_option("--gguf-vocabulary", args.gguf_vocabulary,
                 "gguf: a file of the same model whose tokenizer is copied (default: none)");
  app.add_option(
      "--spectrum", args.spectrum,
      "singular values of every matrix for the report, by a randomized SVD (default: those of L R)");
  app.add_flag("--one-file", args.one_file, "write one model.safetensors, whatever the shards of the input");
  app.add_flag("--resume", args.resume, "go on where an earlier run with the same options ended");
  app.add_option("--json", args.json, "write the report here too; - is standard output and implies --quiet");
  app.add_flag("--quiet", args.quiet, "no table, no progress");
}

/// What the output format holds, unless something else is asked for.
void set_usual_format(arguments& args) {
  if (!args.quantizer.empty() || args.store == "qlr") return;
  args.quantizer = args.store == "gguf" ? "q4_0" : args.store == "svdquant" ? "int4" : "nf4";
  if (args.store == "svdquant" && args.scale.empty()) args.scale = "bf16";
}

} // namespace

arguments parse_arguments(int argc, char** argv) {
  arguments result;
  CLI::App app{"Compresses the linear layers of a checkpoint, W ~= Q + L R, one matrix at a time, and writes "
               "what engines load."};
  add_options(app, result);
  parse(app, argc, argv);
  if (result.json == "-") result.quiet = true;
  constexpr auto stores = std::to_array<std::string_view>({"qlr", "bitsandbytes", "gguf", "svdquant"});
  require_one_of("store", result.store, stores);
  set_usual_format(result);
  check_decomposition_arguments(result);
  qlr::require(result.rank >= 0, qlr::status_code::invalid_argument, "rank is ", result.rank,
               ", allowed are 0 and above");
  qlr::require(result.spectrum >= 0, qlr::status_code::invalid_argument, "spectrum is ", result.spectrum,
               ", allowed are 0 and above");
  qlr::require(result.gguf_vocabulary.empty() || result.store == "gguf", qlr::status_code::invalid_argument,
               "--gguf-vocabulary is '", result.gguf_vocabulary, "', it needs --store gguf");
  return result;
}
