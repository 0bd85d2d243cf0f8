// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/batch.hpp>
#include <finetune_story/elementwise.hpp>

#include <qlr/train/parameter.hpp>

#include <cmath>
#include <string>

/// Root-mean-square normalisation: y = w x r with r = 1 / sqrt(mean(x^2) + epsilon), row by row.
template <class T>
class rms_norm {
public:
  /// @param weight  w (1, dim)
  rms_norm(qlr::matrix_view<const float> weight, double epsilon)
      : weight_(1, weight.cols(), {.has_weight_decay = false}), epsilon_(static_cast<T>(epsilon)) {
    weight_.assign(weight);
  }

  /// @param[out] factors  (t, 1): r of every row, for backward
  void forward(qlr::matrix_view<const T> x, qlr::matrix_view<T> y, qlr::matrix_view<T> factors) const {
    const T* w = weight_.values().data();
    for (qlr::index_t t = 0; t < x.rows(); ++t) {
      const T* from = x.row(t);
      T* to = y.row(t);
      const T mean_square = dot_product(from, from, x.cols()) / static_cast<T>(x.cols());
      const T factor = T{1} / std::sqrt(mean_square + epsilon_);
      for (qlr::index_t i = 0; i < x.cols(); ++i) to[i] = w[i] * (factor * from[i]);
      factors(t, 0) = factor;
    }
  }

  /// Adds the gradient of x to grad_x:
  ///     r w_i g_i - x_i r^3 / dim sum_j w_j g_j x_j,  g the gradient of y.
  void backward(qlr::matrix_view<const T> x, qlr::matrix_view<const T> factors,
                qlr::matrix_view<const T> grad_y, qlr::matrix_view<T> grad_x) const {
    const T* w = weight_.values().data();
    for (qlr::index_t t = 0; t < x.rows(); ++t) {
      const T* from = x.row(t);
      const T* g = grad_y.row(t);
      T* to = grad_x.row(t);
      const T factor = factors(t, 0);
      const T product = combine_terms(
          x.cols(), T{0}, [&](qlr::index_t i) { return w[i] * g[i] * from[i]; },
          [](T a, T b) { return a + b; });
      const T along_x = product * factor * factor * factor / static_cast<T>(x.cols());
      for (qlr::index_t i = 0; i < x.cols(); ++i) to[i] += factor * w[i] * g[i] - along_x * from[i];
    }
  }

  /// Adds the gradient of w: sum_t g x r.
  void add_weight_gradient(qlr::matrix_view<const T> x, qlr::matrix_view<const T> factors,
                           qlr::matrix_view<const T> grad_y) {
    T* gradient = weight_.gradient().data();
    for (qlr::index_t t = 0; t < x.rows(); ++t) {
      for (qlr::index_t i = 0; i < x.cols(); ++i) gradient[i] += grad_y(t, i) * (factors(t, 0) * x(t, i));
    }
  }

  [[nodiscard]] qlr::train::parameter<T>& weight() { return weight_; }
  [[nodiscard]] const qlr::train::parameter<T>& weight() const { return weight_; }

private:
  qlr::train::parameter<T> weight_;
  T epsilon_;
};
