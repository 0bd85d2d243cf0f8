// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/io/checkpoint.hpp>

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// The shape of a Llama model, from the "config" of a checkpoint's metadata.
struct model_config {
  qlr::index_t dim = 0;
  qlr::index_t hidden_dim = 0;
  qlr::index_t num_layers = 0;
  qlr::index_t num_heads = 0;
  qlr::index_t num_kv_heads = 0;
  qlr::index_t num_tokens = 0; ///< of the vocabulary
  qlr::index_t context = 0;    ///< tokens of the longest text
  bool has_tied_head = true;
  float norm_epsilon = 1e-5F;
  float rope_base = 10000.0F;

  [[nodiscard]] qlr::index_t head_dim() const { return dim / num_heads; }
  [[nodiscard]] qlr::index_t kv_dim() const { return num_kv_heads * head_dim(); }
  friend bool operator==(const model_config&, const model_config&) = default;
};

/// The linear layers of a block, in the order of `linear_names`.
enum linear_layer { query, key, value, output, gate, up, down, num_linear_layers };

inline constexpr std::array<std::string_view, num_linear_layers> linear_names{
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

/// A float tensor in the mapped file, or a copy where the file has another type or a decomposition.
class tensor {
public:
  tensor() = default;
  /// @throws qlr::error malformed_file: the tensor has another shape;  non_finite: NaN or infinity
  tensor(const qlr::io::checkpoint_folder& files, const std::string& name, qlr::index_t rows,
         qlr::index_t cols);
  tensor(tensor&&) = default; // a copy of this object would refer to the memory of the first
  tensor& operator=(tensor&&) = default;

  [[nodiscard]] qlr::matrix_view<const float> view() const { return view_; }
  [[nodiscard]] const float* data() const { return view_.data(); }

private:
  qlr::matrix<float> copy_; ///< moving it keeps its elements where they are
  qlr::matrix_view<const float> view_;
};

/// The weights of one block.
struct checkpoint_block {
  tensor attention_norm;
  tensor mlp_norm;
  std::array<tensor, num_linear_layers> linear; ///< empty where the checkpoint has it compressed
};

/// A Llama checkpoint with the names of Hugging Face, rotary embedding over interleaved pairs; its linear
/// layers may be compressed.
///
/// Nothing in the files is trusted.
class checkpoint {
public:
  /// @param path  a file, or the folder of several
  /// @throws qlr::error as checkpoint_folder; malformed_file: the configuration lacks a number, contradicts
  /// itself or the tensors;  unsupported: another rotary layout
  explicit checkpoint(const std::string& path);

  [[nodiscard]] const model_config& config() const { return config_; }
  [[nodiscard]] const std::vector<checkpoint_block>& blocks() const { return blocks_; }
  [[nodiscard]] qlr::matrix_view<const float> embedding() const { return embedding_.view(); }
  [[nodiscard]] qlr::matrix_view<const float> head() const {
    return config_.has_tied_head ? embedding_.view() : head_.view();
  }
  [[nodiscard]] const float* final_norm() const { return final_norm_.data(); }
  [[nodiscard]] const qlr::io::checkpoint_folder& files() const { return files_; }
  /// Whether the files have any linear layer of the blocks compressed.
  [[nodiscard]] bool is_compressed() const;

private:
  qlr::io::checkpoint_folder files_;
  model_config config_;
  tensor embedding_;
  tensor head_;
  tensor final_norm_;
  std::vector<checkpoint_block> blocks_;
};

/// (rows, cols) of a linear layer's weight.
[[nodiscard]] std::pair<qlr::index_t, qlr::index_t> linear_shape(const model_config& config, int layer);

/// The name of a linear layer's weight in the file.
[[nodiscard]] std::string linear_name(qlr::index_t block, int layer);
