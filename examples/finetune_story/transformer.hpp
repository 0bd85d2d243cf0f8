// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/batch.hpp>
#include <finetune_story/block.hpp>
#include <finetune_story/cross_entropy.hpp>
#include <finetune_story/norm.hpp>
#include <finetune_story/product.hpp>
#include <finetune_story/weights.hpp>

#include <qlr/core/parallel.hpp>
#include <qlr/core/status.hpp>
#include <qlr/train/any_layer.hpp>
#include <qlr/train/parameter.hpp>

#include <algorithm>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

/// What of a model learns.
enum class trained_parts {
  layers,    ///< the linear layers of the blocks; norms and embedding stay as they are
  everything ///< norms and embedding too; the embedding has the gradients of both its uses
};

/// A Llama model that learns: forward and backward of the whole, written out by hand.
///
/// Activations lie in buffers that later calls use again; a batch that is not larger than one before takes no
/// memory but what the layers take. Results have the same bits on any number of threads.
/// @tparam T  what is computed with: float, or double to check gradients
template <class T>
class transformer {
public:
  /// @param make_layer  called for every linear layer, block by block in the order of linear_names
  /// @throws qlr::error shape_mismatch: a layer has another shape than its weight
  transformer(const model_weights& weights, const layer_factory<T>& make_layer,
              trained_parts trained = trained_parts::layers)
      : config_(weights.config), trains_everything_(trained == trained_parts::everything),
        embedding_(weights.embedding.rows(), weights.embedding.cols()),
        final_norm_(weights.final_norm.view(), static_cast<double>(weights.config.norm_epsilon)) {
    embedding_.assign(weights.embedding.view());
    for (const block_weights& block : weights.blocks)
      blocks_.emplace_back(config_, block, num_blocks(), make_layer, trains_everything_);
  }

  [[nodiscard]] const model_config& config() const { return config_; }
  [[nodiscard]] qlr::index_t num_blocks() const { return static_cast<qlr::index_t>(blocks_.size()); }
  [[nodiscard]] transformer_block<T>& block(qlr::index_t index) {
    return blocks_[static_cast<std::size_t>(index)];
  }
  [[nodiscard]] qlr::train::any_layer<T>& layer(qlr::index_t index, linear_layer which) {
    return block(index).layer(which);
  }

  /// The mean cross entropy of the targets that count; keeps what backward needs.
  ///
  /// @throws qlr::error invalid_argument: sizes that contradict each other, a token outside the vocabulary,
  /// no target that counts, or a text longer than the context
  double forward(const token_batch& batch, const qlr::executor& run = {}) {
    check_targets(batch);
    tokens_.assign(batch.tokens.begin(), batch.tokens.end());
    enter(batch.shape, batch.tokens, training_);
    const qlr::matrix_view<T> stream = training_.stream.view();
    for (transformer_block<T>& block : blocks_) block.forward(batch.shape, stream, stream, run);
    leave(training_, run);
    return differentiate_cross_entropy(training_.logits.view(), batch.targets);
  }

  /// Adds the gradients of the last forward's loss to those of all parameters.
  ///
  /// @pre forward was called
  void backward(const qlr::executor& run = {}) {
    const qlr::matrix_view<T> grad = backward_head(run);
    for (qlr::index_t k = num_blocks(); k-- > 0;) {
      const bool wants_x = k > 0 || trains_everything_;
      block(k).backward(grad, wants_x ? grad : qlr::matrix_view<T>(), run);
    }
    if (!trains_everything_) return;
    for (qlr::index_t t = 0; t < grad.rows(); ++t) {
      T* to = embedding_.gradient().view().row(tokens_[static_cast<std::size_t>(t)]);
      for (qlr::index_t i = 0; i < grad.cols(); ++i) to[i] += grad(t, i);
    }
  }

