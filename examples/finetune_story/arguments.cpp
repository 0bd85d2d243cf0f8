// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/arguments.hpp>

#include <common/command_line.hpp>

#include <qlr/version.hpp>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

namespace {

using qlr::index_t;

/// What is parsed as text and checked afterwards.
struct names {
  std::string storage = "fp32";
};

std::string method_help() {
  std::string text = "\nMethods:\n";
  for (const training_method& method : training_methods) {
    text += qlr::sentence("  ", std::string(method.name).append(12 - method.name.size(), ' '), method.summary,
                          '\n');
  }
  return text;
}

void add_text_options(CLI::App& app, arguments& args) {
  app.add_option("--task", args.task, "shifted (one name replaced by another) | plain (as the model writes)")
      ->capture_default_str();
  app.add_option("--name", args.texts.name, "that all stories mention")->capture_default_str();
  app.add_option("--new-name", args.texts.new_name, "what the shifted task calls it")->capture_default_str();
  app.add_option("--length", args.texts.length, "tokens of a text")->capture_default_str();
  app.add_option("--texts", args.texts.num_training, "texts to learn from")->capture_default_str();
  app.add_option("--held-out", args.texts.num_held_out, "texts that losses are measured on")
      ->capture_default_str();
  app.add_option("--text-seed", args.texts.seed, "of the texts")->capture_default_str();
}

void add_training_options(CLI::App& app, arguments& args, names& text) {
  app.add_option("--methods", args.methods, "see below, with commas (default: all)")->delimiter(',');
  app.add_option("--bits", args.bits, "2, 3, 4, with commas (default: all)")->delimiter(',');
  app.add_option("--seeds", args.num_seeds, "runs of each, with other batches and other random starts")
      ->capture_default_str();
  app.add_option("--steps", args.training.num_steps, "of every run")->capture_default_str();
  app.add_option("--batch", args.training.batch_sequences, "texts per step")->capture_default_str();
  app.add_option("--evaluate-every", args.training.evaluation_interval, "steps")->capture_default_str();
  app.add_option("--rank", args.training.layers.rank, "of the low-rank parts")->capture_default_str();
  app.add_option("--group-size", args.training.layers.group_size, "elements per scale; 0 = per row")
      ->capture_default_str();
  app.add_option("--storage", text.storage, "fp32 | bf16: of the parameters")->capture_default_str();
  app.add_option("--learning-rate-factor", args.training.learning_rate_factor,
                 "times the learning rate of each method")
      ->capture_default_str();
  app.add_flag("--from-scratch", args.from_scratch,
               "train a model of random weights, norms and embedding included, on the plain task");
}

void add_other_options(CLI::App& app, arguments& args) {
  app.add_option("--threads", args.threads, "0 = all; results do not depend on it")->capture_default_str();
  app.add_option("--output", args.output, "folder for the curves of the losses (SVG), one file per bits");
  app.add_option("--state", args.state, "folder for the states of all runs; runs found there go on");
  app.add_option("--save-every", args.save_interval, "steps between two saved states")->capture_default_str();
  app.add_option("--json", args.json, "write the report; - is standard output and prints nothing else");
  app.add_flag("--quiet", args.quiet, "no table, no progress");
  app.set_version_flag("--version", std::string("qlr ") + qlr::version_string);
  app.footer(&method_help);
}

void check_range(std::string_view name, index_t value, index_t low, index_t high) {
  qlr::require(value >= low && value <= high, qlr::status_code::invalid_argument, name, " is ", value,
               ", allowed are ", low, " to ", high);
}

void check_lists(arguments& args) {
  if (args.methods.empty()) {
    for (const training_method& method : training_methods) args.methods.emplace_back(method.name);
  }
  std::set<std::string> seen;
  for (const std::string& name : args.methods) {
    (void)find_training_method(name);
    qlr::require(seen.insert(name).second, qlr::status_code::invalid_argument, "method '", name,
                 "' is given twice");
  }
  qlr::require(!args.bits.empty(), qlr::status_code::invalid_argument, "bits is empty, allowed are 2 to 4");
  for (const int bits : args.bits) check_range("bits", bits, 2, 4);
  qlr::require(std::set<int>(args.bits.begin(), args.bits.end()).size() == args.bits.size(),
               qlr::status_code::invalid_argument, "bits holds a number twice");
}

void check(arguments& args, const names& text) {
  constexpr index_t many = 1'000'000;
  check_lists(args);
  check_threads(args.threads);
  check_range("seeds", args.num_seeds, 1, 1000);
  check_range("steps", args.training.num_steps, 1, many);
  check_range("batch", args.training.batch_sequences, 1, 4096);
  check_range("evaluate-every", args.training.evaluation_interval, 1, many);
  check_range("save-every", args.save_interval, 1, many);
  check_range("texts", args.texts.num_training, args.training.batch_sequences, many);
  check_range("held-out", args.texts.num_held_out, 1, many);
  check_range("rank", args.training.layers.rank, 0, many);
  check_range("group-size", args.training.layers.group_size, 0, many);
  const double factor = args.training.learning_rate_factor;
  qlr::require(qlr::is_finite(factor) && factor >= 0, qlr::status_code::invalid_argument,
               "learning-rate-factor is ", factor, ", allowed are 0 and finite numbers above");
  constexpr auto tasks = std::to_array<std::string_view>({"shifted", "plain"});
  constexpr auto storages = std::to_array<std::string_view>({"fp32", "bf16"});
  require_one_of("task", args.task, tasks);
  require_one_of("storage", text.storage, storages);
  if (text.storage == "bf16") args.training.layers.storage = parameter_storage::bf16;
}

} // namespace

arguments parse_arguments(int argc, char** argv) {
  arguments result;
  names text;
  CLI::App app{
      "Continues the training of a small Llama model with its linear layers quantized: learns a task "
      "from a few texts that the model wrote itself, with every method that trains a low-rank part."};
  app.add_option("MODEL", result.model, "checkpoint of a Llama model, .safetensors or a folder")->required();
  app.add_option("--tokenizer", result.tokenizer, "its tokenizer in the format of llama2.c (.bin)")
      ->required();
  add_text_options(app, result);
  add_training_options(app, result, text);
  add_other_options(app, result);
  parse(app, argc, argv);
  if (result.json == "-") result.quiet = true;
  check(result, text);
  const bool is_other_task =
      result.from_scratch && app.get_option("--task")->count() > 0 && result.task != "plain";
  qlr::require(!is_other_task, qlr::status_code::invalid_argument, "task is '", result.task,
               "', --from-scratch learns the plain one");
  if (result.from_scratch) {
    result.task = "plain";
    result.training.trained = trained_parts::everything;
  }
  return result;
}

std::vector<run_key> list_runs(const arguments& args) {
  std::vector<run_key> runs;
  for (const std::string& name : args.methods) {
    const training_method& method = find_training_method(name);
    const std::vector<int> bits = method.quantizer.empty() ? std::vector<int>{0} : args.bits;
    for (const int b : bits) {
      for (int seed = 1; seed <= args.num_seeds; ++seed)
        runs.push_back({&method, b, static_cast<std::uint64_t>(seed)});
    }
  }
  return runs;
}
