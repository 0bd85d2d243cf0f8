// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/weights.hpp>

#include <qlr/core/random.hpp>
#include <qlr/core/status.hpp>

#include <cmath>

namespace {

using qlr::index_t;
using qlr::matrix;

matrix<float> copy(qlr::matrix_view<const float> source) {
  matrix<float> result(source.rows(), source.cols());
  for (index_t i = 0; i < source.rows(); ++i) {
    for (index_t j = 0; j < source.cols(); ++j) result(i, j) = source(i, j);
  }
  return result;
}

/// Independent normal numbers; every matrix takes the next ones of the seed's sequence.
class normal_source {
public:
  explicit normal_source(std::uint64_t seed) : seed_(seed) {}

  matrix<float> operator()(index_t rows, index_t cols, double deviation) {
    matrix<float> result(rows, cols);
    for (index_t i = 0; i < result.size(); ++i)
      result.data()[i] = static_cast<float>(deviation * qlr::normal_at(seed_, next_++));
    return result;
  }

private:
  std::uint64_t seed_;
  index_t next_ = 0;
};

void require_tied_head(const model_config& config) {
  qlr::require(config.has_tied_head, qlr::status_code::unsupported,
               "the model has a head of its own, only tied embeddings are trained");
}

} // namespace

model_weights copy_weights(const checkpoint& source) {
  require_tied_head(source.config());
  qlr::require(!source.is_compressed(), qlr::status_code::unsupported,
               "the model has compressed linear layers, training starts from dense ones");
  model_weights result;
  result.config = source.config();
  result.embedding = copy(source.embedding());
  result.final_norm = copy({source.final_norm(), 1, result.config.dim});
  for (const checkpoint_block& block : source.blocks()) {
    block_weights& to = result.blocks.emplace_back();
    to.attention_norm = copy(block.attention_norm.view());
    to.mlp_norm = copy(block.mlp_norm.view());
    for (std::size_t i = 0; i < to.linear.size(); ++i) to.linear[i] = copy(block.linear[i].view());
  }
  return result;
}

model_weights random_weights(const model_config& config, std::uint64_t seed) {
  require_tied_head(config);
  constexpr double deviation = 0.02;
  const double residual = deviation / std::sqrt(2.0 * static_cast<double>(config.num_layers));
  normal_source normal(seed);
  model_weights result;
  result.config = config;
  result.embedding = normal(config.num_tokens, config.dim, deviation);
  result.final_norm = matrix<float>(1, config.dim, 1.0F);
  for (index_t k = 0; k < config.num_layers; ++k) {
    block_weights& block = result.blocks.emplace_back();
    block.attention_norm = matrix<float>(1, config.dim, 1.0F);
    block.mlp_norm = matrix<float>(1, config.dim, 1.0F);
    for (int which = 0; which < num_linear_layers; ++which) {
      const auto [rows, cols] = linear_shape(config, which);
      const bool writes_stream = which == output || which == down;
      block.linear[static_cast<std::size_t>(which)] =
          normal(rows, cols, writes_stream ? residual : deviation);
    }
  }
  return result;
}
