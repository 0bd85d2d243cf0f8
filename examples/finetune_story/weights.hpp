// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <story/checkpoint.hpp>

#include <qlr/core/matrix.hpp>

#include <array>
#include <cstdint>
#include <vector>

/// The weights of one block, in memory of its own.
struct block_weights {
  qlr::matrix<float> attention_norm; ///< (1, dim)
  qlr::matrix<float> mlp_norm;       ///< (1, dim)
  std::array<qlr::matrix<float>, num_linear_layers> linear;
};

/// The weights that a model starts to learn from; its head is the embedding.
struct model_weights {
  model_config config;
  qlr::matrix<float> embedding;  ///< (vocabulary, dim)
  qlr::matrix<float> final_norm; ///< (1, dim)
  std::vector<block_weights> blocks;
};

/// @throws qlr::error unsupported: a head of its own, or a compressed linear layer
[[nodiscard]] model_weights copy_weights(const checkpoint& source);

/// What pre-training begins with: norms 1; all else normal with standard deviation 0.02, the layers that
/// write to the residual stream (output, down) divided by sqrt(2 num_layers), so that the stream does not
/// grow with depth.
///
/// @param config  has_tied_head must be true
/// @throws qlr::error unsupported: it is not
/// @determinism same seed gives the same bits: yes
[[nodiscard]] model_weights random_weights(const model_config& config, std::uint64_t seed);
