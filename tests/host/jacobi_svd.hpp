// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// An independent singular value decomposition, and what follows from it.

#include <qlr/core/backend.hpp>
#include <qlr/core/matrix.hpp>

#include <support/generators.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

namespace qlr::test {

/// Singular values of x, descending, min(m,n) of them: one-sided Jacobi rotations in double precision.
[[nodiscard]] inline std::vector<double> jacobi_singular_values(const matrix<float>& x) {
  const bool is_wide = x.cols() > x.rows();
  const auto count = static_cast<std::size_t>(std::min(x.rows(), x.cols()));
  const auto length = static_cast<std::size_t>(std::max(x.rows(), x.cols()));
  std::vector<std::vector<double>> vectors(count, std::vector<double>(length));
  for (std::size_t a = 0; a < count; ++a) {
    for (std::size_t b = 0; b < length; ++b) {
      const auto i = static_cast<index_t>(a);
      const auto j = static_cast<index_t>(b);
      vectors[a][b] = static_cast<double>(is_wide ? x(i, j) : x(j, i));
    }
  }
  const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  bool is_rotating = true;
  for (int sweep = 0; sweep < 60 && is_rotating; ++sweep) {
    is_rotating = false;
    for (std::size_t p = 0; p < count; ++p) {
      for (std::size_t q = p + 1; q < count; ++q) {
        const double alpha = dot(vectors[p], vectors[p]);
        const double beta = dot(vectors[q], vectors[q]);
        const double gamma = dot(vectors[p], vectors[q]);
        if (std::fabs(gamma) <= 1e-14 * std::sqrt(alpha * beta)) continue;
        is_rotating = true;
        const double zeta = (beta - alpha) / (2.0 * gamma);
        const double tangent = (zeta < 0 ? -1.0 : 1.0) / (std::fabs(zeta) + std::sqrt(1.0 + zeta * zeta));
        const double cosine = 1.0 / std::sqrt(1.0 + tangent * tangent);
        const double sine = cosine * tangent;
        for (std::size_t i = 0; i < length; ++i) {
          const double first = vectors[p][i];
          vectors[p][i] = cosine * first - sine * vectors[q][i];
          vectors[q][i] = sine * first + cosine * vectors[q][i];
        }
      }
    }
  }
  std::vector<double> values;
  for (const std::vector<double>& vector : vectors) values.push_back(std::sqrt(dot(vector, vector)));
  std::sort(values.begin(), values.end(), std::greater<>());
  return values;
}

/// || x - left^T diag(values) right ||_F in double precision.
[[nodiscard]] inline double residual_norm(const matrix<float>& x,
                                          const singular_triplets<matrix<float>>& triplets) {
  double sum = 0;
  for (index_t i = 0; i < x.rows(); ++i) {
    for (index_t j = 0; j < x.cols(); ++j) {
      double element = static_cast<double>(x(i, j));
      for (index_t k = 0; k < triplets.left.rows(); ++k) {
        element -= static_cast<double>(triplets.left(k, i)) * static_cast<double>(triplets.values(0, k)) *
                   static_cast<double>(triplets.right(k, j));
      }
      sum += element * element;
    }
  }
  return std::sqrt(sum);
}

/// Root of the sum of squares of values[rank], values[rank + 1] ...: what the best rank-r approximation
/// leaves.
[[nodiscard]] inline double tail_norm(const std::vector<double>& values, index_t rank) {
  double sum = 0;
  for (std::size_t k = static_cast<std::size_t>(rank); k < values.size(); ++k) sum += values[k] * values[k];
  return std::sqrt(sum);
}

/// Largest |(x x^T - I)_ij|: how far the rows are from orthonormal. NaN counts as infinitely far.
[[nodiscard]] inline double orthonormality_error(const matrix<float>& x) {
  double worst = 0;
  for (index_t a = 0; a < x.rows(); ++a) {
    for (index_t b = 0; b <= a; ++b) {
      double sum = a == b ? -1.0 : 0.0;
      for (index_t j = 0; j < x.cols(); ++j)
        sum += static_cast<double>(x(a, j)) * static_cast<double>(x(b, j));
      if (!(std::fabs(sum) <= worst)) worst = std::isnan(sum) ? 1e300 : std::fabs(sum);
    }
  }
  return worst;
}

/// (rows, cols) = A diag(values) B with rows and columns of A and B orthonormal (products of reflections).
[[nodiscard]] inline matrix<float> matrix_of_spectrum(index_t rows, index_t cols,
                                                      const std::vector<double>& values, std::uint64_t seed) {
  random_source random(seed);
  std::vector<double> x(static_cast<std::size_t>(rows * cols), 0.0);
  for (std::size_t k = 0; k < values.size(); ++k) x[k * static_cast<std::size_t>(cols) + k] = values[k];
  const auto at = [&](index_t i, index_t j) -> double& { return x[static_cast<std::size_t>(i * cols + j)]; };
  for (int reflection = 0; reflection < 3; ++reflection) {
    for (const bool is_left : {true, false}) {
      const index_t length = is_left ? rows : cols;
      std::vector<double> v(static_cast<std::size_t>(length));
      double norm = 0;
      for (double& entry : v) {
        entry = random.normal();
        norm += entry * entry;
      }
      for (index_t other = 0; other < (is_left ? cols : rows); ++other) {
        double dot = 0;
        for (index_t i = 0; i < length; ++i) {
          dot += v[static_cast<std::size_t>(i)] * (is_left ? at(i, other) : at(other, i));
        }
        for (index_t i = 0; i < length; ++i) {
          (is_left ? at(i, other) : at(other, i)) -= 2.0 * dot / norm * v[static_cast<std::size_t>(i)];
        }
      }
    }
  }
  matrix<float> result(rows, cols);
  for (index_t i = 0; i < result.size(); ++i)
    result.data()[i] = static_cast<float>(x[static_cast<std::size_t>(i)]);
  return result;
}

} // namespace qlr::test
