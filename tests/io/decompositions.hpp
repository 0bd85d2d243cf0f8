// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include "../support/generators.hpp"
#include "support.hpp"

#include <qlr/decompose/factor_storage.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/quant/formats.hpp>

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Decompositions made by hand, and their files taken apart: no test of the file format runs the decomposer.
namespace qlr::test {

struct made_of {
  std::string_view format = "nf4";
  format_options options = {};
  index_t rows = 6;
  index_t cols = 70;
  index_t rank = 3;
  factor_storage factors = factor_storage::fp16;
  float scale = 0.3F; // not representable in few digits
  double factor_size = 0.1;
};

/// Q is a quantized weight matrix; L and R are random numbers as their storage decodes them.
[[nodiscard]] inline decomposition make_decomposition(const made_of& what) {
  const matrix<float> weight = weight_like_matrix(what.rows, what.cols, 17);
  matrix<float> left = normal_matrix(what.rank, what.rows, 18, what.factor_size); // L transposed
  matrix<float> right = normal_matrix(what.rank, what.cols, 19, what.factor_size);
  round_factor(left, what.factors);
  round_factor(right, what.factors);
  return {make_quantizer(what.format, what.options).quantize(weight.view(), {}, {}),
          to_row_major(std::as_const(left).view().transposed()), std::move(right), what.factors, what.scale};
}

/// A safetensors file in parts that can be changed.
struct file_parts {
  struct tensor {
    io::dtype type = io::dtype::u8;
    std::vector<index_t> shape;
    byte_vector bytes;
  };
  std::map<std::string, std::string> metadata;
  std::map<std::string, tensor> tensors;

  explicit file_parts(const std::string& path) {
    const io::safetensors_file file(path);
    metadata = file.metadata();
    for (const io::tensor_info& info : file.tensors()) {
      const auto bytes = file.bytes(info.name);
      tensors[info.name] = {info.type.value(), info.shape, {bytes.begin(), bytes.end()}};
    }
  }

  /// Overwrites element `index` of a tensor of T.
  template <class T>
  void put(const std::string& name, std::size_t index, T value) {
    byte_vector& bytes = tensors.at(name).bytes;
    REQUIRE((index + 1) * sizeof(T) <= bytes.size());
    std::memcpy(bytes.data() + index * sizeof(T), &value, sizeof(T));
  }

  /// Gives a one-dimensional tensor another number of elements.
  void resize(const std::string& name, index_t count) {
    tensor& changed = tensors.at(name);
    changed.shape = {count};
    changed.bytes.resize(static_cast<std::size_t>(count * io::dtype_bytes(changed.type)));
  }

  void write(const std::string& path) const {
    std::vector<io::tensor_entry> entries;
    for (const auto& [name, part] : tensors) entries.push_back({name, part.type, part.shape, part.bytes});
    io::write_safetensors(path, entries, metadata);
  }
};

} // namespace qlr::test
