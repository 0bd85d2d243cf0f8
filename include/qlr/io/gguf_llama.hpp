// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/detail/gguf_names.hpp>
#include <qlr/io/detail/json_object.hpp>
#include <qlr/io/detail/text.hpp>
#include <qlr/io/gguf.hpp>
#include <qlr/io/gguf_writer.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

/// Rows of q_proj and k_proj are in another order in GGUF files: there the two halves of a rotated pair
/// follow one another, in a checkpoint of transformers they are half a head apart.
///
/// @param rows       of the matrix, a multiple of 2 heads
/// @param num_heads  of the matrix: attention heads of q_proj, key heads of k_proj
/// @returns the row of the checkpoint for every row of the GGUF file
[[nodiscard]] inline std::vector<index_t> gguf_row_order(index_t rows, index_t num_heads) {
  require(num_heads > 0 && rows > 0 && rows % (2 * num_heads) == 0, status_code::invalid_argument, "rows is ",
          rows, ", it must be a multiple of twice the heads, which are ", num_heads);
  const index_t head = rows / num_heads;
  std::vector<index_t> order(static_cast<std::size_t>(rows));
  for (index_t i = 0; i < rows; ++i) {
    const index_t in_head = i % head;
    order[static_cast<std::size_t>(i)] = i - in_head + in_head % 2 * (head / 2) + in_head / 2;
  }
  return order;
}

/// Row order[i] of a matrix as row i of the result.
[[nodiscard]] inline matrix<float> permute_rows(matrix_view<const float> values,
                                                std::span<const index_t> order) {
  require(static_cast<index_t>(order.size()) == values.rows(), status_code::shape_mismatch, "order has ",
          order.size(), " entries, the matrix has ", values.rows(), " rows");
  matrix<float> result(values.rows(), values.cols());
  for (index_t i = 0; i < values.rows(); ++i) {
    for (index_t j = 0; j < values.cols(); ++j) result(i, j) = values(order[static_cast<std::size_t>(i)], j);
  }
  return result;
}

/// Row order[i] of a quantized matrix as row i of the result, without any loss.
///
/// @throws qlr::error shape_mismatch: as many rows as entries are needed
/// @throws qlr::error unsupported: scales that are not stored one by one, one scale for all, or zero points
[[nodiscard]] inline quantized_matrix permute_rows(const quantized_matrix& q,
                                                   std::span<const index_t> order) {
  const quantized_layout& layout = q.layout();
  require(static_cast<index_t>(order.size()) == layout.rows, status_code::shape_mismatch, "order has ",
          order.size(), " entries, the matrix has ", layout.rows, " rows");
  const bool is_plain =
      !layout.scales.is_double() && layout.group_size != group_per_tensor && layout.zeros == zero_point::none;
  require(is_plain, status_code::unsupported, "rows with ", to_string(layout.scales),
          " scales cannot be moved; allowed are plain scales of groups, without zero points");
  const auto code_bytes = static_cast<std::size_t>(layout.row_bytes());
  const auto scale_bytes =
      static_cast<std::size_t>(layout.groups_per_row() * scale_type_bytes(layout.scales.type));
  std::vector<std::uint8_t> codes(q.codes().size());
  stored_scales scales = q.scales();
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto from = static_cast<std::size_t>(order[i]);
    std::memcpy(codes.data() + i * code_bytes, q.codes().data() + from * code_bytes, code_bytes);
    std::memcpy(scales.codes.data() + i * scale_bytes, q.scales().codes.data() + from * scale_bytes,
                scale_bytes);
  }
  return {q.format_name(), layout, q.levels(), std::move(codes), std::move(scales), {}};
}

/// What a GGUF file of a Llama model has to say besides its weights, from the config.json of its checkpoint.
///
/// Models with Llama's layers: architectures LlamaForCausalLM and MistralForCausalLM.
class gguf_llama {
public:
  /// @param config  text of config.json
  /// @throws qlr::error malformed_file: no JSON object, or a number that is missing or impossible
  /// @throws qlr::error unsupported: another architecture, scaled rotary embeddings, biases
  explicit gguf_llama(std::string_view config) {
    const std::optional<nlohmann::ordered_json> values = detail::parse_json_object(config, 64);
    require(values.has_value(), status_code::malformed_file, "config.json is not a JSON object");
    check_architecture(*values);
    heads_ = size(*values, "num_attention_heads", 0);
    key_heads_ = size(*values, "num_key_value_heads", heads_);
    const index_t width = size(*values, "hidden_size", 0);
    require(width % heads_ == 0, status_code::malformed_file, "config.json: hidden_size is ", width,
            ", it must be a multiple of num_attention_heads, which is ", heads_);
    const index_t head = size(*values, "head_dim", width / heads_);
    set("block_count", size(*values, "num_hidden_layers", 0));
    set("context_length", size(*values, "max_position_embeddings", 0));
    set("embedding_length", width);
    set("feed_forward_length", size(*values, "intermediate_size", 0));
    set("attention.head_count", heads_);
    set("attention.head_count_kv", key_heads_);
    set("attention.key_length", head);
    set("attention.value_length", head);
    set("rope.dimension_count", head);
    set("vocab_size", size(*values, "vocab_size", 0));
    metadata_.insert_or_assign("llama.attention.layer_norm_rms_epsilon",
                               number(*values, "rms_norm_eps", 1e-6));
    metadata_.insert_or_assign("llama.rope.freq_base", number(*values, "rope_theta", 10000.0));
    metadata_.insert_or_assign("general.architecture", architecture());
    metadata_.insert_or_assign("general.type", "model");
    metadata_.insert_or_assign("general.quantization_version", std::uint32_t{2});
    metadata_.insert_or_assign("tokenizer.ggml.model", "no_vocab"); // until copy_vocabulary
  }

