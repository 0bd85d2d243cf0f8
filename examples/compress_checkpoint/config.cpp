// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/config.hpp>

#include <compress_checkpoint/output_format.hpp>

#include <qlr/io/mapped_file.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <utility>

namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using qlr::status_code;

/// Weights in any form, and what would describe the weights of the input.
bool is_companion(const fs::directory_entry& entry) {
  constexpr auto weights =
      std::to_array<std::string_view>({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5",
                                       ".msgpack", ".onnx", ".npz", ".npy", ".index.json"});
  const std::string name = entry.path().filename().string();
  std::error_code ignored;
  if (!entry.is_regular_file(ignored) || name.starts_with(".")) return false;
  return std::ranges::none_of(weights, [&](std::string_view ending) { return name.ends_with(ending); });
}

std::string read_text(const std::string& path) {
  const qlr::io::mapped_file file(path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.size()};
}

/// As transformers writes it for a model that it loaded with bitsandbytes.
ordered_json bitsandbytes_config(const arguments& args, const selection& chosen) {
  ordered_json skipped = ordered_json::array();
  for (const kept_tensor& tensor : chosen.kept) {
    if (tensor.is_matrix) skipped.push_back(module_of(tensor.name));
  }
  const bool is_nested = args.format.scales && args.format.scales->is_double();
  return {{"quant_method", "bitsandbytes"},
          {"load_in_4bit", true},
          {"load_in_8bit", false},
          {"bnb_4bit_quant_type", args.quantizer},
          {"bnb_4bit_use_double_quant", is_nested},
          {"bnb_4bit_compute_dtype", "bfloat16"},
          {"bnb_4bit_quant_storage", "uint8"},
          {"llm_int8_skip_modules", skipped},
          {"llm_int8_threshold", 6.0},
          {"llm_int8_has_fp16_weight", false},
          {"llm_int8_enable_fp32_cpu_offload", false}};
}

std::string with_quantization(const std::string& text, const std::string& path, const arguments& args,
                              const selection& chosen) {
  ordered_json config = ordered_json::parse(text, nullptr, false);
  qlr::require(config.is_object(), status_code::malformed_file, "'", path, "' is not a JSON object");
  if (args.store == "bitsandbytes") {
    config["quantization_config"] = bitsandbytes_config(args, chosen);
  } else if (args.store == "qlr") {
    config["quantization_config"] = {{"quant_method", "qlr"}, {"version", 1}};
  }
  return config.dump(2) + "\n";
}

} // namespace

std::vector<companion_file> companion_files(const arguments& args, const selection& chosen) {
  std::vector<companion_file> result;
  if (!fs::is_directory(args.input)) return result;
  for (const fs::directory_entry& entry : fs::directory_iterator(args.input)) {
    if (!is_companion(entry)) continue;
    const std::string path = entry.path().string();
    std::string text = read_text(path);
    if (entry.path().filename() == "config.json") text = with_quantization(text, path, args, chosen);
    result.push_back({entry.path().filename().string(), std::move(text)});
  }
  std::ranges::sort(result, {}, &companion_file::name);
  return result;
}
