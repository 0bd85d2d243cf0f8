// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cuda/launcher.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/cuda/backend.hpp>
#include <support/generators.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace qlr::test {

using cuda_backend = cuda::basic_cuda_backend<test_launcher>;

/// A device matrix of NaN.
inline cuda::device_matrix<float> spoilt(index_t rows, index_t cols) {
  return cuda::to_device(matrix<float>(rows, cols, std::numeric_limits<float>::quiet_NaN()).view());
}

/// Largest absolute difference of elements; infinite for different shapes or NaN.
inline double largest_difference(const matrix<float>& a, const matrix<float>& b) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  if (a.rows() != b.rows() || a.cols() != b.cols()) return infinite;
  double worst = 0;
  for (index_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
    if (!(difference <= worst)) worst = std::isnan(difference) ? infinite : difference;
  }
  return worst;
}

/// (rows, cols): one element, one row, one below, at and above a warp, rows = cols.
inline constexpr std::pair<index_t, index_t> shapes[] = {{1, 1}, {1, 40}, {5, 31}, {4, 32}, {7, 33}, {9, 9}};

/// Rows are equal to rows, sums of rows, or zero: rank 2.
inline matrix<float> dependent_rows(index_t rows, index_t cols) {
  matrix<float> x = normal_matrix(rows, cols, 71);
  for (index_t i = 2; i < rows; ++i) {
    for (index_t j = 0; j < cols; ++j)
      x(i, j) = i % 3 == 2 ? 0.0F : x(0, j) + static_cast<float>(i) * x(1, j);
  }
  return x;
}

/// Largest distance of a row of x from the span of the orthonormal rows of basis.
inline double distance_from_span(const matrix<float>& x, const matrix<float>& basis) {
  double worst = 0;
  for (index_t i = 0; i < x.rows(); ++i) {
    std::vector<double> rest(x.view().row(i), x.view().row(i) + x.cols());
    for (index_t a = 0; a < basis.rows(); ++a) {
      double dot = 0;
      for (index_t j = 0; j < x.cols(); ++j)
        dot += static_cast<double>(basis(a, j)) * static_cast<double>(x(i, j));
      for (index_t j = 0; j < x.cols(); ++j)
        rest[static_cast<std::size_t>(j)] -= dot * static_cast<double>(basis(a, j));
    }
    for (const double left : rest) worst = std::max(worst, std::fabs(left));
  }
  return worst;
}

} // namespace qlr::test