  [[nodiscard]] static const char* architecture() { return "llama"; }

  /// Takes the tokenizer of another file of the same model.
  ///
  /// @throws qlr::error invalid_argument: it has none
  void copy_vocabulary(const gguf_file& file) {
    const std::string_view start = "tokenizer.";
    bool is_found = false;
    for (const auto& [key, value] : file.metadata()) {
      if (!std::string_view(key).starts_with(start)) continue;
      metadata_.insert_or_assign(key, value);
      is_found = true;
    }
    require(is_found, status_code::invalid_argument, "the file has no metadata named tokenizer.*");
  }

  /// Metadata of a file whose matrices are mostly of one type.
  [[nodiscard]] gguf_metadata metadata(gguf_tensor_type type) const {
    gguf_metadata result = metadata_;
    result.insert_or_assign("general.file_type", file_type(type));
    return result;
  }

  /// Name in a GGUF file of a tensor of the checkpoint.
  ///
  /// @throws qlr::error unsupported: models with Llama's layers have no such tensor
  [[nodiscard]] static std::string name_of(std::string_view tensor) {
    std::string name = detail::gguf_tensor_name_of(tensor);
    require(!name.empty(), status_code::unsupported, "tensor ", detail::quote(tensor),
            " is none of a model with Llama's layers");
    return name;
  }

  /// The order of the rows of a tensor in a GGUF file; empty where it is that of the checkpoint.
  [[nodiscard]] std::vector<index_t> row_order(std::string_view tensor, index_t rows) const {
    if (tensor.ends_with("self_attn.q_proj.weight")) return gguf_row_order(rows, heads_);
    if (tensor.ends_with("self_attn.k_proj.weight")) return gguf_row_order(rows, key_heads_);
    return {};
  }

private:
  static void check_architecture(const nlohmann::ordered_json& config) {
    const auto found = config.find("architectures");
    const bool is_named =
        found != config.end() && found->is_array() && found->size() == 1 && (*found)[0].is_string();
    const std::string name = is_named ? (*found)[0].get<std::string>() : "missing";
    require(name == "LlamaForCausalLM" || name == "MistralForCausalLM", status_code::unsupported,
            "config.json: architectures is ", detail::quote(name),
            ", allowed are LlamaForCausalLM and MistralForCausalLM");
    for (const char* const key : {"attention_bias", "mlp_bias"}) {
      const auto bias = config.find(key);
      const bool has_bias = bias != config.end() && bias->is_boolean() && bias->get<bool>();
      require(!has_bias, status_code::unsupported, "config.json: ", key, " is true, allowed is false");
    }
    const auto scaling = config.find("rope_scaling");
    require(scaling == config.end() || scaling->is_null(), status_code::unsupported,
            "config.json: rope_scaling is given, allowed is null: no scaling");
  }

  /// @param otherwise  what a missing number is; 0: it must be there
  static index_t size(const nlohmann::ordered_json& config, const char* key, index_t otherwise) {
    const auto found = config.find(key);
    if ((found == config.end() || found->is_null()) && otherwise > 0) return otherwise;
    constexpr index_t largest = 0x7FFFFFFF;
    const std::optional<index_t> value = found == config.end() ? std::nullopt : detail::whole_member(*found);
    require(value.has_value() && *value >= 1 && *value <= largest, status_code::malformed_file,
            "config.json: ", key, " is missing or no whole number from 1 to ", largest);
    return *value;
  }

  static float number(const nlohmann::ordered_json& config, const char* key, double otherwise) {
    const auto found = config.find(key);
    const double value = found == config.end() ? otherwise : found->is_number() ? found->get<double>() : 0.0;
    require(value > 0 && is_finite(static_cast<float>(value)), status_code::malformed_file,
            "config.json: ", key, " is no number above 0");
    return static_cast<float>(value);
  }

  void set(const std::string& key, index_t value) {
    metadata_.insert_or_assign(std::string(architecture()) + "." + key, static_cast<std::uint32_t>(value));
  }

  /// As llama.cpp numbers them.
  static std::uint32_t file_type(gguf_tensor_type type) {
    switch (type) {
    case gguf_tensor_type::f32:
      return 0;
    case gguf_tensor_type::f16:
      return 1;
    case gguf_tensor_type::q4_0:
      return 2;
    case gguf_tensor_type::q8_0:
      return 7;
    case gguf_tensor_type::iq4_nl:
      return 25;
    case gguf_tensor_type::bf16:
      return 32;
    }
    return 0;
  }

  index_t heads_ = 0;
  index_t key_heads_ = 0;
  gguf_metadata metadata_;
};

} // namespace qlr::io
