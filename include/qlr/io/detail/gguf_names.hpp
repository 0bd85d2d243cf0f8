// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace qlr::io::detail {

/// Layers of the usual decoder models: name in a checkpoint, name in a GGUF file.
inline constexpr std::array<std::pair<std::string_view, std::string_view>, 7> gguf_layer_names = {
    {{"self_attn.q_proj", "attn_q"},
     {"self_attn.k_proj", "attn_k"},
     {"self_attn.v_proj", "attn_v"},
     {"self_attn.o_proj", "attn_output"},
     {"mlp.gate_proj", "ffn_gate"},
     {"mlp.up_proj", "ffn_up"},
     {"mlp.down_proj", "ffn_down"}}};

/// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; empty for a name of another form.
[[nodiscard]] inline std::string gguf_name_of(std::string_view name) {
  constexpr std::string_view ending = ".weight";
  if (name == "lm_head.weight") return "output.weight";
  const std::string_view start = "model.layers.";
  if (!name.starts_with(start) || !name.ends_with(ending)) return {};
  name.remove_prefix(start.size());
  name.remove_suffix(ending.size());
  const std::size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos) return {};
  const std::string_view block = name.substr(0, dot);
  if (block.find_first_not_of("0123456789") != std::string_view::npos) return {};
  for (const auto& [layer, gguf_layer] : gguf_layer_names) {
    if (name.substr(dot + 1) != layer) continue;
    return "blk." + std::string(block) + "." + std::string(gguf_layer) + std::string(ending);
  }
  return {};
}

/// The same for every tensor of such a model, norms and embeddings among them.
[[nodiscard]] inline std::string gguf_tensor_name_of(std::string_view name) {
  constexpr std::string_view ending = ".weight";
  if (name == "model.embed_tokens.weight") return "token_embd.weight";
  if (name == "model.norm.weight") return "output_norm.weight";
  for (const auto& [layer, gguf_layer] :
       {std::pair<std::string_view, std::string_view>{"input_layernorm", "attn_norm"},
        {"post_attention_layernorm", "ffn_norm"}}) {
    const std::string tail = "." + std::string(layer) + std::string(ending);
    if (!name.ends_with(tail)) continue;
    // The block number of a layer that gguf_name_of knows.
    const std::string block =
        gguf_name_of(std::string(name.substr(0, name.size() - tail.size())) + ".mlp.up_proj.weight");
    return block.empty() ? block
                         : block.substr(0, block.size() - std::string_view("ffn_up.weight").size()) +
                               std::string(gguf_layer) + std::string(ending);
  }
  return gguf_name_of(name);
}

} // namespace qlr::io::detail
