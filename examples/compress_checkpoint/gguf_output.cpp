// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/gguf_output.hpp>

#include <qlr/io/gguf_adapter.hpp>
#include <qlr/io/mapped_file.hpp>

#include <map>
#include <string_view>
#include <utility>

namespace {

using qlr::io::gguf_llama;
using qlr::io::gguf_tensor_entry;
using qlr::io::gguf_tensor_type;

void write_one(const std::string& path, const std::string& name, gguf_tensor_type type,
               std::vector<qlr::index_t> shape, const std::vector<std::byte>& bytes) {
  const gguf_tensor_entry entry{name, type, std::move(shape), bytes};
  qlr::io::write_gguf(path, {}, {&entry, 1});
}

/// Buffers that old checkpoints have and no model needs.
bool is_left_out(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq");
}

/// 16-bit matrices stay as they are, everything else is float32.
gguf_tensor_type type_of(const qlr::io::tensor_info& tensor) {
  if (tensor.shape.size() < 2) return gguf_tensor_type::f32; // llama.cpp wants its norms so
  if (tensor.type == qlr::io::dtype::f16) return gguf_tensor_type::f16;
  return tensor.type == qlr::io::dtype::bf16 ? gguf_tensor_type::bf16 : gguf_tensor_type::f32;
}

void write_kept(const qlr::io::safetensors_file& file, const std::string& name, const gguf_llama& model,
                const std::string& path) {
  const qlr::io::tensor_info& tensor = file.find(name);
  qlr::matrix<float> values = file.read_matrix(name);
  const std::vector<qlr::index_t> order = model.row_order(name, values.rows());
  if (!order.empty()) values = qlr::io::permute_rows(std::as_const(values).view(), order);
  const gguf_tensor_type type = type_of(tensor);
  write_one(path, gguf_llama::name_of(name), type, tensor.shape,
            qlr::io::to_gguf_numbers(std::as_const(values).view(), type));
  file.release(name);
}

} // namespace

gguf_llama open_llama(const qlr::io::checkpoint_folder& input, const arguments& args) {
  for (const qlr::io::checkpoint_tensor& tensor : input.tensors()) {
    if (!is_left_out(tensor.name)) (void)gguf_llama::name_of(tensor.name);
  }
  const qlr::io::mapped_file config(input.folder() + "/config.json");
  gguf_llama model(std::string_view(reinterpret_cast<const char*>(config.bytes().data()), config.size()));
  if (!args.gguf_vocabulary.empty()) model.copy_vocabulary(qlr::io::gguf_file(args.gguf_vocabulary));
  return model;
}

std::vector<std::string> write_gguf_parts(const gguf_llama& model, const layer_task& task,
                                          const qlr::decomposition& parts, const journal& work) {
  const std::string name = gguf_llama::name_of(task.name);
  const std::vector<qlr::index_t> order = model.row_order(task.name, task.rows);
  qlr::io::gguf_adapter_pair pair{name, parts.left, parts.right, parts.scale};
  if (!order.empty()) pair.left = qlr::io::permute_rows(parts.left.view(), order);
  const qlr::quantized_matrix quantized =
      order.empty() ? parts.quantized : qlr::io::permute_rows(parts.quantized, order);
  std::vector<std::string> files{qlr::sentence(task.index, ".base.gguf")};
  write_one(work.path_of(files.back()), name, qlr::io::find_gguf_type(quantized.view()).value(),
            {task.rows, task.cols}, qlr::io::to_gguf_blocks(quantized.view()));
  if (parts.rank() == 0) return files;
  files.push_back(qlr::sentence(task.index, ".adapter.gguf"));
  const bool is_half = parts.factors == qlr::factor_storage::fp16;
  qlr::io::save_gguf_adapter(work.path_of(files.back()), gguf_llama::architecture(), {&pair, 1},
                             is_half ? gguf_tensor_type::f16 : gguf_tensor_type::f32);
  return files;
}

void assemble_gguf(const qlr::io::checkpoint_folder& input, const selection& chosen, const arguments& args,
                   const journal& work, const publisher& out) {
  const gguf_llama model = open_llama(input, args);
  std::map<std::size_t, std::string> tensors; // by the order of the names
  std::vector<std::string> adapters;
  for (const layer_task& task : chosen.layers) {
    const ordered_json& files = work.record(task.name).at("files");
    tensors[task.index] = work.path_of(files.at(0).at("name").get<std::string>());
    if (files.size() > 1) adapters.push_back(work.path_of(files.at(1).at("name").get<std::string>()));
  }
  out.write("model.gguf", [&](const std::string& path) {
    for (const kept_tensor& kept : chosen.kept) {
      if (is_left_out(kept.name)) continue;
      tensors[kept.index] = work.path_of(qlr::sentence(kept.index, ".kept.gguf"));
      write_kept(input.shard(kept.shard_index), kept.name, model, tensors[kept.index]);
    }
    std::vector<std::string> paths;
    for (const auto& [index, part] : tensors) paths.push_back(part);
    const qlr::io::gguf_file first(work.path_of(qlr::sentence(chosen.layers.front().index, ".base.gguf")));
    const auto type = static_cast<gguf_tensor_type>(first.tensors().front().type);
    qlr::io::merge_gguf(path, model.metadata(type), paths);
  });
  if (adapters.empty()) return;
  out.write("adapter.gguf", [&](const std::string& path) {
    qlr::io::merge_gguf(path, qlr::io::gguf_adapter_metadata(gguf_llama::architecture()), adapters);
  });
}
