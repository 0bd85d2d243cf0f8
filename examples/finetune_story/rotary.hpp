// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/batch.hpp>
#include <story/checkpoint.hpp>

#include <qlr/core/matrix.hpp>

#include <cmath>

/// Rotary position embedding: turns neighbouring elements (2 i, 2 i + 1) of every head by the angle
/// position * base^(-2 i / head_dim).
template <class T>
class rotary {
public:
  explicit rotary(const model_config& config) : angles_(config.context, config.head_dim()) {
    const auto size = static_cast<double>(config.head_dim());
    for (qlr::index_t position = 0; position < config.context; ++position) {
      for (qlr::index_t i = 0; i < config.head_dim(); i += 2) {
        const double turn = std::pow(static_cast<double>(config.rope_base), -static_cast<double>(i) / size);
        const double angle = static_cast<double>(position) * turn;
        angles_(position, i) = static_cast<T>(std::cos(angle));
        angles_(position, i + 1) = static_cast<T>(std::sin(angle));
      }
    }
  }

  /// Turns the vectors of every token.
  void apply(batch_shape shape, qlr::matrix_view<T> vectors) const { turn(shape, vectors, T{1}); }
  /// Turns them back, which is how a gradient passes.
  void apply_inverse(batch_shape shape, qlr::matrix_view<T> vectors) const { turn(shape, vectors, T{-1}); }

private:
  void turn(batch_shape shape, qlr::matrix_view<T> vectors, T direction) const {
    for (qlr::index_t t = 0; t < vectors.rows(); ++t) {
      const T* angles = angles_.view().row(t % shape.length);
      for (qlr::index_t first = 0; first < vectors.cols(); first += angles_.cols())
        turn_head(vectors.row(t) + first, angles, direction);
    }
  }
  void turn_head(T* vector, const T* angles, T direction) const {
    for (qlr::index_t i = 0; i < angles_.cols(); i += 2) {
      const T cosine = angles[i];
      const T sine = direction * angles[i + 1];
      const T first = vector[i];
      const T second = vector[i + 1];
      vector[i] = first * cosine - second * sine;
      vector[i + 1] = first * sine + second * cosine;
    }
  }

  qlr::matrix<T> angles_; ///< (position, head_dim): cosine and sine of every pair
};
