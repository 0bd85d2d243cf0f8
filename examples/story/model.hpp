// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <story/checkpoint.hpp>
#include <story/linear.hpp>
#include <story/tokenizer.hpp>

#include <qlr/core/matrix.hpp>

#include <span>
#include <vector>

/// A Llama model: norms and embeddings of a checkpoint, linear layers as they are or compressed.
struct model {
  const checkpoint& weights;  ///< must outlive the model
  std::vector<linear> layers; ///< num_linear_layers for each block
};

/// The model with the checkpoint's own weights.
[[nodiscard]] model make_dense_model(const checkpoint& weights);

/// One text that a model reads and continues: keys and values of its tokens, and all memory this takes.
class session {
public:
  /// Tokens that pass through the layers together.
  static constexpr qlr::index_t chunk_tokens = 64;

  /// @param source   must outlive the session
  /// @param context  tokens of the longest text, at most the model's
  /// @param run      must outlive the session
  session(const model& source, qlr::index_t context, qlr::precision mode, const qlr::executor& run);

  /// Begins another text.
  void clear() { position_ = 0; }
  /// Of the vocabulary.
  [[nodiscard]] qlr::index_t num_tokens() const { return config_.num_tokens; }

  /// Reads tokens and writes the logits that follow the last logits.rows() of them; allocates nothing.
  ///
  /// @param[out] logits  (at most tokens, vocabulary)
  /// @throws qlr::error invalid_argument: the text becomes longer than the context
  void read(std::span<const token_t> tokens, qlr::matrix_view<float> logits);

private:
  void read_chunk(std::span<const token_t> tokens, qlr::matrix_view<float> logits);
  void attend(qlr::index_t block, qlr::index_t tokens);
  void attend_head(qlr::index_t block, qlr::index_t head, qlr::index_t tokens);
  void feed_forward(qlr::index_t block, qlr::index_t tokens);
  /// Adds X W^T to the residual stream.
  void add_product(qlr::index_t block, linear_layer layer, qlr::matrix_view<const float> x);
  /// Root-mean-square normalisation of rows first, ... of the stream into rows 0, ... of normalised_.
  void normalise(const float* weight, qlr::index_t first, qlr::index_t tokens);
  /// Rotates neighbouring elements of every head by the angle of their position.
  void rotate(qlr::matrix_view<float> vectors) const;
  [[nodiscard]] const linear& layer(qlr::index_t block, linear_layer which) const;
  /// Keys or values of a block for tokens first, ...: (t, kv_dim), neighbouring tokens side by side.
  [[nodiscard]] qlr::matrix_view<float> columns_of(qlr::matrix<float>& cache, qlr::index_t block,
                                                   qlr::index_t first, qlr::index_t tokens) const;

  const model& model_;
  const model_config& config_;
  qlr::index_t context_;
  qlr::index_t position_ = 0;
  multiplier multiply_;
  linear head_;
  qlr::matrix<float> keys_;       ///< (block * kv_dim + element, position): loops over positions vectorise
  qlr::matrix<float> values_;     ///< likewise
  qlr::matrix<float> angles_;     ///< (position, head_dim): cosine and sine of every pair
  qlr::matrix<float> stream_;     ///< (t, dim): the residual stream
  qlr::matrix<float> normalised_; ///< (t, dim)
  qlr::matrix<float> queries_;    ///< (t, dim); later what is added to the stream
  qlr::matrix<float> attended_;   ///< (t, dim)
  qlr::matrix<float> gate_;       ///< (t, hidden_dim)
  qlr::matrix<float> up_;         ///< (t, hidden_dim)
  qlr::matrix<float> scores_;     ///< (head, position)
};
