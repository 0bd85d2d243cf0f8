// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <story/model.hpp>

#include <algorithm>
#include <cmath>

namespace {

using qlr::index_t;

/// The first rows of a buffer.
qlr::matrix_view<float> first_rows(qlr::matrix<float>& buffer, index_t rows) {
  return {buffer.data(), rows, buffer.cols()};
}

/// Cosine and sine of position * base^(-2 i / head_dim), side by side for every pair i.
qlr::matrix<float> rotation_angles(index_t context, const model_config& config) {
  qlr::matrix<float> angles(context, config.head_dim());
  for (index_t position = 0; position < context; ++position) {
    for (index_t i = 0; i < config.head_dim(); i += 2) {
      const double exponent = -static_cast<double>(i) / static_cast<double>(config.head_dim());
      const double angle =
          static_cast<double>(position) * std::pow(static_cast<double>(config.rope_base), exponent);
      angles(position, i) = static_cast<float>(std::cos(angle));
      angles(position, i + 1) = static_cast<float>(std::sin(angle));
    }
  }
  return angles;
}

/// Replaces scores by their softmax.
void apply_softmax(float* scores, index_t count) {
  const float largest = *std::max_element(scores, scores + count);
  float sum = 0;
  for (index_t i = 0; i < count; ++i) {
    scores[i] = std::exp(scores[i] - largest);
    sum += scores[i];
  }
  for (index_t i = 0; i < count; ++i) scores[i] /= sum;
}

} // namespace

model make_dense_model(const checkpoint& weights) {
  model result{weights, {}};
  for (const checkpoint_block& block : weights.blocks()) {
    for (const tensor& weight : block.linear) result.layers.emplace_back(weight.view());
  }
  return result;
}

session::session(const model& source, index_t context, qlr::precision mode, const qlr::executor& run)
    : model_(source), config_(source.weights.config()), context_(context), multiply_(mode, run),
      head_(source.weights.head()), keys_(config_.num_layers * config_.kv_dim(), context),
      values_(config_.num_layers * config_.kv_dim(), context), angles_(rotation_angles(context, config_)),
      stream_(chunk_tokens, config_.dim), normalised_(chunk_tokens, config_.dim),
      queries_(chunk_tokens, config_.dim), attended_(chunk_tokens, config_.dim),
      gate_(chunk_tokens, config_.hidden_dim), up_(chunk_tokens, config_.hidden_dim),
      scores_(config_.num_heads, context) {
  for (const linear& weight : source.layers) multiply_.reserve(weight, chunk_tokens);
}

void session::read(std::span<const token_t> tokens, qlr::matrix_view<float> logits) {
  const auto count = static_cast<index_t>(tokens.size());
  qlr::require(position_ + count <= context_, qlr::status_code::invalid_argument, "text has ",
               position_ + count, " tokens, the context is ", context_);
  const index_t first_logits = count - logits.rows();
  for (index_t begin = 0; begin < count; begin += chunk_tokens) {
    const index_t end = std::min(count, begin + chunk_tokens);
    const index_t first = std::max(begin, first_logits);
    const index_t rows = std::max<index_t>(0, end - first);
    float* out = rows > 0 ? logits.row(first - first_logits) : nullptr;
    read_chunk(tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
               {out, rows, logits.cols(), logits.row_stride()});
  }
}

void session::read_chunk(std::span<const token_t> tokens, qlr::matrix_view<float> logits) {
  const auto count = static_cast<index_t>(tokens.size());
  for (index_t t = 0; t < count; ++t) {
    const float* embedding = model_.weights.embedding().row(tokens[static_cast<std::size_t>(t)]);
    std::copy_n(embedding, config_.dim, stream_.view().row(t));
  }
  for (index_t block = 0; block < config_.num_layers; ++block) {
    attend(block, count);
    feed_forward(block, count);
  }
  position_ += count;
  if (logits.rows() == 0) return;
  normalise(model_.weights.final_norm(), count - logits.rows(), logits.rows());
  multiply_(head_, first_rows(normalised_, logits.rows()), logits);
}

