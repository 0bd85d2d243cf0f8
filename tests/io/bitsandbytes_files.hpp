// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include "support.hpp"

#include <qlr/io/bitsandbytes.hpp>

#include <support/generators.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::test {

/// Tensors by name, to be changed and written.
using tensor_set = std::map<std::string, io::owned_tensor>;

inline void put(tensor_set& tensors, io::owned_tensor tensor) {
  std::string name = tensor.name;
  tensors.insert_or_assign(std::move(name), std::move(tensor));
}

template <class T>
void put(tensor_set& tensors, const std::string& name, io::dtype type, std::vector<index_t> shape,
         const std::vector<T>& values) {
  put(tensors, io::owned_tensor{name, type, std::move(shape), to_bytes(values)});
}

inline tensor_set to_set(std::vector<io::owned_tensor> tensors) {
  tensor_set result;
  for (io::owned_tensor& tensor : tensors) put(result, std::move(tensor));
  return result;
}

inline io::safetensors_file write_set(const temporary_directory& folder, const tensor_set& tensors) {
  std::vector<io::tensor_entry> entries;
  for (const auto& [name, tensor] : tensors) entries.push_back(tensor.entry());
  io::write_safetensors(folder.file("model.safetensors"), entries);
  return io::safetensors_file(folder.file("model.safetensors"));
}

template <class T>
std::vector<T> values_of(const io::owned_tensor& tensor) {
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

inline void set_state(tensor_set& tensors, const std::string& name, const std::string& text,
                      const std::string& type = "nf4") {
  const byte_vector bytes = to_bytes(text);
  put(tensors, io::owned_tensor{name + ".quant_state.bitsandbytes__" + type,
                                io::dtype::u8,
                                {static_cast<index_t>(bytes.size())},
                                bytes});
}

/// What a test asks of a file that it makes by hand.
struct file_options {
  index_t rows = 1;
  index_t cols = 1;
  index_t block = 64;
  std::string type = "nf4";
  index_t nested_block = 0; ///< 0: plain scales
  bool has_other_map = false;
};

/// FP4 by its definition: code = sign, then the position of the magnitude in an unsorted list, of 12.
inline std::vector<float> slow_table(std::string_view type) {
  std::vector<float> table;
  for (int code = 0; type == "fp4" && code < 16; ++code) {
    const float twelfths[] = {0.0F, 0.0625F, 8.0F, 12.0F, 4.0F, 6.0F, 2.0F, 3.0F};
    const float magnitude = twelfths[code % 8] / 12.0F;
    table.push_back(code < 8 ? magnitude : -magnitude);
  }
  for (std::size_t code = 0; type == "nf4" && code < 16; ++code)
    table.push_back(nf4_bitsandbytes_levels[code]);
  return table;
}

/// A state dict with random codes and scales, built from the description of the format alone.
inline tensor_set random_file(const std::string& name, const file_options& what, std::uint64_t seed) {
  random_source random(seed);
  tensor_set tensors;
  const index_t count = what.rows * what.cols;
  const index_t blocks = (count + what.block - 1) / what.block;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>((count + 1) / 2));
  for (std::uint8_t& byte : codes) byte = static_cast<std::uint8_t>(random.below(256));
  put(tensors, name, io::dtype::u8, {static_cast<index_t>(codes.size()), 1}, codes);
  put(tensors, name + ".quant_map", io::dtype::f32, {16}, slow_table(what.type));
  nlohmann::ordered_json state{{"quant_type", what.type},
                               {"blocksize", what.block},
                               {"dtype", "bfloat16"},
                               {"shape", {what.rows, what.cols}}};
  if (what.nested_block == 0) {
    std::vector<float> absmax;
    for (index_t i = 0; i < blocks; ++i) absmax.push_back(static_cast<float>(random.between(0.01, 0.1)));
    put(tensors, name + ".absmax", io::dtype::f32, {blocks}, absmax);
  } else {
    std::vector<std::uint8_t> absmax;
    for (index_t i = 0; i < blocks; ++i) absmax.push_back(static_cast<std::uint8_t>(random.below(256)));
    const index_t num_supers = (blocks + what.nested_block - 1) / what.nested_block;
    std::vector<float> supers;
    for (index_t i = 0; i < num_supers; ++i) supers.push_back(static_cast<float>(random.between(0.01, 0.02)));
    std::vector<float> map;
    for (int i = 0; i < 256; ++i) map.push_back(dynamic_map().decode(static_cast<code_t>(i)));
    if (what.has_other_map) map[7] = -0.75F;
    put(tensors, name + ".absmax", io::dtype::u8, {blocks}, absmax);
    put(tensors, name + ".nested_absmax", io::dtype::f32, {num_supers}, supers);
    put(tensors, name + ".nested_quant_map", io::dtype::f32, {256}, map);
    state["nested_blocksize"] = what.nested_block;
    state["nested_dtype"] = "float32";
    state["nested_offset"] = static_cast<double>(static_cast<float>(random.between(0.03, 0.05)));
  }
  set_state(tensors, name, state.dump(), what.type);
  return tensors;
}

/// Every element as bitsandbytes decodes it in float32, from the tensors alone, element by element.
inline std::vector<float> slow_decode(const tensor_set& tensors, const std::string& name) {
  const bool is_fp4 = tensors.contains(name + ".quant_state.bitsandbytes__fp4");
  const byte_vector& text = tensors.at(name + ".quant_state.bitsandbytes__" + (is_fp4 ? "fp4" : "nf4")).bytes;
  const auto state =
      nlohmann::json::parse(std::string(reinterpret_cast<const char*>(text.data()), text.size()));
  const index_t count = state.at("shape")[0].get<index_t>() * state.at("shape")[1].get<index_t>();
  const byte_vector& codes = tensors.at(name).bytes;
  const auto map = values_of<float>(tensors.at(name + ".quant_map"));
  std::vector<float> values;
  for (index_t i = 0; i < count; ++i) {
    const auto byte = static_cast<unsigned>(codes.at(static_cast<std::size_t>(i / 2)));
    const unsigned code = i % 2 == 0 ? byte / 16 : byte % 16;
    const auto block = static_cast<std::size_t>(i / state.at("blocksize").get<index_t>());
    volatile float scale = 0; // each step is rounded
    if (tensors.contains(name + ".nested_absmax")) {
      const auto code8 = values_of<std::uint8_t>(tensors.at(name + ".absmax")).at(block);
      const auto super = block / state.at("nested_blocksize").get<std::size_t>();
      scale = values_of<float>(tensors.at(name + ".nested_quant_map")).at(code8) *
              values_of<float>(tensors.at(name + ".nested_absmax")).at(super);
      scale = scale + state.at("nested_offset").get<float>();
    } else {
      scale = values_of<float>(tensors.at(name + ".absmax")).at(block);
    }
    values.push_back(map.at(code) * scale);
  }
  return values;
}

/// Equal bit for bit, signs of zeros included.
inline bool is_same_bits(const std::vector<float>& expected, const matrix<float>& found) {
  return static_cast<index_t>(expected.size()) == found.size() &&
         std::memcmp(expected.data(), found.data(), 4 * expected.size()) == 0;
}

} // namespace qlr::test
