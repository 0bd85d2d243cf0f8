// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/matrix_view.hpp>
#include <qlr/core/types.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

namespace qlr::test {

/// SplitMix64: the same numbers on every machine and with every standard library.
class random_source {
public:
  explicit random_source(std::uint64_t seed) : state_(seed) {}

  std::uint64_t word() {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31U);
  }
  /// In [0, 1).
  double uniform() { return static_cast<double>(word() >> 11U) * 0x1p-53; }
  double between(double low, double high) { return low + (high - low) * uniform(); }
  /// In 0 ... count - 1.
  index_t below(index_t count) { return static_cast<index_t>(word() % static_cast<std::uint64_t>(count)); }
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }
  /// Any bit pattern; NaN and infinities included.
  float any_float() { return std::bit_cast<float>(static_cast<std::uint32_t>(word() >> 32U)); }
  /// Any finite bit pattern.
  float any_finite_float() {
    float value = any_float();
    while (!is_finite(value)) value = any_float();
    return value;
  }

private:
  std::uint64_t state_;
};

/// Independent normal elements.
[[nodiscard]] inline matrix<float> normal_matrix(index_t rows, index_t cols, std::uint64_t seed,
                                                 double deviation = 1.0) {
  random_source random(seed);
  matrix<float> values(rows, cols);
  for (index_t i = 0; i < values.size(); ++i) {
    values.data()[i] = static_cast<float>(deviation * random.normal());
  }
  return values;
}

/// What weights of language models look like: rows of different size, heavy tails, a few outlier columns.
[[nodiscard]] inline matrix<float> weight_like_matrix(index_t rows, index_t cols, std::uint64_t seed) {
  random_source random(seed);
  std::vector<double> column(static_cast<std::size_t>(cols), 1.0);
  for (double& factor : column) {
    if (random.uniform() < 0.03) factor = 8.0;
  }
  matrix<float> values(rows, cols);
  for (index_t i = 0; i < rows; ++i) {
    const double row = 0.02 * std::exp(0.5 * random.normal());
    for (index_t j = 0; j < cols; ++j) {
      const double tail = 1.0 / std::sqrt(random.between(0.2, 1.8));
      values(i, j) = static_cast<float>(row * column[static_cast<std::size_t>(j)] * random.normal() * tail);
    }
  }
  return values;
}

/// The same matrix times a power of two, which is exact.
[[nodiscard]] inline matrix<float> scaled(const matrix<float>& values, float power_of_two) {
  matrix<float> result(values.rows(), values.cols());
  for (index_t i = 0; i < values.size(); ++i) result.data()[i] = values.data()[i] * power_of_two;
  return result;
}

/// Where the elements of a matrix lie in memory.
enum class placement { row_major, padded_rows, column_major, every_other_element, backwards };

inline constexpr placement all_placements[] = {placement::row_major, placement::padded_rows,
                                               placement::column_major, placement::every_other_element,
                                               placement::backwards};

/// A copy of a matrix in one of the placements; memory between its elements is NaN.
template <class T>
class placed_matrix {
public:
  placed_matrix(matrix_view<const float> values, placement where)
      : memory_(static_cast<std::size_t>(2 * values.rows() * (values.cols() + 3) + 1),
                std::numeric_limits<T>::quiet_NaN()) {
    const index_t rows = values.rows();
    const index_t cols = values.cols();
    T* const first = memory_.data();
    switch (where) {
    case placement::row_major:
      view_ = {first, rows, cols};
      break;
    case placement::padded_rows:
      view_ = {first, rows, cols, cols + 3};
      break;
    case placement::column_major:
      view_ = {first, rows, cols, 1, rows};
      break;
    case placement::every_other_element:
      view_ = {first, rows, cols, 2 * cols, 2};
      break;
    case placement::backwards:
      view_ = {first + rows * cols, rows, cols, -cols, -1};
      break;
    }
    for (index_t i = 0; i < rows; ++i) {
      for (index_t j = 0; j < cols; ++j) view_(i, j) = static_cast<T>(values(i, j));
    }
  }

  placed_matrix(const placed_matrix&) = delete;
  placed_matrix& operator=(const placed_matrix&) = delete;

  [[nodiscard]] matrix_view<T> writable() { return view_; }
  [[nodiscard]] matrix_view<const T> view() const { return view_; }

private:
  std::vector<T> memory_;
  matrix_view<T> view_;
};

} // namespace qlr::test