void session::attend(index_t block, index_t tokens) {
  const checkpoint_block& weights = model_.weights.blocks()[static_cast<std::size_t>(block)];
  normalise(weights.attention_norm.data(), 0, tokens);
  const qlr::matrix_view<float> x = first_rows(normalised_, tokens);
  const qlr::matrix_view<float> queries = first_rows(queries_, tokens);
  const qlr::matrix_view<float> keys = columns_of(keys_, block, position_, tokens);
  multiply_(layer(block, query), x, queries);
  multiply_(layer(block, key), x, keys);
  multiply_(layer(block, value), x, columns_of(values_, block, position_, tokens));
  rotate(queries);
  rotate(keys);
  const qlr::executor run = multiply_.threads_for(2 * tokens * (position_ + tokens) * config_.dim);
  auto task = [&](index_t head) { attend_head(block, head, tokens); };
  run(config_.num_heads, task);
  add_product(block, output, first_rows(attended_, tokens));
}

void session::attend_head(index_t block, index_t head, index_t tokens) {
  const index_t size = config_.head_dim();
  const index_t kv_head = head / (config_.num_heads / config_.num_kv_heads);
  const index_t first_row = block * config_.kv_dim() + kv_head * size;
  const float scale = 1.0F / std::sqrt(static_cast<float>(size));
  float* scores = scores_.view().row(head);
  for (index_t t = 0; t < tokens; ++t) {
    const index_t visible = position_ + t + 1; // a token sees itself and what was before it
    std::fill_n(scores, visible, 0.0F);
    for (index_t i = 0; i < size; ++i) {
      const float* keys = keys_.view().row(first_row + i);
      const float element = scale * queries_(t, head * size + i);
      for (index_t p = 0; p < visible; ++p) scores[p] += element * keys[p];
    }
    apply_softmax(scores, visible);
    for (index_t i = 0; i < size; ++i) {
      attended_(t, head * size + i) = dot(scores, values_.view().row(first_row + i), visible);
    }
  }
}

void session::feed_forward(index_t block, index_t tokens) {
  const checkpoint_block& weights = model_.weights.blocks()[static_cast<std::size_t>(block)];
  normalise(weights.mlp_norm.data(), 0, tokens);
  const qlr::matrix_view<float> x = first_rows(normalised_, tokens);
  const qlr::matrix_view<float> gates = first_rows(gate_, tokens);
  multiply_(layer(block, gate), x, gates);
  multiply_(layer(block, up), x, first_rows(up_, tokens));
  for (index_t i = 0; i < gates.size(); ++i) {
    const float sigmoid = 1.0F / (1.0F + std::exp(-gate_.data()[i]));
    gate_.data()[i] *= sigmoid * up_.data()[i];
  }
  add_product(block, down, gates);
}

void session::add_product(index_t block, linear_layer which, qlr::matrix_view<const float> x) {
  // The queries are no longer needed when either of these layers runs.
  const qlr::matrix_view<float> y = first_rows(queries_, x.rows());
  multiply_(layer(block, which), x, y);
  for (index_t i = 0; i < y.size(); ++i) stream_.data()[i] += y.data()[i];
}

void session::normalise(const float* weight, index_t first, index_t tokens) {
  for (index_t t = 0; t < tokens; ++t) {
    const float* from = stream_.view().row(first + t);
    float* to = normalised_.view().row(t);
    const float mean_square = dot(from, from, config_.dim) / static_cast<float>(config_.dim);
    const float scale = 1.0F / std::sqrt(mean_square + config_.norm_epsilon);
    for (index_t i = 0; i < config_.dim; ++i) to[i] = weight[i] * (scale * from[i]);
  }
}

void session::rotate(qlr::matrix_view<float> vectors) const {
  const index_t size = config_.head_dim();
  for (index_t t = 0; t < vectors.rows(); ++t) {
    const float* angles = angles_.view().row(position_ + t);
    for (index_t i = 0; i < vectors.cols(); i += 2) {
      const float cosine = angles[i % size];
      const float sine = angles[i % size + 1];
      const float first = vectors(t, i);
      const float second = vectors(t, i + 1);
      vectors(t, i) = first * cosine - second * sine;
      vectors(t, i + 1) = first * sine + second * cosine;
    }
  }
}

const linear& session::layer(index_t block, linear_layer which) const {
  return model_.layers[static_cast<std::size_t>(block * num_linear_layers + which)];
}

qlr::matrix_view<float> session::columns_of(qlr::matrix<float>& cache, index_t block, index_t first,
                                            index_t tokens) const {
  return {cache.view().row(block * config_.kv_dim()) + first, tokens, config_.kv_dim(), 1, context_};
}
