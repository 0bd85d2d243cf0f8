// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/attention.hpp>
#include <finetune_story/batch.hpp>
#include <finetune_story/norm.hpp>
#include <finetune_story/rotary.hpp>
#include <finetune_story/weights.hpp>

#include <qlr/core/parallel.hpp>
#include <qlr/core/status.hpp>
#include <qlr/train/any_layer.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

/// Makes the layer of a weight: the block, which of its layers, and the weight (m,n) the layer starts from.
template <class T>
using layer_factory = std::function<qlr::train::any_layer<T>(qlr::index_t block, linear_layer which,
                                                             qlr::matrix_view<const float> weight)>;

/// What a block keeps of a forward pass, one row per token.
template <class T>
struct block_activations {
  batch_shape shape;
  buffer<T> input;              ///< (t, dim)
  buffer<T> attention_factors;  ///< (t, 1)
  buffer<T> attention_input;    ///< (t, dim): what query, key and value read
  buffer<T> queries, attended;  ///< (t, dim)
  buffer<T> keys, values;       ///< (t, kv_dim)
  buffer<T> probabilities;      ///< (sequences * num_heads * length, length)
  buffer<T> middle;             ///< (t, dim): input + attention
  buffer<T> mlp_factors;        ///< (t, 1)
  buffer<T> mlp_input;          ///< (t, dim): what gate and up read
  buffer<T> gates, ups, hidden; ///< (t, hidden_dim); hidden is what down reads
};

/// @throws qlr::error invalid_argument: no text, or one that is empty or longer than the context
inline void check_batch_shape(const model_config& config, batch_shape shape) {
  qlr::require(shape.sequences >= 1 && shape.length >= 1 && shape.length <= config.context,
               qlr::status_code::invalid_argument, "batch is ", shape.sequences, " texts of ", shape.length,
               " tokens, allowed are 1 text and above of 1 to ", config.context, " tokens");
}

/// A block of a Llama model: h = x + output(attention(norm(x))), y = h + down(silu(gate(n)) up(n)) with
/// n = norm(h). It may be used alone.
template <class T>
class transformer_block {
public:
  /// @param index         given to make_layer
  /// @param trains_norms  whether the norms are among the parameters
  /// @throws qlr::error shape_mismatch: a layer has another shape than its weight
  transformer_block(const model_config& config, const block_weights& weights, qlr::index_t index,
                    const layer_factory<T>& make_layer, bool trains_norms = false)
      : config_(config), trains_norms_(trains_norms), rotary_(config), attention_(config),
        attention_norm_(weights.attention_norm.view(), static_cast<double>(config.norm_epsilon)),
        mlp_norm_(weights.mlp_norm.view(), static_cast<double>(config.norm_epsilon)) {
    for (int i = 0; i < num_linear_layers; ++i) {
      const auto at = static_cast<std::size_t>(i);
      layers_[at] = make_layer(index, static_cast<linear_layer>(i), weights.linear[at].view());
      const auto [rows, cols] = linear_shape(config, i);
      qlr::require(layers_[at].rows() == rows && layers_[at].cols() == cols, qlr::status_code::shape_mismatch,
                   "layer ", linear_names[at], " of block ", index, " is ", layers_[at].rows(), " x ",
                   layers_[at].cols(), ", it must be ", rows, " x ", cols);
    }
  }

  /// Y (t, dim) of X (t, dim); keeps what backward needs. Y may be X.
  ///
  /// @throws qlr::error invalid_argument: no text, or one that is empty or longer than the context
  /// @throws qlr::error shape_mismatch: X or Y
  void forward(batch_shape shape, qlr::matrix_view<const T> x, qlr::matrix_view<T> y,
               const qlr::executor& run = {}) {
    forward(shape, x, y, saved_, run);
  }
  /// The same, and what it computes on the way is written to `kept`.
  void forward(batch_shape shape, qlr::matrix_view<const T> x, qlr::matrix_view<T> y,
               block_activations<T>& kept, const qlr::executor& run) const {
    set_shapes(shape, kept);
    check_stream(shape, "X", x);
    check_stream(shape, "Y", y);
    as_eigen(kept.input.view()) = as_eigen(x);
    attend(kept, run);
    feed_forward(kept, y, run);
  }

  /// From the gradient of the last Y: adds the gradients of the parameters, and writes the gradient of X
  /// unless that view is empty. grad_x may be grad_y. May be called several times.
  ///
  /// @throws qlr::error shape_mismatch: grad_y or grad_x does not fit
  void backward(qlr::matrix_view<const T> grad_y, qlr::matrix_view<T> grad_x, const qlr::executor& run = {}) {
    check_stream(saved_.shape, "the gradient of Y", grad_y);
    const bool wants_x = grad_x.data() != nullptr;
    if (wants_x) check_stream(saved_.shape, "the gradient of X", grad_x);
    grad_middle_.shape(saved_.shape.tokens(), config_.dim);
    as_eigen(grad_middle_.view()) = as_eigen(grad_y);
    backward_feed_forward(grad_y, run);
    backward_attention(run);
    backward_projections(wants_x, run);
    if (wants_x) as_eigen(grad_x) = as_eigen(grad_middle_.view());
  }