  /// The mean cross entropy alone; what the last forward has kept for backward stays.
  ///
  /// @throws qlr::error as forward
  [[nodiscard]] double evaluate(const token_batch& batch, const qlr::executor& run = {}) {
    check_targets(batch);
    read(batch.shape, batch.tokens, run);
    return differentiate_cross_entropy(evaluating_.logits.view(), batch.targets);
  }

  /// The logits after every token (t, vocabulary), valid until the next call of logits or evaluate; what the
  /// last forward has kept for backward stays.
  ///
  /// @throws qlr::error as forward
  [[nodiscard]] qlr::matrix_view<const T> logits(batch_shape shape, std::span<const token_t> tokens,
                                                 const qlr::executor& run = {}) {
    read(shape, tokens, run);
    return evaluating_.logits.view();
  }

  /// What the first block reads: the embedding of every token (t, dim).
  ///
  /// @throws qlr::error invalid_argument: a token outside the vocabulary
  void embed(std::span<const token_t> tokens, qlr::matrix_view<T> x) const {
    for (qlr::index_t t = 0; t < x.rows(); ++t) {
      const token_t token = tokens[static_cast<std::size_t>(t)];
      qlr::require(token >= 0 && token < config_.num_tokens, qlr::status_code::invalid_argument, "token ", t,
                   " is ", token, ", allowed are 0 to ", config_.num_tokens - 1);
      std::copy_n(embedding_.values().view().row(token), config_.dim, x.row(t));
    }
  }

  /// All that learns, always in the same order; the names are those of checkpoints, with what the layers call
  /// their own parts behind.
  [[nodiscard]] std::vector<qlr::train::parameter_view<T>> parameters(const std::string& prefix = {}) {
    std::vector<qlr::train::parameter_view<T>> all;
    if (trains_everything_) all.push_back(embedding_.view(prefix + embedding_name));
    for (qlr::index_t k = 0; k < num_blocks(); ++k) {
      auto some = block(k).parameters(block_prefix(prefix, k));
      std::move(some.begin(), some.end(), std::back_inserter(all));
    }
    if (trains_everything_) all.push_back(final_norm_.weight().view(prefix + final_norm_name));
    return all;
  }
  /// Bytes of all weights, gradients excluded.
  [[nodiscard]] qlr::index_t stored_bytes() const {
    qlr::index_t bytes =
        (embedding_.size() + final_norm_.weight().size()) * static_cast<qlr::index_t>(sizeof(T));
    for (const transformer_block<T>& block : blocks_) bytes += block.stored_bytes();
    return bytes;
  }
  /// See qlr/train/state.hpp; norms and embedding that are not trained are no part of it.
  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    for (qlr::index_t k = 0; k < num_blocks(); ++k) block(k).visit_state(archive, block_prefix(prefix, k));
    if (!trains_everything_) return;
    archive.values(prefix + embedding_name, embedding_.values());
    archive.values(prefix + final_norm_name, final_norm_.weight().values());
  }

