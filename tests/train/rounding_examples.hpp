// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Layers of both kinds of learned rounding, made alike.

#include <qlr/train/lr_qat_layer.hpp>
#include <qlr/train/lrq_layer.hpp>

#include <train/rounding_layers.hpp>

#include <type_traits>

namespace qlr::test {

template <class Layer>
inline constexpr bool is_lrq = false;
template <class Storage>
inline constexpr bool is_lrq<train::lrq_layer<Storage>> = true;

template <class Layer>
[[nodiscard]] Layer make_layer(const matrix<float>& weight, const quantized_matrix& start, index_t rank) {
  if constexpr (is_lrq<Layer>) {
    return Layer(weight.view(), start, {.rank = rank, .seed = 3});
  } else {
    return Layer(weight.view(), start,
                 {.rank = rank, .alpha = static_cast<double>(rank), .start = train::frozen_storage::fp32});
  }
}

/// Moves every parameter away from its start, so that levels change and some leave their range.
template <class Layer>
void move(Layer& layer) {
  if constexpr (is_lrq<Layer>) {
    disturb(layer, "log_scale", 0.2, 41);
    disturb(layer, "left", 0.5, 42);
    disturb(layer, "row_bias", 0.2, 43);
    disturb(layer, "column_bias", 0.2, 44);
  } else {
    for (const auto& p : layer.parameters()) {
      random_source random(45);
      for (index_t i = 0; p.name == "scale" && i < p.size(); ++i)
        p.set_value(i, p.value(i) * static_cast<typename Layer::compute_type>(random.between(0.7, 1.3)));
    }
    disturb(layer, "left", 1.0, 46);
  }
}

/// Weights that lie halfway between two levels of a layer with the parameters that `move` gives, so that the
/// last bit of whatever precedes rounding decides.
template <class Layer>
[[nodiscard]] matrix<float> undecided_weight(const quantized_matrix& start, index_t rank) {
  const slow_grid grid(start);
  matrix<float> weight(start.rows(), start.cols(), 0.0F);
  Layer layer = make_layer<Layer>(weight, start, rank);
  move(layer);
  const named_numbers numbers = values_of(layer);
  const matrix<double> low_rank = slow_low_rank(numbers.at("left"), numbers.at("right"));
  random_source random(51);
  for (index_t i = 0; i < weight.rows(); ++i) {
    for (index_t j = 0; j < weight.cols(); ++j) {
      const auto num_gaps = static_cast<index_t>(grid.highest - grid.lowest);
      const double level = grid.lowest + 0.5 + static_cast<double>(random.below(num_gaps)) - grid.zero(i, j);
      if constexpr (is_lrq<Layer>) {
        const double exponent = numbers.at("log_scale")(i, grid.group_of(i, j)) + low_rank(i, j) +
                                numbers.at("row_bias")(i, 0) + numbers.at("column_bias")(0, j);
        weight(i, j) = static_cast<float>(level * std::copysign(std::exp(exponent), grid.scale(i, j)));
      } else {
        weight(i, j) = static_cast<float>((level - low_rank(i, j)) * grid.scale(i, j));
      }
    }
  }
  return weight;
}

} // namespace qlr::test
