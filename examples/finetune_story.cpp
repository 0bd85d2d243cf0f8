// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Continues the training of a small language model with quantized linear layers, by every method that learns
// a low-rank part, and compares the losses; --help tells the rest.
#include <common/output.hpp>
#include <common/program.hpp>
#include <finetune_story/arguments.hpp>
#include <finetune_story/experiment.hpp>
#include <finetune_story/report.hpp>

#include <chrono>

namespace {

void run(const arguments& args) {
  const auto start = std::chrono::steady_clock::now();
  if (args.json != "-") check_outputs({args.json});
  qlr::thread_pool pool(args.threads);
  const std::vector<finished_run> runs = run_experiment(args, qlr::executor(pool));
  const std::vector<summary> all = summarise(runs);
  if (!args.quiet) print_table(args, all);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!args.json.empty()) write_text(args.json, to_json(args, runs, seconds));
  write_charts(args, all);
}

} // namespace

int main(int argc, char** argv) {
  return run_program("finetune_story", [&] { run(parse_arguments(argc, argv)); });
}
