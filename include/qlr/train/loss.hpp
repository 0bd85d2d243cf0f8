// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/core/status.hpp>

#include <concepts>

namespace qlr::train {

/// The sum of squares of all elements, in double.
template <class T>
[[nodiscard]] double squared_norm(matrix_view<const T> x) {
  double sum = 0;
  for (index_t i = 0; i < x.rows(); ++i) {
    for (index_t j = 0; j < x.cols(); ++j) sum += static_cast<double>(x(i, j)) * static_cast<double>(x(i, j));
  }
  return sum;
}

/// Replaces Y_hat (t,m) by Y_hat - Y, half the gradient of the squared error.
///
/// @returns || Y_hat - Y ||_F^2, in double
/// @throws qlr::error shape_mismatch: the shapes differ
template <std::floating_point T>
double subtract_target(matrix_view<const T> target, matrix_view<T> output) {
  require(target.rows() == output.rows() && target.cols() == output.cols(), status_code::shape_mismatch,
          "Y is ", target.rows(), " x ", target.cols(), ", the output ", output.rows(), " x ", output.cols());
  for (index_t i = 0; i < output.rows(); ++i) {
    for (index_t j = 0; j < output.cols(); ++j) output(i, j) -= target(i, j);
  }
  return squared_norm(matrix_view<const T>(output));
}

template <std::floating_point T>
void scale_values(matrix_view<T> x, double factor) {
  for (index_t i = 0; i < x.rows(); ++i) {
    for (index_t j = 0; j < x.cols(); ++j) x(i, j) *= static_cast<T>(factor);
  }
}

} // namespace qlr::train