private:
  static constexpr const char* embedding_name = "model.embed_tokens.weight";
  static constexpr const char* final_norm_name = "model.norm.weight";
  static constexpr qlr::index_t rows_per_task = 64;

  /// The two ends of a pass through the blocks.
  struct ends {
    buffer<T> stream;  ///< (t, dim): what the blocks read and write
    buffer<T> factors; ///< (t, 1)
    buffer<T> normed;  ///< (t, dim): what the head reads
    buffer<T> logits;  ///< (t, vocabulary); after a loss its gradient
  };

  static std::string block_prefix(const std::string& prefix, qlr::index_t index) {
    return qlr::sentence(prefix, "model.layers.", index, ".");
  }

  void check_targets(const token_batch& batch) const {
    qlr::require(batch.targets.size() == batch.tokens.size(), qlr::status_code::invalid_argument,
                 "the batch has ", batch.tokens.size(), " tokens and ", batch.targets.size(),
                 " targets, these must be as many");
    for (const token_t target : batch.targets) {
      qlr::require(target >= token_batch::not_counted && target < config_.num_tokens,
                   qlr::status_code::invalid_argument, "a target is ", target, ", allowed are -1 to ",
                   config_.num_tokens - 1);
    }
  }

  void enter(batch_shape shape, std::span<const token_t> tokens, ends& at) const {
    check_batch_shape(config_, shape);
    qlr::require(static_cast<qlr::index_t>(tokens.size()) == shape.tokens(),
                 qlr::status_code::invalid_argument, "the batch has ", tokens.size(), " tokens, ",
                 shape.sequences, " texts of ", shape.length, " need ", shape.tokens());
    embed(tokens, at.stream.shape(shape.tokens(), config_.dim));
  }

  /// Logits from the stream after the blocks.
  void leave(ends& at, const qlr::executor& run) const {
    const qlr::index_t tokens = at.stream.view().rows();
    const qlr::matrix_view<T> x = at.normed.shape(tokens, config_.dim);
    final_norm_.forward(at.stream.view(), x, at.factors.shape(tokens, 1));
    const qlr::matrix_view<T> y = at.logits.shape(tokens, config_.num_tokens);
    qlr::for_each_range(run, tokens, rows_per_task, [&](qlr::index_t begin, qlr::index_t end) {
      write_product(as_eigen(y.middle_rows(begin, end - begin)), as_eigen(x.middle_rows(begin, end - begin)),
                    as_eigen(embedding_.values().view()).transpose());
    });
  }

  /// A pass that keeps nothing for backward: all blocks share one set of activations.
  void read(batch_shape shape, std::span<const token_t> tokens, const qlr::executor& run) {
    enter(shape, tokens, evaluating_);
    const qlr::matrix_view<T> stream = evaluating_.stream.view();
    for (const transformer_block<T>& block : blocks_) block.forward(shape, stream, stream, unkept_, run);
    leave(evaluating_, run);
  }

  /// The gradient of what the last block wrote, from that of the logits.
  qlr::matrix_view<T> backward_head(const qlr::executor& run) {
    const qlr::index_t tokens = training_.stream.view().rows();
    const qlr::matrix_view<T> grad_logits = training_.logits.view();
    const qlr::matrix_view<T> grad_normed = grad_normed_.shape(tokens, config_.dim);
    qlr::for_each_range(run, tokens, rows_per_task, [&](qlr::index_t begin, qlr::index_t end) {
      write_product(as_eigen(grad_normed.middle_rows(begin, end - begin)),
                    as_eigen(grad_logits.middle_rows(begin, end - begin)),
                    as_eigen(embedding_.values().view()));
    });
    if (trains_everything_) {
      add_head_gradient(grad_logits, run);
      final_norm_.add_weight_gradient(training_.stream.view(), training_.factors.view(), grad_normed);
    }
    const qlr::matrix_view<T> grad = grad_stream_.shape(tokens, config_.dim);
    as_eigen(grad).setZero();
    final_norm_.backward(training_.stream.view(), training_.factors.view(), grad_normed, grad);
    return grad;
  }

  void add_head_gradient(qlr::matrix_view<T> grad_logits, const qlr::executor& run) {
    const qlr::matrix_view<T> gradient = embedding_.gradient().view();
    qlr::for_each_range(run, config_.num_tokens, rows_per_task, [&](qlr::index_t begin, qlr::index_t end) {
      add_product(as_eigen(gradient.middle_rows(begin, end - begin)),
                  as_eigen(middle_columns(grad_logits, begin, end - begin)).transpose(),
                  as_eigen(training_.normed.view()));
    });
  }

  model_config config_;
  bool trains_everything_;
  qlr::train::parameter<T> embedding_; ///< (vocabulary, dim), the head too
  rms_norm<T> final_norm_;
  std::vector<transformer_block<T>> blocks_;
  std::vector<token_t> tokens_; ///< of the last forward
  ends training_;
  ends evaluating_;
  block_activations<T> unkept_;
  buffer<T> grad_normed_; ///< (t, dim)
  buffer<T> grad_stream_; ///< (t, dim)
};
