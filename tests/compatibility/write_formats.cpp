// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
//
//   write_formats FOLDER
//
// Writes files in the formats of other libraries into FOLDER, and what this library decodes from them, for
// the scripts beside it to compare with what those libraries decode.
#include <compatibility/write_gguf.hpp>

#include <qlr/io/bitsandbytes.hpp>
#include <qlr/io/peft_writer.hpp>
#include <qlr/quant/formats.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using namespace qlr;

matrix<float> random_matrix(index_t rows, index_t cols, unsigned seed) {
  matrix<float> values(rows, cols);
  unsigned state = seed;
  for (index_t i = 0; i < values.size(); ++i) {
    state = state * 1664525U + 1013904223U; // any numbers will do
    values.data()[i] = static_cast<float>(state >> 8U) * 0x1p-23F - 1.0F;
  }
  return values;
}

void write_tensors(const fs::path& path, const std::vector<io::owned_tensor>& tensors) {
  std::vector<io::tensor_entry> entries;
  for (const io::owned_tensor& tensor : tensors) entries.push_back(tensor.entry());
  io::write_safetensors(path.string(), entries, {{"format", "pt"}});
}

io::owned_tensor dense_tensor(const std::string& name, const matrix<float>& values) {
  const io::tensor_entry entry = io::make_f32_entry(name, values.view());
  return {name, entry.type, entry.shape, {entry.bytes.begin(), entry.bytes.end()}};
}

/// NF4, or FP4 of bitsandbytes sorted as a codebook must be, its zero once.
any_quantizer make_codebook_quantizer(const std::string& type, index_t group, const scale_format& scales) {
  std::vector<float> levels(nf4_bitsandbytes_levels.begin(), nf4_bitsandbytes_levels.end());
  if (type == "fp4") {
    levels = {0.0F};
    for (const float twelfths : {0.0625F, 2.0F, 3.0F, 4.0F, 6.0F, 8.0F, 12.0F}) {
      levels.push_back(twelfths / 12.0F);
      levels.push_back(-twelfths / 12.0F);
    }
    std::sort(levels.begin(), levels.end());
  }
  return quantizer<codebook_grid<4>, absmax_rule>(
      type, codebook_grid<4>(levels), absmax_rule{},
      {.group_size = group, .scales = scales, .allow_short_group = true});
}

/// bitsandbytes/CASE.safetensors holds `layer.weight` in its parts, CASE.decoded.safetensors our values.
void write_bitsandbytes(const fs::path& folder) {
  struct example {
    std::string name;
    index_t rows;
    index_t cols;
    index_t group;
    std::string scales;
  };
  const std::vector<example> examples{{"plain", 8, 192, 64, "fp32"},
                                      {"plain_fp16", 8, 256, 128, "fp16"},
                                      {"lq_lora", 8, 192, 64, "dq"},
                                      {"nested", 8, 192, 64, "dq-bnb"},
                                      {"nested_long", 80, 512, 64, "dq-bnb"},
                                      {"nested_32", 5, 96, 32, "dq-bnb"},
                                      {"one_block", 3, 17, group_per_tensor, "fp32"},
                                      {"block_4096", 2, 8192, 4096, "bf16"},
                                      {"short_block", 1, 100, 64, "dq-bnb"},
                                      {"odd", 1, 63, group_per_row, "fp32"}};
  fs::create_directories(folder / "bitsandbytes");
  for (const example& what : examples) {
    const matrix<float> weight = random_matrix(what.rows, what.cols, 7);
    for (const std::string type : {"nf4", "fp4"}) {
      const scale_format scales = parse_scale_format(what.scales);
      const any_quantizer quantizer = make_codebook_quantizer(type, what.group, scales);
      const quantized_matrix q = quantizer.quantize(weight.view(), {}, {});
      const fs::path path = folder / "bitsandbytes" / (type + "_" + what.name);
      write_tensors(path.string() + ".safetensors",
                    io::bitsandbytes_tensors("layer.weight", q.view(), "float32"));
      write_tensors(path.string() + ".decoded.safetensors", {dense_tensor("decoded", dequantize(q))});
    }
  }
}

/// peft/ is an adapter; peft_products.safetensors holds s L R of each module.
void write_peft(const fs::path& folder) {
  struct example {
    std::string module;
    index_t rank;
    float scale;
  };
  const std::vector<example> examples{{"model.layers.0.self_attn.q_proj", 4, 1.0F},
                                      {"model.layers.0.mlp.up_proj", 4, 0.5F},
                                      {"model.layers.1.self_attn.q_proj", 2, -3.0F},
                                      {"model.layers.11.mlp.up_proj", 4, 0.25F},
                                      {"lm_head", 7, 2.0F}};
  constexpr index_t width = 24; // of every module
  std::vector<io::owned_tensor> tensors;
  std::vector<io::owned_tensor> products;
  std::vector<std::pair<std::string, index_t>> modules;
  for (const example& what : examples) {
    const auto seed = static_cast<unsigned>(modules.size());
    const matrix<float> left = random_matrix(width, what.rank, 2 * seed + 1);
    const matrix<float> right = random_matrix(what.rank, width, 2 * seed + 2);
    matrix<float> product(width, width);
    for (index_t i = 0; i < width; ++i) {
      for (index_t j = 0; j < width; ++j) {
        double sum = 0;
        for (index_t r = 0; r < what.rank; ++r)
          sum += static_cast<double>(left(i, r)) * static_cast<double>(right(r, j));
        product(i, j) = static_cast<float>(static_cast<double>(what.scale) * sum);
      }
    }
    for (io::owned_tensor& tensor : io::peft_tensors(what.module, left.view(), right.view(), what.scale))
      tensors.push_back(std::move(tensor));
    products.push_back(dense_tensor(what.module, product));
    modules.emplace_back(what.module, what.rank);
  }
  fs::create_directories(folder / "peft");
  write_tensors(folder / "peft" / "adapter_model.safetensors", tensors);
  write_tensors(folder / "peft_products.safetensors", products);
  std::ofstream(folder / "peft" / "adapter_config.json") << io::peft_config_json(modules, "a/base-model");
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_formats FOLDER\n");
    return 2;
  }
  try {
    write_bitsandbytes(argv[1]);
    write_peft(argv[1]);
    const fs::path gguf = fs::path(argv[1]) / "gguf";
    fs::create_directories(gguf);
    write_gguf_files(gguf.string());
  } catch (const std::exception& caught) {
    std::fprintf(stderr, "write_formats: %s\n", caught.what());
    return 1;
  }
  return 0;
}
