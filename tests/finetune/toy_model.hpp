// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/transformer.hpp>

#include <qlr/train/dense_layer.hpp>

#include <support/generators.hpp>

#include <cstdint>
#include <utility>
#include <vector>

namespace qlr::test {

/// A Llama model of two blocks with odd sizes.
[[nodiscard]] inline model_config toy_config(index_t num_kv_heads, index_t num_tokens = 17) {
  model_config config;
  config.dim = 12;
  config.hidden_dim = 20;
  config.num_layers = 2;
  config.num_heads = 3;
  config.num_kv_heads = num_kv_heads;
  config.num_tokens = num_tokens;
  config.context = 70;
  config.norm_epsilon = 1e-2F; // large enough that leaving it out shows
  config.rope_base = 100.0F;
  return config;
}

inline void add_noise(matrix<float>& values, random_source& random, double deviation) {
  for (index_t i = 0; i < values.size(); ++i)
    values.data()[i] += static_cast<float>(deviation * random.normal());
}

/// Weights so large that every part of the model is far from linear; no norm is 1.
[[nodiscard]] inline model_weights toy_weights(const model_config& config, std::uint64_t seed = 1) {
  random_source random(seed);
  model_weights weights = random_weights(config, seed);
  add_noise(weights.embedding, random, 0.8);
  add_noise(weights.final_norm, random, 0.3);
  for (block_weights& block : weights.blocks) {
    add_noise(block.attention_norm, random, 0.3);
    add_noise(block.mlp_norm, random, 0.3);
    for (matrix<float>& weight : block.linear) add_noise(weight, random, 0.5);
  }
  return weights;
}

template <class T>
[[nodiscard]] layer_factory<T> dense_factory() {
  return [](index_t /*block*/, linear_layer /*which*/, matrix_view<const float> weight) {
    return train::any_layer<T>(train::dense_layer<T>(weight));
  };
}

template <class T>
[[nodiscard]] transformer<T> toy_model(const model_config& config, std::uint64_t seed = 1) {
  return transformer<T>(toy_weights(config, seed), dense_factory<T>(), trained_parts::everything);
}

/// Random tokens and targets in memory of their own.
struct toy_batch {
  batch_shape shape;
  std::vector<token_t> tokens;
  std::vector<token_t> targets;

  toy_batch(batch_shape size, const model_config& config, std::uint64_t seed = 7) : shape(size) {
    random_source random(seed);
    for (index_t i = 0; i < size.tokens(); ++i) {
      tokens.push_back(static_cast<token_t>(random.below(config.num_tokens)));
      targets.push_back(static_cast<token_t>(random.below(config.num_tokens)));
    }
  }
  [[nodiscard]] token_batch view() const { return {shape, tokens, targets}; }
};

} // namespace qlr::test
