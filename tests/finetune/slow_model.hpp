// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// A second Llama model, token by token, written from the definitions in double.

#include <finetune_story/weights.hpp>
#include <story/tokenizer.hpp>

#include <qlr/core/matrix.hpp>

#include <cmath>
#include <complex>
#include <span>
#include <vector>

namespace qlr::test {

using numbers = std::vector<double>;

[[nodiscard]] inline double& at(numbers& x, index_t i) {
  return x[static_cast<std::size_t>(i)];
}
[[nodiscard]] inline double at(const numbers& x, index_t i) {
  return x[static_cast<std::size_t>(i)];
}
[[nodiscard]] inline numbers zeros(index_t count) {
  numbers x;
  x.resize(static_cast<std::size_t>(count));
  return x;
}

/// W x
[[nodiscard]] inline numbers slow_product(const matrix<float>& w, const numbers& x) {
  numbers y = zeros(w.rows());
  for (index_t i = 0; i < w.rows(); ++i) {
    for (index_t j = 0; j < w.cols(); ++j) at(y, i) += static_cast<double>(w(i, j)) * at(x, j);
  }
  return y;
}

[[nodiscard]] inline numbers slow_norm(const matrix<float>& weight, const numbers& x, double epsilon) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double root = std::sqrt(squares / static_cast<double>(x.size()) + epsilon);
  numbers y = x;
  for (index_t i = 0; i < weight.cols(); ++i) at(y, i) *= static_cast<double>(weight(0, i)) / root;
  return y;
}

/// The elements of a head, two by two, as complex numbers that are turned by position * base^(-2 i / size).
[[nodiscard]] inline numbers slow_rotation(const model_config& config, const numbers& x, index_t position) {
  numbers y = x;
  const index_t size = config.dim / config.num_heads;
  for (index_t j = 0; 2 * j < static_cast<index_t>(x.size()); ++j) {
    const index_t pair = j % (size / 2);
    const double turn = std::exp(-std::log(static_cast<double>(config.rope_base)) * 2.0 *
                                 static_cast<double>(pair) / static_cast<double>(size));
    const std::complex<double> turned = std::complex<double>(at(x, 2 * j), at(x, 2 * j + 1)) *
                                        std::polar(1.0, static_cast<double>(position) * turn);
    at(y, 2 * j) = turned.real();
    at(y, 2 * j + 1) = turned.imag();
  }
  return y;
}

/// What the last of the positions sees.
[[nodiscard]] inline numbers slow_attention(const model_config& config, const numbers& query,
                                            const std::vector<numbers>& keys,
                                            const std::vector<numbers>& values) {
  const index_t size = config.dim / config.num_heads;
  numbers y = zeros(config.dim);
  for (index_t head = 0; head < config.num_heads; ++head) {
    const index_t of_query = head * size;
    const index_t of_key = head * config.num_kv_heads / config.num_heads * size;
    double total = 0;
    for (std::size_t p = 0; p < keys.size(); ++p) {
      double score = 0;
      for (index_t i = 0; i < size; ++i) score += at(query, of_query + i) * at(keys[p], of_key + i);
      const double weight = std::exp(score / std::sqrt(static_cast<double>(size)));
      total += weight;
      for (index_t i = 0; i < size; ++i) at(y, of_query + i) += weight * at(values[p], of_key + i);
    }
    for (index_t i = 0; i < size; ++i) at(y, of_query + i) /= total;
  }
  return y;
}

[[nodiscard]] inline numbers slow_feed_forward(const block_weights& block, const numbers& x) {
  numbers hidden = slow_product(block.linear[gate], x);
  const numbers factor = slow_product(block.linear[up], x);
  for (std::size_t i = 0; i < hidden.size(); ++i)
    hidden[i] = hidden[i] / (1.0 + std::exp(-hidden[i])) * factor[i];
  return slow_product(block.linear[down], hidden);
}

inline void add(numbers& sum, const numbers& more) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
}

/// A block's output for every position of one text.
[[nodiscard]] inline std::vector<numbers> slow_transformer_block(const model_config& config,
                                                                 const block_weights& block,
                                                                 std::vector<numbers> x) {
  const auto epsilon = static_cast<double>(config.norm_epsilon);
  std::vector<numbers> keys;
  std::vector<numbers> values;
  for (std::size_t p = 0; p < x.size(); ++p) {
    const auto position = static_cast<index_t>(p);
    const numbers normed = slow_norm(block.attention_norm, x[p], epsilon);
    keys.push_back(slow_rotation(config, slow_product(block.linear[key], normed), position));
    values.push_back(slow_product(block.linear[value], normed));
    const numbers turned = slow_rotation(config, slow_product(block.linear[query], normed), position);
    add(x[p], slow_product(block.linear[output], slow_attention(config, turned, keys, values)));
    add(x[p], slow_feed_forward(block, slow_norm(block.mlp_norm, x[p], epsilon)));
  }
  return x;
}

/// Logits after every token of one text.
[[nodiscard]] inline std::vector<numbers> slow_logits(const model_weights& weights,
                                                      std::span<const token_t> tokens) {
  std::vector<numbers> x;
  for (const token_t token : tokens) {
    const float* row = weights.embedding.view().row(token);
    x.emplace_back(row, row + weights.embedding.cols());
  }
  for (const block_weights& block : weights.blocks)
    x = slow_transformer_block(weights.config, block, std::move(x));
  for (numbers& one : x) {
    one = slow_product(weights.embedding,
                       slow_norm(weights.final_norm, one, static_cast<double>(weights.config.norm_epsilon)));
  }
  return x;
}

/// -log softmax(logits)[target]
[[nodiscard]] inline double slow_cross_entropy(const numbers& logits, token_t target) {
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - at(logits, target));
  return std::log(sum);
}

} // namespace qlr::test
