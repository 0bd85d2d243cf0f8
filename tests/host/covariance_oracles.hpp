// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Covariances and slow products in double precision for the tests of calibrated methods.

#include <qlr/core/matrix.hpp>

#include <support/generators.hpp>

#include <cmath>
#include <cstdint>

namespace qlr::test {

/// X^T X / t, summed in double.
[[nodiscard]] inline matrix<double> slow_covariance(const matrix<float>& x) {
  matrix<double> h(x.cols(), x.cols(), 0.0);
  for (index_t i = 0; i < x.cols(); ++i) {
    for (index_t j = 0; j < x.cols(); ++j) {
      for (index_t t = 0; t < x.rows(); ++t)
        h(i, j) += static_cast<double>(x(t, i)) * static_cast<double>(x(t, j));
      h(i, j) /= static_cast<double>(x.rows());
    }
  }
  return h;
}

/// Activations whose channels depend on one another and differ in size.
[[nodiscard]] inline matrix<float> correlated_inputs(index_t tokens, index_t channels, std::uint64_t seed) {
  matrix<float> x = normal_matrix(tokens, channels, seed);
  const matrix<float> sizes = normal_matrix(1, channels, seed + 1);
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t j = 1; j < channels; ++j) x(t, j) += 0.7F * x(t, j - 1);
    for (index_t j = 0; j < channels; ++j) x(t, j) *= std::exp(0.5F * sizes(0, j));
  }
  return x;
}

/// A B or A B^T.
template <class A, class B>
[[nodiscard]] matrix<double> slow_product(const matrix<A>& a, const matrix<B>& b, bool transposes_b = false) {
  matrix<double> out(a.rows(), transposes_b ? b.rows() : b.cols(), 0.0);
  for (index_t i = 0; i < a.rows(); ++i) {
    for (index_t j = 0; j < out.cols(); ++j) {
      for (index_t k = 0; k < a.cols(); ++k)
        out(i, j) += static_cast<double>(a(i, k)) * static_cast<double>(transposes_b ? b(j, k) : b(k, j));
    }
  }
  return out;
}

/// W - V.
[[nodiscard]] inline matrix<double> slow_difference(const matrix<float>& w, const matrix<float>& v) {
  matrix<double> e(w.rows(), w.cols());
  for (index_t i = 0; i < w.size(); ++i)
    e.data()[i] = static_cast<double>(w.data()[i]) - static_cast<double>(v.data()[i]);
  return e;
}

/// tr(E H E^T).
template <class T>
[[nodiscard]] double slow_energy(const matrix<T>& e, const matrix<double>& h) {
  double sum = 0;
  for (index_t i = 0; i < e.rows(); ++i) {
    for (index_t j = 0; j < e.cols(); ++j) {
      for (index_t l = 0; l < e.cols(); ++l)
        sum += static_cast<double>(e(i, j)) * h(j, l) * static_cast<double>(e(i, l));
    }
  }
  return sum;
}

[[nodiscard]] inline double mean_of_diagonal(const matrix<double>& h) {
  double sum = 0;
  for (index_t i = 0; i < h.rows(); ++i) sum += h(i, i);
  return sum / static_cast<double>(h.rows());
}

} // namespace qlr::test
