// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/io/gguf.hpp>
#include <qlr/io/gguf_writer.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

// A LoRA adapter is a GGUF file with general.type "adapter", general.architecture of the base model,
// adapter.type "lora" and adapter.lora.alpha F32. For a weight W (m,n) named N, N.lora_a is R (r,n) and
// N.lora_b is L (m,r), shapes slowest first; for token_embd.weight they are L (m,r) and R transposed (n,r).
// The change of the weight is s L R, s = alpha / r, and s = 1 where alpha is 0. There is one alpha for all
// tensors while ranks and scales may differ, so alpha 0 is written and s is multiplied into L.

/// The change s L R of one weight.
struct gguf_adapter_pair {
  std::string name;    ///< of the weight in the GGUF file of the base model
  matrix<float> left;  ///< L (m,r)
  matrix<float> right; ///< R (r,n)
  float scale = 1.0F;  ///< s
};

/// What an adapter file holds.
struct gguf_adapter {
  std::string architecture;
  std::vector<gguf_adapter_pair> pairs; ///< in the order of the file
};

/// What an adapter file says besides its tensors; merge_gguf takes it to join adapters of single weights.
[[nodiscard]] inline gguf_metadata gguf_adapter_metadata(std::string_view architecture) {
  return {{"general.type", "adapter"},
          {"general.architecture", architecture},
          {"adapter.type", "lora"},
          {"adapter.lora.alpha", 0.0F}};
}

/// Writes an adapter; pairs of rank 0 change nothing and are left out.
///
/// @param type  F32, F16 or BF16
/// @throws qlr::error shape_mismatch: L and R do not fit;  non_finite: an element or a scale
/// @throws qlr::error unsupported: an element of s L or R beyond the range of the type
/// @throws qlr::error invalid_argument, io_failure: as write_gguf()
inline void save_gguf_adapter(const std::string& path, std::string_view architecture,
                              std::span<const gguf_adapter_pair> pairs,
                              gguf_tensor_type type = gguf_tensor_type::f32) {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<gguf_tensor_entry> entries;
  const auto add = [&](const std::string& name, matrix_view<const float> values) {
    bytes.push_back(to_gguf_numbers(values, type));
    entries.push_back({name, type, {values.rows(), values.cols()}, bytes.back()});
  };
  for (const gguf_adapter_pair& pair : pairs) {
    require(pair.left.cols() == pair.right.rows(), status_code::shape_mismatch, "pair ",
            detail::quote(pair.name), ": L is ", pair.left.rows(), " x ", pair.left.cols(), " and R is ",
            pair.right.rows(), " x ", pair.right.cols());
    require(is_finite(pair.scale), status_code::non_finite, "pair ", detail::quote(pair.name), ": scale is ",
            pair.scale, ", it must be finite");
    require_finite(pair.left.view(), "L");
    if (pair.left.cols() == 0) continue;
    matrix<float> left = pair.left;
    for (index_t i = 0; i < left.size(); ++i) left.data()[i] *= pair.scale;
    const matrix_view<const float> scaled = std::as_const(left).view();
    const bool is_embedding = pair.name == "token_embd.weight";
    add(pair.name + ".lora_a", is_embedding ? scaled : pair.right.view());
    add(pair.name + ".lora_b", is_embedding ? pair.right.view().transposed() : scaled);
  }
  write_gguf(path, gguf_adapter_metadata(architecture), entries);
}

/// Reads an adapter; changes of norms are left out, as llama.cpp does.
///
/// @throws qlr::error malformed_file: no adapter, half of a pair is missing, shapes do not fit, or a number
/// that is not finite
/// @throws qlr::error unsupported: another kind of adapter, or a tensor that is no factor
[[nodiscard]] inline gguf_adapter load_gguf_adapter(const gguf_file& file) {
  constexpr auto malformed = status_code::malformed_file;
  const auto text = [&](std::string_view key) {
    const auto found = file.metadata().find(key);
    require(found != file.metadata().end() && found->second.text().has_value(), malformed, key,
            " is missing or no text");
    return std::string(*found->second.text());
  };
  const std::string kind = text("general.type");
  require(kind == "adapter", malformed, "general.type is ", detail::quote(kind), ", expected 'adapter'");
  const std::string adapter_kind = text("adapter.type");
  require(adapter_kind == "lora", status_code::unsupported, "adapter.type is ", detail::quote(adapter_kind),
          ", readable is 'lora'");
  require(file.metadata().find("adapter.alora.invocation_tokens") == file.metadata().end(),
          status_code::unsupported, "the adapter applies behind adapter.alora.invocation_tokens only");
  const auto alpha_entry = file.metadata().find("adapter.lora.alpha");
  const double alpha =
      alpha_entry == file.metadata().end() ? 0.0 : alpha_entry->second.number().value_or(0.0);
  gguf_adapter result{text("general.architecture"), {}};
  for (const gguf_tensor_info& tensor : file.tensors()) {
    const std::string_view name = tensor.name;
    const bool is_first = name.ends_with(".lora_a");
    if (!is_first && !name.ends_with(".lora_b")) {
      require(name.ends_with("_norm.weight"), status_code::unsupported, "tensor ", detail::quote(name),
              " is no factor of a LoRA adapter");
      continue;
    }
    std::string partner(name);
    partner.back() = is_first ? 'b' : 'a';
    require(file.contains(partner), malformed, "tensor ", detail::quote(name), " needs ",
            detail::quote(partner), ", which is missing");
    if (!is_first) continue;
    gguf_adapter_pair pair{std::string(name.substr(0, name.size() - 7)), {}, {}, 1.0F};
    const gguf_tensor_info& second = file.find(partner);
    require(tensor.shape.size() == 2 && second.shape.size() == 2 && tensor.num_bytes > 0 &&
                second.num_bytes > 0,
            malformed, "pair ", detail::quote(pair.name), ": a factor has two dimensions, none of them 0");
    pair.left = file.read_matrix(partner);
    pair.right = file.read_matrix(name);
    if (pair.name == "token_embd.weight") {
      matrix<float> left = std::move(pair.right);
      pair.right = to_row_major(std::as_const(pair.left).view().transposed());
      pair.left = std::move(left);
    }
    require(pair.left.cols() == pair.right.rows(), malformed, "pair ", detail::quote(pair.name),
            ": the ranks are ", pair.left.cols(), " and ", pair.right.rows());
    pair.scale = alpha == 0.0 ? 1.0F : static_cast<float>(alpha / static_cast<double>(pair.left.cols()));
    require(is_finite(pair.scale), malformed, "adapter.lora.alpha is ", alpha, ", out of range");
    for (const matrix<float>* factor : {&pair.left, &pair.right}) {
      for (index_t i = 0; i < factor->size(); ++i) {
        require(is_finite(factor->data()[i]), malformed, "pair ", detail::quote(pair.name), ": element ", i,
                " of a factor is not finite");
      }
    }
    result.pairs.push_back(std::move(pair));
  }
  return result;
}

} // namespace qlr::io
