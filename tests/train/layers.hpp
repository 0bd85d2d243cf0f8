// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Slow second implementations of a linear layer, in double.

#include <qlr/core/matrix.hpp>
#include <qlr/core/matrix_view.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <vector>

namespace qlr::test {

/// Shapes (t, m, n) of one element, one row and one column, and beside the 64 rows of a tile and the 256 of a
/// piece.
struct layer_shape {
  index_t tokens;
  index_t rows;
  index_t cols;
};

inline constexpr layer_shape layer_shapes[] = {{1, 1, 1},   {3, 1, 70},   {5, 70, 1},  {2, 65, 64},
                                               {4, 63, 65}, {3, 300, 70}, {7, 257, 9}, {0, 65, 12}};

template <std::floating_point T>
[[nodiscard]] matrix<T> normal_numbers(index_t rows, index_t cols, std::uint64_t seed) {
  random_source random(seed);
  matrix<T> values(rows, cols);
  for (index_t i = 0; i < values.size(); ++i) values.data()[i] = static_cast<T>(random.normal());
  return values;
}

/// What outputs hold before a call.
template <std::floating_point T>
[[nodiscard]] matrix<T> unset(index_t rows, index_t cols) {
  return {rows, cols, std::numeric_limits<T>::quiet_NaN()};
}

template <class T>
[[nodiscard]] matrix<double> to_double(matrix_view<T> values) {
  matrix<double> result(values.rows(), values.cols());
  for (index_t i = 0; i < values.rows(); ++i) {
    for (index_t j = 0; j < values.cols(); ++j) result(i, j) = static_cast<double>(values(i, j));
  }
  return result;
}

/// A sum of products, and the sum of their magnitudes, which its rounding is relative to.
struct slow_sum {
  double value = 0;
  double magnitude = 0;

  void add(double a, double b) {
    value += a * b;
    magnitude += std::fabs(a * b);
  }
};

/// Entry (i, j) of A (p,k) B (q,k)^T.
[[nodiscard]] inline slow_sum entry_of_product(const matrix<double>& a, const matrix<double>& b, index_t i,
                                               index_t j) {
  slow_sum sum;
  for (index_t k = 0; k < a.cols(); ++k) sum.add(a(i, k), b(j, k));
  return sum;
}

[[nodiscard]] inline matrix<double> transpose(const matrix<double>& a) {
  matrix<double> result(a.cols(), a.rows());
  for (index_t i = 0; i < a.rows(); ++i) {
    for (index_t j = 0; j < a.cols(); ++j) result(j, i) = a(i, j);
  }
  return result;
}

/// Checks that C (p,q) is A (p,k) B (q,k)^T.
///
/// k products and k sums, each rounded to T once, in any order: k + 1 roundings of the sum of magnitudes; 4
/// more for sums of parts.
template <class T>
void check_product(matrix_view<T> c, const matrix<double>& a, const matrix<double>& b) {
  using number = std::remove_const_t<T>;
  const double rounding =
      static_cast<double>(a.cols() + 5) * static_cast<double>(std::numeric_limits<number>::epsilon());
  REQUIRE(c.rows() == a.rows());
  REQUIRE(c.cols() == b.rows());
  for (index_t i = 0; i < c.rows(); ++i) {
    for (index_t j = 0; j < c.cols(); ++j) {
      const slow_sum expected = entry_of_product(a, b, i, j);
      if (std::fabs(static_cast<double>(c(i, j)) - expected.value) <= rounding * expected.magnitude) continue;
      CAPTURE(i, j, c(i, j), expected.value);
      FAIL("an entry of the product is wrong");
    }
  }
}

/// Half the sum of the squares of Y - X W^T, whose gradient by Y is the difference; `weight` gives W_hat.
[[nodiscard]] inline double half_squared_error(const matrix<double>& x, const matrix<double>& weight,
                                               const matrix<double>& target) {
  double sum = 0;
  for (index_t t = 0; t < x.rows(); ++t) {
    for (index_t i = 0; i < weight.rows(); ++i) {
      const double difference = entry_of_product(x, weight, t, i).value - target(t, i);
      sum += 0.5 * difference * difference;
    }
  }
  return sum;
}

/// The same bits in every element.
template <class T>
[[nodiscard]] bool has_same_bits(const matrix<T>& a, const matrix<T>& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (index_t i = 0; i < a.size(); ++i) {
    const bool is_same_nan = a.data()[i] != a.data()[i] && b.data()[i] != b.data()[i];
    const bool is_equal =
        a.data()[i] == b.data()[i] && std::signbit(a.data()[i]) == std::signbit(b.data()[i]);
    if (!is_same_nan && !is_equal) return false;
  }
  return true;
}

} // namespace qlr::test
