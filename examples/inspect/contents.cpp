// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <inspect/contents.hpp>

#include <qlr/io/mapped_file.hpp>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <string_view>
#include <system_error>

namespace {

using qlr::index_t;

bool starts_with(std::span<const std::byte> bytes, std::size_t at, std::string_view text) {
  return bytes.size() >= at + text.size() &&
         std::ranges::equal(bytes.subspan(at, text.size()), std::as_bytes(std::span(text)));
}

/// Tensors of LoRA have one of these words in their names.
bool is_peft(const qlr::io::safetensors_file& file) {
  return std::ranges::any_of(file.tensors(), [](const qlr::io::tensor_info& tensor) {
    return tensor.name.find("lora_A") != std::string::npos ||
           tensor.name.find("lora_embedding_A") != std::string::npos;
  });
}

contents read_folder(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::path folder(path);
  const bool is_adapter = std::filesystem::exists(folder / "adapter_model.safetensors", ignored) ||
                          std::filesystem::exists(folder / "adapter_config.json", ignored);
  return is_adapter ? read_peft_adapter(path) : read_checkpoint(path);
}

contents read_file(const std::string& path) {
  constexpr std::size_t safetensors_prefix_bytes = 8;
  if (path.ends_with(".json")) return read_checkpoint(path);
  const qlr::io::mapped_file file(path);
  const std::span<const std::byte> bytes = file.bytes();
  if (starts_with(bytes, 0, "GGUF")) return read_gguf(path);
  if (starts_with(bytes, 0, "\x93NUMPY")) return read_npy(path);
  if (starts_with(bytes, safetensors_prefix_bytes, "{") || path.ends_with(".safetensors")) {
    return is_peft(qlr::io::safetensors_file(path)) ? read_peft_adapter(path) : read_checkpoint(path);
  }
  // The older form of an importance matrix has no mark to know it by.
  if (path.ends_with(".dat") || path.ends_with(".imatrix")) return read_plain_imatrix(path);
  qlr::fail(qlr::status_code::unsupported, "'", path,
            "' is of no known kind, allowed are .safetensors, .safetensors.index.json, .gguf, .npy, .dat and "
            ".imatrix");
}

} // namespace

index_t add_up(index_t a, index_t b) {
  constexpr index_t largest = std::numeric_limits<index_t>::max();
  return a > largest - b ? largest : a + b;
}

index_t count_elements(std::span<const index_t> shape) {
  constexpr index_t largest = std::numeric_limits<index_t>::max();
  if (std::ranges::find(shape, index_t{0}) != shape.end()) return 0;
  index_t product = 1;
  for (const index_t extent : shape) {
    if (product > largest / extent) return largest;
    product *= extent;
  }
  return product;
}

item describe_tensor(const qlr::io::tensor_info& tensor) {
  item result;
  result.name = tensor.name;
  result.shape = tensor.shape;
  result.format = tensor.dtype_text;
  result.weights = count_elements(tensor.shape);
  result.bytes = tensor.end_bytes - tensor.begin_bytes;
  return result;
}

contents read_contents(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored) ? read_folder(path) : read_file(path);
}
