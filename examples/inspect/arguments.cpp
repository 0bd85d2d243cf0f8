// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <inspect/arguments.hpp>

#include <common/command_line.hpp>

#include <qlr/version.hpp>

#include <array>
#include <string_view>

namespace {

std::regex parse_names(const std::string& text) {
  try {
    return std::regex(text, std::regex::ECMAScript);
  } catch (const std::regex_error& failure) {
    qlr::fail(qlr::status_code::invalid_argument, "names is '", text,
              "', it must be a regular expression: ", failure.what());
  }
}

} // namespace

arguments parse_arguments(int argc, char** argv) {
  arguments result;
  std::string names;
  CLI::App app{"Says what is in a file or folder with weights: safetensors, checkpoints and adapters of qlr, "
               "of Hugging Face, PEFT and bitsandbytes, GGUF, importance matrices, .npy."};
  app.set_version_flag("--version", std::string("qlr ") + qlr::version_string);
  app.add_option("PATH", result.path, "file, or folder of a checkpoint or adapter")->required();
  app.add_option("--names", names, "only what this regular expression finds in the name");
  app.add_option("--limit", result.limit, "print so many rows at most; 0 = all")->capture_default_str();
  app.add_option("--sort", result.sort, "file (the order there) | name | bytes (the largest first)")
      ->capture_default_str();
  app.add_option("--json", result.json, "write the report; - is standard output and prints nothing else");
  app.add_flag("--quiet", result.quiet, "no table");
  parse(app, argc, argv);
  if (result.json == "-") result.quiet = true;
  constexpr auto orders = std::to_array<std::string_view>({"file", "name", "bytes"});
  require_one_of("sort", result.sort, orders);
  qlr::require(result.limit >= 0, qlr::status_code::invalid_argument, "limit is ", result.limit,
               ", allowed are 0 (all rows) and above");
  if (!names.empty()) result.names = parse_names(names);
  return result;
}
