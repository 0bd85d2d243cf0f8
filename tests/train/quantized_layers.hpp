// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// What layers over a quantized matrix are compared with: double, triple loops, finite differences.

#include <qlr/decompose/result.hpp>
#include <qlr/train/parameter.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/matmul.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

namespace qlr::test::quantized_layers {

/// Tokens, rows, columns and rank of a layer.
struct low_rank_shape {
  index_t tokens;
  index_t rows;
  index_t cols;
  index_t rank;
};

/// m < n, m = n and m > n; one element, row, column and token; rank 0 and min(m,n); beside the 64 rows of a
/// tile and the 256 of a piece.
inline constexpr low_rank_shape low_rank_shapes[] = {
    {3, 7, 12, 2},  {4, 11, 11, 3}, {2, 13, 6, 2},  {1, 1, 1, 1},   {3, 1, 9, 1},
    {2, 10, 1, 1},  {5, 6, 9, 0},   {2, 5, 8, 5},   {3, 9, 4, 4},   {65, 3, 5, 1},
    {2, 65, 66, 3}, {3, 63, 65, 2}, {2, 257, 8, 2}, {1, 9, 130, 2}, {0, 6, 7, 2}};

template <class T>
[[nodiscard]] matrix<T> random_numbers(index_t rows, index_t cols, std::uint64_t seed) {
  random_source random(seed);
  matrix<T> out(rows, cols);
  for (index_t i = 0; i < out.size(); ++i) out.data()[i] = static_cast<T>(random.normal());
  return out;
}

/// Normal numbers in a format.
[[nodiscard]] inline quantized_matrix quantized_numbers(const any_quantizer& quantizer, index_t rows,
                                                        index_t cols, std::uint64_t seed = 1) {
  const matrix<float> weight = random_numbers<float>(rows, cols, seed);
  return quantize(weight.view(), quantizer);
}

template <class T>
[[nodiscard]] matrix<T> filled_with_nan(index_t rows, index_t cols) {
  return {rows, cols, std::numeric_limits<T>::quiet_NaN()};
}

template <class T>
[[nodiscard]] matrix<double> widened(const matrix<T>& x) {
  matrix<double> out(x.rows(), x.cols());
  for (index_t i = 0; i < x.size(); ++i) out.data()[i] = static_cast<double>(x.data()[i]);
  return out;
}

[[nodiscard]] inline matrix<double> flipped(const matrix<double>& x) {
  matrix<double> out(x.cols(), x.rows());
  for (index_t i = 0; i < x.rows(); ++i) {
    for (index_t j = 0; j < x.cols(); ++j) out(j, i) = x(i, j);
  }
  return out;
}

/// scale A B.
[[nodiscard]] inline matrix<double> slow_multiply(const matrix<double>& a, const matrix<double>& b,
                                                  double scale = 1) {
  REQUIRE(a.cols() == b.rows());
  matrix<double> out(a.rows(), b.cols(), 0.0);
  for (index_t i = 0; i < a.rows(); ++i) {
    for (index_t j = 0; j < b.cols(); ++j) {
      for (index_t k = 0; k < a.cols(); ++k) out(i, j) += scale * a(i, k) * b(k, j);
    }
  }
  return out;
}

/// A + sign B.
[[nodiscard]] inline matrix<double> slow_add(const matrix<double>& a, const matrix<double>& b,
                                             double sign = 1) {
  matrix<double> out(a);
  for (index_t i = 0; i < out.size(); ++i) out.data()[i] += sign * b.data()[i];
  return out;
}

[[nodiscard]] inline double frobenius(const matrix<double>& x) {
  double sum = 0;
  for (index_t i = 0; i < x.size(); ++i) sum += x.data()[i] * x.data()[i];
  return std::sqrt(sum);
}

/// Q diag(1 / input_scales), whose reciprocals are rounded to float when Q is packed.
[[nodiscard]] inline matrix<double> slow_base(const decomposition& parts) {
  matrix<double> out = widened(slow_dequantize(parts.quantized));
  for (index_t i = 0; i < out.rows(); ++i) {
    for (std::size_t j = 0; j < parts.input_scales.size(); ++j)
      out(i, static_cast<index_t>(j)) *= static_cast<double>(1.0F / parts.input_scales[j]);
  }
  return out;
}

/// s L R.
[[nodiscard]] inline matrix<double> slow_low_rank(const decomposition& parts) {
  return slow_multiply(widened(parts.left), widened(parts.right), static_cast<double>(parts.scale));
}

/// The weight that a decomposition stands for.
[[nodiscard]] inline matrix<double> slow_weight(const decomposition& parts) {
  return slow_add(slow_base(parts), slow_low_rank(parts));
}

/// The largest |a - b|; infinite where one is not a number.
template <class A, class B>
[[nodiscard]] double largest_difference(const matrix<A>& a, const matrix<B>& b) {
  REQUIRE(a.rows() == b.rows());
  REQUIRE(a.cols() == b.cols());
  double largest = 0;
  for (index_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
    largest = std::isfinite(difference) ? std::max(largest, difference) : HUGE_VAL;
  }
  return largest;
}

template <class T>
[[nodiscard]] double largest_entry(const matrix<T>& x) {
  return largest_difference(x, matrix<double>(x.rows(), x.cols(), 0.0));
}

/// The same bytes.
template <class T>
[[nodiscard]] bool has_equal_bytes(const matrix<T>& a, const matrix<T>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         (a.size() == 0 ||
          std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0);
}

[[nodiscard]] inline bool has_equal_bytes(const decomposition& a, const decomposition& b) {
  return has_same_bytes(a.quantized, b.quantized) && has_equal_bytes(a.left, b.left) &&
         has_equal_bytes(a.right, b.right) && is_same(a.scale, b.scale) && a.input_scales == b.input_scales;
}

template <class Layer>
using numbers_of = matrix<typename Layer::compute_type>;

/// Y of a layer.
template <class Layer>
[[nodiscard]] numbers_of<Layer> output_of(const Layer& layer, const numbers_of<Layer>& x,
                                          const executor& run = {}) {
  numbers_of<Layer> y = filled_with_nan<typename Layer::compute_type>(x.rows(), layer.rows());
  layer.forward(x.view(), y.view(), run);
  return y;
}

/// The gradients of sum C .* Y of every parameter, and last that of X. Those of parameters are added to 0.5.
template <class Layer>
[[nodiscard]] std::vector<numbers_of<Layer>> gradients_of(Layer& layer, const numbers_of<Layer>& x,
                                                          const numbers_of<Layer>& c,
                                                          const executor& run = {}) {
  using T = typename Layer::compute_type;
  const auto parameters = layer.parameters();
  for (const auto& p : parameters) std::fill_n(p.gradient, p.size(), T{0.5});
  numbers_of<Layer> grad_x = filled_with_nan<T>(x.rows(), x.cols());
  layer.backward(x.view(), c.view(), grad_x.view(), run);
  std::vector<numbers_of<Layer>> out;
  for (const auto& p : parameters) {
    out.emplace_back(p.rows, p.cols);
    std::copy_n(p.gradient, p.size(), out.back().data());
  }
  out.push_back(std::move(grad_x));
  return out;
}

/// sum C .* Y.
template <class Layer>
[[nodiscard]] double loss_of(const Layer& layer, const matrix<double>& x, const matrix<double>& c) {
  const matrix<double> y = output_of(layer, x);
  double sum = 0;
  for (index_t i = 0; i < y.size(); ++i) sum += c.data()[i] * y.data()[i];
  return sum;
}

/// Compares every gradient of a layer that computes in double with central differences.
///
/// The loss is linear in each number alone, so the differences have rounding errors only: about 1e-16 of a
/// sum of some thousand terms of order one, over a step of 2^-4.
template <class Layer>
void check_differences(Layer& layer, index_t tokens) {
  constexpr double step = 0x1p-4;
  constexpr double tolerance = 1e-10;
  matrix<double> x = random_numbers<double>(tokens, layer.cols(), 11);
  const matrix<double> c = random_numbers<double>(tokens, layer.rows(), 12);
  const std::vector<matrix<double>> found = gradients_of(layer, x, c);
  const auto parameters = layer.parameters();
  const auto difference = [&](const auto& set) {
    set(step);
    const double above = loss_of(layer, x, c);
    set(-step);
    const double below = loss_of(layer, x, c);
    set(0.0);
    return (above - below) / (2 * step);
  };
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    const auto& p = parameters[k];
    const double size = 1 + largest_entry(found[k]);
    for (index_t i = 0; i < p.size(); ++i) {
      const double value = p.value(i);
      const double expected = difference([&](double by) { p.set_value(i, value + by); });
      CAPTURE(p.name, i, layer.rows(), layer.cols());
      CHECK(is_near(found[k].data()[i] - 0.5, expected, tolerance * size));
    }
  }
  const double size = 1 + largest_entry(found.back());
  for (index_t i = 0; i < x.size(); ++i) {
    const double value = x.data()[i];
    const double expected = difference([&](double by) { x.data()[i] = value + by; });
    CAPTURE(i, layer.rows(), layer.cols());
    CHECK(is_near(found.back().data()[i], expected, tolerance * size));
  }
}

/// Steps first ... last - 1 towards outputs of random numbers, four batches in turn; the losses.
template <class Layer, class Optimizer>
std::vector<double> train_steps(Layer& layer, Optimizer& optimizer, int first, int last) {
  using T = typename Layer::compute_type;
  std::vector<double> losses;
  const auto parameters = layer.parameters();
  for (int step = first; step < last; ++step) {
    const auto batch = static_cast<std::uint64_t>(step % 4);
    const matrix<T> x = random_numbers<T>(12, layer.cols(), 100 + batch);
    const matrix<T> target = random_numbers<T>(12, layer.rows(), 200 + batch);
    matrix<T> y = output_of(layer, x);
    double loss = 0;
    for (index_t i = 0; i < y.size(); ++i) {
      y.data()[i] -= target.data()[i];
      loss += 0.5 * static_cast<double>(y.data()[i] * y.data()[i]);
    }
    losses.push_back(loss);
    train::zero_gradients<T>(parameters);
    layer.backward(x.view(), std::as_const(y).view(), {});
    optimizer.step(parameters, 0.02);
  }
  return losses;
}

} // namespace qlr::test::quantized_layers
