// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include "quantized_layers.hpp"

#include <qlr/train/loqt_layer.hpp>

#include <support/small_svd.hpp>

#include <cstdint>
#include <utility>

namespace qlr::test::quantized_layers {

/// Gives a layer that is being refreshed the gradient G^T X of some batch.
template <class Layer>
void add_some_gradient(Layer& layer, index_t tokens, std::uint64_t seed = 31, const executor& run = {}) {
  using T = typename Layer::compute_type;
  const matrix<T> x = random_numbers<T>(tokens, layer.cols(), seed);
  const matrix<T> g = random_numbers<T>(tokens, layer.rows(), seed + 1);
  layer.backward(x.view(), g.view(), {}, run);
}

/// A layer of normal numbers after its first refresh.
template <class Storage>
[[nodiscard]] train::loqt_layer<Storage> make_loqt_layer(
    index_t rows, index_t cols, const train::loqt_options& options,
    const any_quantizer& quantizer = make_quantizer("nf4"), const executor& run = {}) {
  const matrix<float> weight = random_numbers<float>(rows, cols, 21);
  train::loqt_layer<Storage> layer(weight.view(), quantizer, options, run);
  add_some_gradient(layer, 9, 31, run);
  layer.finish_refresh(run);
  return layer;
}

/// ||W - Q - s L R||_F.
[[nodiscard]] inline double error_of(const decomposition& parts, const matrix<float>& weight) {
  return frobenius(slow_add(widened(weight), slow_weight(parts), -1));
}

/// Other values for T: small multiples of normal numbers.
template <class Layer>
void change_factor(Layer& layer, std::uint64_t seed = 41) {
  using T = typename Layer::compute_type;
  random_source random(seed);
  const auto parameters = layer.parameters();
  for (index_t i = 0; i < parameters[0].size(); ++i)
    parameters[0].set_value(i, static_cast<T>(0.25 * random.normal()));
}

} // namespace qlr::test::quantized_layers
