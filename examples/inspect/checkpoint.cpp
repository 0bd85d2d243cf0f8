// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <inspect/contents.hpp>

#include <qlr/io/adapter.hpp>
#include <qlr/io/peft.hpp>

#include <filesystem>
#include <map>
#include <set>
#include <string_view>
#include <system_error>

namespace {

using qlr::index_t;
using qlr::io::checkpoint_folder;

index_t size_of(const std::filesystem::path& path) {
  std::error_code status;
  const auto bytes = std::filesystem::file_size(path, status);
  return status ? 0 : static_cast<index_t>(bytes);
}

item describe_weight(const std::string& name, const qlr::io::decomposition_description& about) {
  item result;
  result.name = name;
  result.shape = {about.quantized.rows, about.quantized.cols};
  result.format = about.format_name;
  result.group_size = about.quantized.group_size;
  result.scales = to_string(about.quantized.scales);
  result.rank = about.rank;
  result.factors = to_string(about.factors);
  result.weights = count_elements(result.shape);
  result.bytes = about.storage_bytes();
  if (about.scale != 1.0F) result.note = qlr::sentence("scale ", about.scale);
  if (about.has_input_scales) result.note += result.note.empty() ? "smoothed inputs" : ", smoothed inputs";
  return result;
}

std::string format_of(const qlr::io::safetensors_file& file) {
  const auto found = file.metadata().find("qlr.format");
  return found == file.metadata().end() ? "" : found->second;
}

/// The tensors that are not compressed, and a row for each compressed weight where its first tensor stands.
std::vector<item> list_items(const checkpoint_folder& checkpoint) {
  std::vector<item> items;
  std::set<std::string_view> seen;
  for (const qlr::io::checkpoint_tensor& tensor : checkpoint.tensors()) {
    const qlr::io::compressed_weight* const owner = checkpoint.find_owner(tensor.name);
    if (owner != nullptr && !seen.insert(owner->name).second) continue;
    items.push_back(owner != nullptr ? describe_weight(owner->name, checkpoint.describe(owner->name))
                                     : describe_tensor(*tensor.info));
    if (checkpoint.has_index()) items.back().file = checkpoint.shard_name(tensor.shard_index);
  }
  for (const qlr::io::compressed_weight& weight : checkpoint.compressed()) {
    if (!seen.contains(weight.name))
      (void)checkpoint.describe(weight.name); // without tensors: it refuses that
  }
  return items;
}

/// The metadata of all files that is not about a weight of this library.
void add_facts(const checkpoint_folder& checkpoint, contents& found) {
  std::map<std::string, std::string> facts;
  for (std::size_t i = 0; i < checkpoint.num_shards(); ++i) {
    for (const auto& [key, value] : checkpoint.shard(i).metadata()) {
      bool is_of_weight = false;
      for (std::size_t dot = key.rfind('.'); dot != std::string::npos && dot > 0;
           dot = key.rfind('.', dot - 1))
        is_of_weight = is_of_weight || checkpoint.is_compressed(std::string_view(key).substr(0, dot));
      if (!is_of_weight) facts.emplace(key, value);
    }
  }
  found.facts.assign(facts.begin(), facts.end());
}

contents read_adapter(const checkpoint_folder& checkpoint) {
  contents found;
  found.kind = "qlr adapter";
  for (const qlr::io::named_adapter& pair : qlr::io::load_adapters(checkpoint.shard(0))) {
    const qlr::quantized_adapter& adapter = pair.adapter;
    item row;
    row.name = pair.module.empty() ? pair.left_name : pair.module;
    row.shape = {adapter.rows(), adapter.cols()};
    row.format = adapter.left.high.format_name();
    if (adapter.left.low.rows() > 0) row.format += "+" + adapter.left.low.format_name();
    row.group_size = adapter.left.high.layout().group_size;
    row.scales = to_string(adapter.left.high.layout().scales);
    row.rank = adapter.rank();
    row.note = qlr::sentence(adapter.split_rank(), " of rank ", adapter.rank(), " in high precision");
    row.weights = adapter.num_elements();
    row.bytes = adapter.storage_bytes();
    found.items.push_back(row);
  }
  return found;
}

contents read_decomposition(const checkpoint_folder& checkpoint) {
  contents found;
  found.kind = "qlr decomposition";
  found.items.push_back(describe_weight("", qlr::io::describe_decomposition(checkpoint.shard(0))));
  return found;
}

} // namespace

contents read_checkpoint(const std::string& path) {
  const checkpoint_folder checkpoint(path);
  const bool is_single = checkpoint.num_shards() == 1;
  const std::string format = is_single ? format_of(checkpoint.shard(0)) : "";
  contents found;
  if (format == "decomposition") {
    found = read_decomposition(checkpoint);
  } else if (format == "adapter") {
    found = read_adapter(checkpoint);
  } else {
    const bool is_quantized = has_bitsandbytes(checkpoint);
    found.items = is_quantized ? read_bitsandbytes(checkpoint) : list_items(checkpoint);
    found.kind = is_quantized                       ? "bitsandbytes checkpoint"
                 : !checkpoint.compressed().empty() ? "qlr checkpoint"
                 : checkpoint.has_index()           ? "safetensors checkpoint"
                                                    : "safetensors";
    if (is_single && format == "checkpoint") found.kind = "qlr checkpoint"; // no weight was worth it
    add_facts(checkpoint, found);
  }
  found.num_files = checkpoint.num_shards();
  for (std::size_t i = 0; i < checkpoint.num_shards(); ++i) {
    const std::filesystem::path file =
        checkpoint.has_index() || std::filesystem::is_directory(path)
            ? std::filesystem::path(checkpoint.folder()) / checkpoint.shard_name(i)
            : std::filesystem::path(path);
    found.file_bytes += size_of(file);
  }
  return found;
}

contents read_peft_adapter(const std::string& path) {
  const qlr::io::peft_file file(path);
  contents found;
  found.kind = "PEFT adapter";
  std::set<std::string_view> seen;
  for (const qlr::io::peft_pair& pair : file.pairs()) {
    item row;
    row.name = pair.module.empty() ? pair.left_name : pair.module;
    row.shape = {pair.rows, pair.cols};
    row.rank = pair.rank;
    row.weights = 0;
    for (const std::string* const name : {&pair.left_name, &pair.right_name}) {
      const item part = describe_tensor(file.tensors().find(*name));
      row.factors =
          row.factors.empty() || row.factors == part.format ? part.format : row.factors + ", " + part.format;
      row.weights = add_up(row.weights, part.weights);
      row.bytes += part.bytes;
      seen.insert(*name);
    }
    row.format = "L R";
    row.note = qlr::sentence("scale ", pair.scale);
    found.items.push_back(row);
  }
  for (const qlr::io::tensor_info& tensor : file.tensors().tensors()) {
    if (!seen.contains(tensor.name)) found.items.push_back(describe_tensor(tensor));
  }
  for (const auto& [key, value] : file.tensors().metadata()) found.facts.emplace_back(key, value);
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  found.file_bytes = size_of(is_folder ? std::filesystem::path(path) / "adapter_model.safetensors"
                                       : std::filesystem::path(path));
  return found;
}
