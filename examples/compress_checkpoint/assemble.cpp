// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/assemble.hpp>

#include <compress_checkpoint/config.hpp>
#include <compress_checkpoint/output_format.hpp>

#include <common/output.hpp>

#include <qlr/io/join_safetensors.hpp>
#include <qlr/io/peft.hpp>

#include <filesystem>
#include <list>
#include <set>
#include <string_view>

namespace {

namespace fs = std::filesystem;
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
      : input_(input), args_(args), work_(work) {
    for (std::size_t shard = 0; shard < (args.one_file ? 1 : input.num_shards()); ++shard) {
      shards_.push_back({args.one_file ? "model.safetensors" : input.shard_name(shard), {}, {}});
    }
    for (std::size_t shard = 0; shard < input.num_shards(); ++shard) {
      shards_[target(shard)].metadata.insert(input.shard(shard).metadata().begin(),
                                             input.shard(shard).metadata().end());
    }
    for (const kept_tensor& tensor : chosen.kept) {
      const safetensors_file& file = input.shard(tensor.shard);
      shards_[target(tensor.shard)].tensors.push_back({&file, &file.find(tensor.name), tensor.name});
    }
    for (const layer_task& task : chosen.layers) add_parts(task);
    if (args.store == "qlr") {
      for (joined_file& shard : shards_) {
        shard.metadata["qlr.format"] = "checkpoint";
        shard.metadata["qlr.version"] = "1";
      }
    }
    if (args.store == "bitsandbytes" && !adapter_.tensors.empty()) adapter_.name = "adapter/adapter_model.safetensors";
  }

  /// Shards, and the adapter where there is one.
  [[nodiscard]] std::vector<const joined_file*> files() const {
    std::vector<const joined_file*> result;
    for (const joined_file& shard : shards_) result.push_back(&shard);
    if (!adapter_.name.empty()) result.push_back(&adapter_);
    return result;
  }

  [[nodiscard]] bool has_adapter() const { return !adapter_.name.empty(); }

  /// Text of model.safetensors.index.json; empty where one file holds everything.
  [[nodiscard]] std::string index_text() const {
    if (shards_.size() == 1 && shards_.front().name == "model.safetensors") return {};
    std::map<std::string, std::string> files;
    index_t total = 0;
    for (const joined_file& shard : shards_) {
      for (const borrowed_tensor& tensor : shard.tensors) {
        files[tensor.name] = shard.name;
        total += tensor.info->end_bytes - tensor.info->begin_bytes;
      }
    }
    const ordered_json index{{"metadata", {{"total_size", total}}}, {"weight_map", files}};
    return index.dump(2) + "\n";
  }

private:
  [[nodiscard]] std::size_t target(std::size_t shard) const { return args_.one_file ? 0 : shard; }

  void add_parts(const layer_task& task) {
    for (const ordered_json& described : work_.record(task.name).at("files")) {
      const auto name = described.at("name").get<std::string>();
      const bool is_adapter = name.find(".adapter.") != std::string::npos;
      joined_file& file = is_adapter ? adapter_ : shards_[target(task.shard)];
      const safetensors_file& opened = parts_.emplace_back(work_.path_of(name));
      for (const qlr::io::tensor_info& tensor : opened.tensors()) {
        file.tensors.push_back({&opened, &tensor, tensor.name});
      }
      file.metadata.insert(opened.metadata().begin(), opened.metadata().end());
    }
  }

  const qlr::io::checkpoint_folder& input_;
  const arguments& args_;
  const journal& work_;
  std::list<safetensors_file> parts_; // a list: borrowed_tensor points into it
  std::vector<joined_file> shards_;
  joined_file adapter_;
};

/// One process that makes files of the output.
class publisher {
public:
  publisher(const journal& work, const arguments& args, int process)
      : work_(work), args_(args), process_(process),
        draft_(work.path_of(qlr::sentence("draft-", process))) {}

  void write(const joined_file& file) const {
    if (work_.is_written(file.name)) return;
    qlr::io::join_safetensors(draft_, file.tensors, file.metadata);
    publish(file.name);
  }

  void write(const std::string& name, const std::string& text) const {
    if (text.empty() || work_.is_written(name)) return;
    write_text(draft_, text);
    publish(name);
  }

private:
  /// Gives the draft, which is complete, its name in the output.
  void publish(const std::string& name) const {
    const fs::path target = fs::path(args_.output) / name;
    std::error_code status;
    fs::create_directories(target.parent_path(), status);
    if (!status) fs::rename(draft_, target, status);
    qlr::require(!status, qlr::status_code::io_failure, "cannot write '", target.string(),
                 "': ", status.message());
    work_.note_output(process_, name);
  }

  const journal& work_;
  const arguments& args_;
  int process_;
  std::string draft_;
};

void write_companions(const publisher& out, const assembly& whole, const selection& chosen,
                      const arguments& args) {
  out.write("model.safetensors.index.json", whole.index_text());
  for (const companion_file& file : companion_files(args, chosen)) out.write(file.name, file.text);
  if (whole.has_adapter()) out.write("adapter/adapter_config.json", adapter_config_text(args, chosen));
}

} // namespace

void assemble(const qlr::io::checkpoint_folder& input, const selection& chosen, const arguments& args,
              const journal& work, const processes& all) {
  const assembly whole(input, chosen, args, work);
  const publisher out(work, args, all.rank());
  all.together([&] {
    const std::vector<const joined_file*> files = whole.files();
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (i % static_cast<std::size_t>(all.size()) == static_cast<std::size_t>(all.rank())) out.write(*files[i]);
    }
    if (all.is_first()) write_companions(out, whole, chosen, args);
  });
}
