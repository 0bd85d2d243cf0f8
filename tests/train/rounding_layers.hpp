// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// What tests of layers with learned rounding share: their numbers in double, and the definitions as loops.

#include <qlr/core/matrix.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/train/parameter.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>
#include <train/layers.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::test {

/// W quantized to a named format; scales in fp32 unless the format fixes them.
[[nodiscard]] inline quantized_matrix quantized_start(const matrix<float>& weight, std::string_view format,
                                                      index_t group_size) {
  const scale_format exact{scale_coding::plain, scale_type::fp32};
  const any_quantizer quantizer = find_format(format).is_fixed
                                      ? make_quantizer(format)
                                      : make_quantizer(format, {.group_size = group_size, .scales = exact});
  return quantizer.quantize(weight.view(), {}, {});
}

/// Scales and zero points of a quantized matrix, one of each per element.
struct slow_grid {
  matrix<double> scale;
  matrix<double> zero;
  matrix<double> group; ///< number of the group within the row
  double lowest = 0;
  double highest = 0;

  explicit slow_grid(const quantized_matrix& q)
      : scale(q.rows(), q.cols()), zero(q.rows(), q.cols()), group(q.rows(), q.cols()),
        lowest(static_cast<double>(q.levels().front())), highest(static_cast<double>(q.levels().back())) {
    const index_t size = q.layout().group_size;
    for (index_t i = 0; i < q.rows(); ++i) {
      for (index_t j = 0; j < q.cols(); ++j) {
        const slow_block block = block_of(q, i, j);
        scale(i, j) = block.scale;
        zero(i, j) = block.zero;
        group(i, j) = static_cast<double>(size > 0 ? j / size : 0);
      }
    }
  }
  [[nodiscard]] index_t group_of(index_t i, index_t j) const { return static_cast<index_t>(group(i, j)); }
};

/// Every parameter of a layer in double, by name.
using named_numbers = std::map<std::string, matrix<double>>;

template <class Layer>
[[nodiscard]] named_numbers values_of(Layer& layer) {
  named_numbers all;
  for (const auto& p : layer.parameters()) {
    matrix<double> values(p.rows, p.cols);
    for (index_t i = 0; i < p.size(); ++i) values.data()[i] = static_cast<double>(p.value(i));
    all.emplace(p.name, std::move(values));
  }
  return all;
}

template <class Layer>
[[nodiscard]] named_numbers gradients_of(Layer& layer) {
  named_numbers all;
  for (const auto& p : layer.parameters())
    all.emplace(p.name, to_double(matrix_view(p.gradient, p.rows, p.cols)));
  return all;
}

[[nodiscard]] inline bool has_same_bits(const named_numbers& a, const named_numbers& b) {
  return std::ranges::equal(a, b, [](const auto& x, const auto& y) {
    return x.first == y.first && has_same_bits(x.second, y.second);
  });
}

/// Adds random numbers of that deviation to the parameters whose name it is.
template <class Layer>
void disturb(Layer& layer, std::string_view name, double deviation, std::uint64_t seed = 31) {
  random_source random(seed);
  for (const auto& p : layer.parameters()) {
    if (p.name != name) continue;
    for (index_t i = 0; i < p.size(); ++i) {
      using number = typename Layer::compute_type;
      p.set_value(i, static_cast<number>(static_cast<double>(p.value(i)) + deviation * random.normal()));
    }
  }
}

/// W_hat as forward multiplies with it: X is the identity, so every sum has one term.
template <class Layer>
[[nodiscard]] matrix<typename Layer::compute_type> forward_weight(const Layer& layer,
                                                                  const executor& run = {}) {
  using number = typename Layer::compute_type;
  matrix<number> identity(layer.cols(), layer.cols(), number{0});
  for (index_t j = 0; j < layer.cols(); ++j) identity(j, j) = 1;
  matrix<number> y = unset<number>(layer.cols(), layer.rows());
  layer.forward(std::as_const(identity).view(), y.view(), run);
  matrix<number> weight(layer.rows(), layer.cols());
  for (index_t i = 0; i < layer.rows(); ++i) {
    for (index_t j = 0; j < layer.cols(); ++j) weight(i, j) = y(j, i);
  }
  return weight;
}

/// A product of factors by its definition, or zeros where the rank is zero.
[[nodiscard]] inline matrix<double> slow_low_rank(const matrix<double>& left, const matrix<double>& right) {
  matrix<double> product(left.rows(), right.cols(), 0.0);
  for (index_t i = 0; i < product.rows(); ++i) {
    for (index_t j = 0; j < product.cols(); ++j) {
      for (index_t k = 0; k < left.cols(); ++k) product(i, j) += left(i, k) * right(k, j);
    }
  }
  return product;
}

/// One value rounded to the levels: what it is before rounding, the level, and whether that is in range.
struct slow_rounding {
  double value = 0;
  double level = 0;
  bool passes = false;

  slow_rounding(double v, double lowest, double highest)
      : value(v), level(std::clamp(std::nearbyint(v), lowest, highest)),
        passes(std::nearbyint(v) >= lowest && std::nearbyint(v) <= highest) {}

  /// Whether an error of that size could have changed the level.
  [[nodiscard]] bool is_near_tie(double tolerance) const {
    return std::fabs(value - std::floor(value) - 0.5) < tolerance;
  }
};

/// What central differences of a loss say of every number of every parameter, against its gradient.
///
/// @param loss  of parameters by name
template <class Loss>
void check_derivatives(const named_numbers& at, const named_numbers& gradients, Loss&& loss) {
  // Third derivatives leave 1e-8 of a derivative, roundings of a loss 1e-12 of it.
  constexpr double step = 1e-4;
  for (const auto& [name, values] : at) {
    CAPTURE(name);
    const matrix<double>& gradient = gradients.at(name);
    double largest = 0;
    for (index_t i = 0; i < gradient.size(); ++i) largest = std::max(largest, std::fabs(gradient.data()[i]));
    for (index_t i = 0; i < values.size(); ++i) {
      named_numbers moved = at;
      moved.at(name).data()[i] = values.data()[i] + step;
      const double above = loss(moved);
      moved.at(name).data()[i] = values.data()[i] - step;
      const double below = loss(moved);
      const double expected = (above - below) / (2 * step);
      const double allowed = 1e-4 * std::fabs(expected) + 1e-7 * (1 + largest);
      CAPTURE(i, expected, gradient.data()[i]);
      REQUIRE(is_near(gradient.data()[i], expected, allowed));
    }
  }
}

} // namespace qlr::test
