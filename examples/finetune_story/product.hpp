// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>

/// Whether Eigen would take such a product element by element: some of the elements in vectors, others not,
/// depending on the address, and these are rounded differently.
[[nodiscard]] inline bool is_small_product(Eigen::Index rows, Eigen::Index depth, Eigen::Index cols) {
  return rows + depth + cols < 20;
}

/// Y += A B, with the same bits wherever the matrices lie.
template <class Y, class A, class B>
void add_product(Y&& y, const A& a, const B& b) {
  if (!is_small_product(a.rows(), a.cols(), b.cols())) {
    y.noalias() += a * b;
    return;
  }
  for (Eigen::Index i = 0; i < a.rows(); ++i) {
    for (Eigen::Index j = 0; j < b.cols(); ++j) {
      auto sum = y(i, j);
      for (Eigen::Index k = 0; k < a.cols(); ++k) sum += a(i, k) * b(k, j);
      y(i, j) = sum;
    }
  }
}

/// Y = A B, likewise.
template <class Y, class A, class B>
void write_product(Y&& y, const A& a, const B& b) {
  y.setZero();
  add_product(y, a, b);
}
