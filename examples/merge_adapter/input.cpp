// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <merge_adapter/input.hpp>

#include <qlr/io/checkpoint.hpp>
#include <qlr/io/serialize.hpp>

#include <cstddef>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace {

/// The first names of an adapter, for messages.
std::string list_modules(const qlr::io::peft_file& adapter) {
  constexpr std::size_t most = 4;
  std::string names;
  for (std::size_t i = 0; i < adapter.pairs().size() && i < most; ++i)
    names += (i == 0 ? "'" : ", '") + adapter.pairs()[i].module + "'";
  if (adapter.pairs().size() > most)
    names += qlr::sentence(" and ", adapter.pairs().size() - most, " others");
  return names;
}

/// Whether a file holds a single decomposition; everything else is left to the reader of checkpoints.
bool is_decomposition(const std::string& path) {
  std::error_code ignored;
  if (path.ends_with(".json") || std::filesystem::is_directory(path, ignored)) return false;
  const qlr::io::safetensors_file file(path);
  const auto format = file.metadata().find("qlr.format");
  return format == file.metadata().end() || format->second != "checkpoint";
}

} // namespace

const qlr::io::peft_pair& find_pair(const qlr::io::peft_file& adapter, const arguments& args) {
  constexpr auto refused = qlr::status_code::invalid_argument;
  qlr::require(!adapter.pairs().empty(), qlr::status_code::unsupported, "'", args.adapter,
               "' has no pair of tensors named lora_A and lora_B");
  std::vector<const qlr::io::peft_pair*> found;
  for (const qlr::io::peft_pair& pair : adapter.pairs()) {
    if (!args.module.empty() && pair.module == args.module) return pair;
    if (args.module.empty() || pair.module.ends_with("." + args.module)) found.push_back(&pair);
  }
  qlr::require(found.size() == 1, refused, "module is '", args.module, "', which ", found.size(), " of ",
               adapter.pairs().size(), " modules match, allowed is one of ", list_modules(adapter));
  return *found.front();
}

qlr::decomposition read_base(const arguments& args, const qlr::io::peft_pair& pair) {
  if (is_decomposition(args.base)) {
    qlr::require(args.weight.empty(), qlr::status_code::invalid_argument, "weight is '", args.weight, "', '",
                 args.base, "' is no checkpoint and has one decomposition, which needs no name");
    return qlr::io::load(args.base);
  }
  const qlr::io::checkpoint_folder checkpoint(args.base);
  return checkpoint.read_decomposition(args.weight.empty() ? pair.module + ".weight" : args.weight);
}
