// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Says what is in a file or folder with weights; --help tells the rest.
#include <common/output.hpp>
#include <common/program.hpp>
#include <inspect/arguments.hpp>
#include <inspect/contents.hpp>
#include <inspect/report.hpp>

namespace {

void run(const arguments& args) {
  if (args.json != "-") check_outputs({args.json});
  const contents found = read_contents(args.path);
  const report result = make_report(args, found);
  if (!args.quiet) print_report(result);
  if (!args.json.empty()) write_text(args.json, to_json(result));
}

} // namespace

int main(int argc, char** argv) {
  return run_program("inspect", [&] { run(parse_arguments(argc, argv)); });
}