  /// What a layer read in the last forward: (t, n).
  [[nodiscard]] qlr::matrix_view<const T> layer_input(linear_layer which) const {
    switch (which) {
    case output:
      return saved_.attended.view();
    case gate:
    case up:
      return saved_.mlp_input.view();
    case down:
      return saved_.hidden.view();
    default:
      return saved_.attention_input.view();
    }
  }

  [[nodiscard]] qlr::train::any_layer<T>& layer(linear_layer which) {
    return layers_[static_cast<std::size_t>(which)];
  }
  [[nodiscard]] const qlr::train::any_layer<T>& layer(linear_layer which) const {
    return layers_[static_cast<std::size_t>(which)];
  }

  /// Of the layers, in the order of linear_names, then of the norms if they are trained.
  [[nodiscard]] std::vector<qlr::train::parameter_view<T>> parameters(const std::string& prefix = {}) {
    std::vector<qlr::train::parameter_view<T>> all;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      auto some = layers_[i].parameters(qlr::sentence(prefix, linear_names[i], "."));
      std::move(some.begin(), some.end(), std::back_inserter(all));
    }
    if (!trains_norms_) return all;
    all.push_back(attention_norm_.weight().view(prefix + "input_layernorm.weight"));
    all.push_back(mlp_norm_.weight().view(prefix + "post_attention_layernorm.weight"));
    return all;
  }
  /// Bytes of all weights, gradients excluded.
  [[nodiscard]] qlr::index_t stored_bytes() const {
    qlr::index_t bytes = 2 * config_.dim * static_cast<qlr::index_t>(sizeof(T));
    for (const auto& layer : layers_) bytes += layer.stored_bytes();
    return bytes;
  }
  /// See qlr/train/state.hpp; norms that are not trained are no part of it.
  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    for (std::size_t i = 0; i < layers_.size(); ++i)
      layers_[i].visit_state(archive, qlr::sentence(prefix, linear_names[i], "."));
    if (!trains_norms_) return;
    archive.values(prefix + "input_layernorm.weight", attention_norm_.weight().values());
    archive.values(prefix + "post_attention_layernorm.weight", mlp_norm_.weight().values());
  }

