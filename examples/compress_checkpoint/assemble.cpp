// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/assemble.hpp>

#include <compress_checkpoint/config.hpp>
#include <compress_checkpoint/gguf_output.hpp>
#include <compress_checkpoint/output_format.hpp>
#include <compress_checkpoint/publisher.hpp>

#include <qlr/io/join_safetensors.hpp>
#include <qlr/io/peft_writer.hpp>

#include <list>
#include <map>
#include <utility>
#include <vector>

namespace {

using qlr::index_t;
using qlr::io::borrowed_tensor;
using qlr::io::safetensors_file;

/// What one file of the output is joined from.
struct joined_file {
  std::string name; ///< in the output folder
  std::vector<borrowed_tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Everything the output is made of: the parts, opened, and the tensors that stay.
class assembly {
public:
  assembly(const qlr::io::checkpoint_folder& input, const selection& chosen, const arguments& args,
           const journal& work)
      : args_(args), work_(work) {
    for (std::size_t shard = 0; shard < (args.one_file ? 1 : input.num_shards()); ++shard) {
      shards_.push_back({args.one_file ? "model.safetensors" : input.shard_name(shard), {}, {}});
    }
    for (std::size_t shard = 0; shard < input.num_shards(); ++shard) {
      shards_[target(shard)].metadata.insert(input.shard(shard).metadata().begin(),
                                             input.shard(shard).metadata().end());
    }
    for (const kept_tensor& tensor : chosen.kept) {
      const safetensors_file& file = input.shard(tensor.shard_index);
      shards_[target(tensor.shard_index)].tensors.push_back({&file, &file.find(tensor.name), tensor.name});
    }
    for (const layer_task& task : chosen.layers) add_parts(task);
    if (args.store == "qlr") {
      for (joined_file& shard : shards_) {
        shard.metadata["qlr.format"] = "checkpoint";
        shard.metadata["qlr.version"] = "1";
      }
    }
    if (args.store == "bitsandbytes" && !adapter_.tensors.empty())
      adapter_.name = "adapter/adapter_model.safetensors";
  }

  /// Shards, and the adapter where there is one.
  [[nodiscard]] std::vector<const joined_file*> files() const {
    std::vector<const joined_file*> result;
    for (const joined_file& shard : shards_) result.push_back(&shard);
    if (!adapter_.name.empty()) result.push_back(&adapter_);
    return result;
  }

  [[nodiscard]] bool has_adapter() const { return !adapter_.name.empty(); }

  /// Text of adapter_config.json. PEFT looks for the base model in the folder above.
  [[nodiscard]] std::string adapter_config() const {
    std::vector<std::pair<std::string, index_t>> modules;
    for (const auto& [module, rank] : ranks_) modules.emplace_back(module, rank);
    return qlr::io::peft_config_json(modules, "..");
  }

  /// Writes what says in which shard each tensor lies.
  void write_index(const std::string& path) const {
    std::map<std::string, std::string> files;
    index_t total_bytes = 0;
    for (const joined_file& shard : shards_) {
      for (const borrowed_tensor& tensor : shard.tensors) {
        files[tensor.name] = shard.name;
        total_bytes += tensor.info->end_bytes - tensor.info->begin_bytes;
      }
    }
    qlr::io::write_checkpoint_index(path, files, total_bytes);
  }

private:
  [[nodiscard]] std::size_t target(std::size_t shard) const { return args_.one_file ? 0 : shard; }

  void add_parts(const layer_task& task) {
    const auto rank = work_.record(task.name).at("report").at("rank").get<index_t>();
    if (rank > 0) ranks_[module_of(task.name)] = rank;
    for (const ordered_json& described : work_.record(task.name).at("files")) {
      const auto name = described.at("name").get<std::string>();
      const bool is_adapter = name.find(".adapter.") != std::string::npos;
      joined_file& file = is_adapter ? adapter_ : shards_[target(task.shard_index)];
      const safetensors_file& opened = parts_.emplace_back(work_.path_of(name));
      for (const qlr::io::tensor_info& tensor : opened.tensors()) {
        file.tensors.push_back({&opened, &tensor, tensor.name});
      }
      file.metadata.insert(opened.metadata().begin(), opened.metadata().end());
    }
  }

  const arguments& args_;
  const journal& work_;
  std::list<safetensors_file> parts_; // a list: borrowed_tensor points into it
  std::vector<joined_file> shards_;
  joined_file adapter_;
  std::map<std::string, index_t>
      ranks_; // of the low-rank parts, by module; a method may need less than asked for
};

void write_joined(const publisher& out, const joined_file& file) {
  out.write(file.name,
            [&](const std::string& path) { qlr::io::join_safetensors(path, file.tensors, file.metadata); });
}

void write_companions(const publisher& out, const assembly& whole, const selection& chosen,
                      const arguments& args, bool has_index) {
  if (has_index) {
    out.write("model.safetensors.index.json", [&](const std::string& path) { whole.write_index(path); });
  }
  for (const companion_file& file : companion_files(args, chosen)) out.write_small(file.name, file.text);
  if (whole.has_adapter()) out.write_small("adapter/adapter_config.json", whole.adapter_config());
}

} // namespace

void assemble(const qlr::io::checkpoint_folder& input, const selection& chosen, const arguments& args,
              const journal& work, const processes& all) {
  const publisher out(work, args, all.rank());
  if (args.store == "gguf") {
    return all.together([&] {
      if (all.is_first()) assemble_gguf(input, chosen, args, work, out);
    });
  }
  const assembly whole(input, chosen, args, work);
  all.together([&] {
    const std::vector<const joined_file*> files = whole.files();
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (i % static_cast<std::size_t>(all.size()) == static_cast<std::size_t>(all.rank()))
        write_joined(out, *files[i]);
    }
    if (all.is_first()) write_companions(out, whole, chosen, args, input.has_index() && !args.one_file);
  });
}
