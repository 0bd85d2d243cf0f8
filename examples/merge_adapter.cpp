// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Adds one pair of a LoRA adapter to a decomposition; --help tells the rest.
#include <common/output.hpp>
#include <common/program.hpp>
#include <merge_adapter/arguments.hpp>
#include <merge_adapter/input.hpp>
#include <merge_adapter/report.hpp>

#include <qlr/decompose/concatenate.hpp>
#include <qlr/decompose/merge.hpp>
#include <qlr/io/serialize.hpp>

#include <utility>

namespace {

void run(const arguments& args) {
  const qlr::io::peft_file adapter(args.adapter);
  const qlr::io::peft_pair& pair = find_pair(adapter, args);
  const qlr::decomposition base = read_base(args, pair);
  check_outputs({args.output, args.json == "-" ? "" : args.json});
  const qlr::matrix<float> left = adapter.left(pair);
  const qlr::matrix<float> right = adapter.right(pair);
  qlr::thread_pool pool(args.threads);
  report result{args, pair, base, {}, {}, 0};
  if (args.merge) {
    qlr::merge_result merged =
        qlr::merge(base, left.view(), right.view(), pair.scale, args.options, qlr::executor(pool));
    result.merge = merged.report;
    result.parts = std::move(merged.merged);
  } else {
    result.parts = qlr::concatenate(base, left.view(), right.view(), pair.scale, args.storage);
    result.concatenation_error = measure_concatenation(base, left, right, pair.scale, result.parts);
  }
  if (!args.output.empty()) qlr::io::save(args.output, result.parts);
  if (!args.quiet) print_table(result);
  if (!args.json.empty()) write_text(args.json, to_json(result));
}

} // namespace

int main(int argc, char** argv) {
  return run_program("merge_adapter", [&] { run(parse_arguments(argc, argv)); });
}