private:
  using view = qlr::matrix_view<T>;

  void check_stream(batch_shape shape, const char* name, qlr::matrix_view<const T> x) const {
    qlr::require(x.rows() == shape.tokens() && x.cols() == config_.dim && x.has_contiguous_rows(),
                 qlr::status_code::shape_mismatch, name, " is ", x.rows(), " x ", x.cols(), ", it must be ",
                 shape.tokens(), " x ", config_.dim, " with contiguous rows");
  }

  void set_shapes(batch_shape shape, block_activations<T>& kept) const {
    check_batch_shape(config_, shape);
    const qlr::index_t tokens = shape.tokens();
    kept.shape = shape;
    for (buffer<T>* one : {&kept.attention_factors, &kept.mlp_factors}) one->shape(tokens, 1);
    for (buffer<T>* wide :
         {&kept.input, &kept.attention_input, &kept.queries, &kept.attended, &kept.middle, &kept.mlp_input})
      wide->shape(tokens, config_.dim);
    for (buffer<T>* narrow : {&kept.keys, &kept.values}) narrow->shape(tokens, config_.kv_dim());
    for (buffer<T>* inner : {&kept.gates, &kept.ups, &kept.hidden}) inner->shape(tokens, config_.hidden_dim);
    kept.probabilities.shape(config_.num_heads * tokens, shape.length);
  }

  static attention_operands<T> operands(block_activations<T>& kept) {
    return {kept.queries.view(), kept.keys.view(), kept.values.view(), kept.attended.view()};
  }

  /// kept.middle from kept.input.
  void attend(block_activations<T>& kept, const qlr::executor& run) const {
    const view x = kept.attention_input.view();
    attention_norm_.forward(kept.input.view(), x, kept.attention_factors.view());
    layer(query).forward(x, kept.queries.view(), run);
    layer(key).forward(x, kept.keys.view(), run);
    layer(value).forward(x, kept.values.view(), run);
    rotary_.apply(kept.shape, kept.queries.view());
    rotary_.apply(kept.shape, kept.keys.view());
    attention_.forward(kept.shape, operands(kept), kept.probabilities.view(), run);
    layer(output).forward(kept.attended.view(), kept.middle.view(), run);
    as_eigen(kept.middle.view()) += as_eigen(kept.input.view());
  }

  /// Y from kept.middle.
  void feed_forward(block_activations<T>& kept, view y, const qlr::executor& run) const {
    const view x = kept.mlp_input.view();
    mlp_norm_.forward(kept.middle.view(), x, kept.mlp_factors.view());
    layer(gate).forward(x, kept.gates.view(), run);
    layer(up).forward(x, kept.ups.view(), run);
    const T* gates = kept.gates.data();
    const T* ups = kept.ups.data();
    T* hidden = kept.hidden.data();
    const qlr::index_t count = kept.hidden.view().size();
    for (qlr::index_t i = 0; i < count; ++i) hidden[i] = gates[i] / (T{1} + exponential(-gates[i])) * ups[i];
    layer(down).forward(kept.hidden.view(), y, run);
    as_eigen(y) += as_eigen(kept.middle.view());
  }

  /// Adds to grad_middle_ what the feed-forward part passes.
  void backward_feed_forward(qlr::matrix_view<const T> grad_y, const qlr::executor& run) {
    const qlr::index_t tokens = saved_.shape.tokens();
    const view grad_hidden = grad_hidden_.shape(tokens, config_.hidden_dim);
    const view grad_gates = grad_gates_.shape(tokens, config_.hidden_dim);
    layer(down).backward(saved_.hidden.view(), grad_y, grad_hidden, run);
    differentiate_product(grad_hidden, grad_gates);
    const view x = saved_.mlp_input.view();
    const view grad_normed = grad_normed_.shape(tokens, config_.dim);
    const view more = more_.shape(tokens, config_.dim);
    layer(gate).backward(x, grad_gates, grad_normed, run);
    layer(up).backward(x, grad_hidden, more, run); // now the gradient of ups
    as_eigen(grad_normed) += as_eigen(more);
    backward_norm(mlp_norm_, saved_.middle, saved_.mlp_factors);
  }

  /// hidden = silu(gates) ups: writes the gradient of gates, replaces that of hidden by that of ups.
  /// silu'(z) = s (1 + z (1 - s)) with s the sigmoid of z.
  void differentiate_product(view grad_hidden, view grad_gates) {
    const T* gates = saved_.gates.data();
    const T* ups = saved_.ups.data();
    for (qlr::index_t i = 0; i < grad_hidden.size(); ++i) {
      const T z = gates[i];
      const T g = grad_hidden.data()[i];
      const T sigmoid = T{1} / (T{1} + exponential(-z));
      grad_gates.data()[i] = g * ups[i] * sigmoid * (T{1} + z * (T{1} - sigmoid));
      grad_hidden.data()[i] = g * z * sigmoid;
    }
  }

  /// The gradients of what the projections wrote, from grad_middle_.
  void backward_attention(const qlr::executor& run) {
    const batch_shape shape = saved_.shape;
    const view grad_attended = grad_attended_.shape(shape.tokens(), config_.dim);
    layer(output).backward(saved_.attended.view(), grad_middle_.view(), grad_attended, run);
    const attention_operands<T> grad{grad_queries_.shape(shape.tokens(), config_.dim),
                                     grad_keys_.shape(shape.tokens(), config_.kv_dim()),
                                     grad_values_.shape(shape.tokens(), config_.kv_dim()), grad_attended};
    const view scratch = grad_scores_.shape(config_.num_kv_heads * shape.tokens(), shape.length);
    attention_.backward(shape, operands(saved_), saved_.probabilities.view(), grad, scratch, run);
    rotary_.apply_inverse(shape, grad.queries);
    rotary_.apply_inverse(shape, grad.keys);
  }

  /// Through query, key, value and the norm; grad_middle_ becomes the gradient of the input.
  void backward_projections(bool wants_x, const qlr::executor& run) {
    const bool wants_normed = wants_x || trains_norms_;
    const view x = saved_.attention_input.view();
    const view grad_normed = wants_normed ? grad_normed_.view() : view();
    const view more = wants_normed ? more_.view() : view();
    layer(query).backward(x, grad_queries_.view(), grad_normed, run);
    layer(key).backward(x, grad_keys_.view(), more, run);
    if (wants_normed) as_eigen(grad_normed) += as_eigen(more);
    layer(value).backward(x, grad_values_.view(), more, run);
    if (!wants_normed) return;
    as_eigen(grad_normed) += as_eigen(more);
    backward_norm(attention_norm_, saved_.input, saved_.attention_factors);
  }

  void backward_norm(rms_norm<T>& norm, buffer<T>& x, buffer<T>& factors) {
    if (trains_norms_) norm.add_weight_gradient(x.view(), factors.view(), grad_normed_.view());
    norm.backward(x.view(), factors.view(), grad_normed_.view(), grad_middle_.view());
  }

  model_config config_;
  bool trains_norms_;
  rotary<T> rotary_;
  attention<T> attention_;
  rms_norm<T> attention_norm_;
  rms_norm<T> mlp_norm_;
  std::array<qlr::train::any_layer<T>, num_linear_layers> layers_;
  block_activations<T> saved_;
  buffer<T> grad_middle_;   ///< (t, dim): of the residual stream
  buffer<T> grad_normed_;   ///< (t, dim): of a norm's output
  buffer<T> more_;          ///< (t, dim)
  buffer<T> grad_hidden_;   ///< (t, hidden_dim)
  buffer<T> grad_gates_;    ///< (t, hidden_dim)
  buffer<T> grad_attended_; ///< (t, dim)
  buffer<T> grad_queries_;  ///< (t, dim)
  buffer<T> grad_keys_;     ///< (t, kv_dim)
  buffer<T> grad_values_;   ///< (t, kv_dim)
  buffer<T> grad_scores_;   ///< (sequences * num_kv_heads * length, length)
};
