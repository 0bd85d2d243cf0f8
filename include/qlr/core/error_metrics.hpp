// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/core/status.hpp>

#include <algorithm>
#include <cmath>

namespace qlr {

/// How far an approximation is from a matrix; all sums in double precision.
struct error_summary {
  double relative_error = 0; ///< ||W - V||_F / ||W||_F, 0 when both are zero
  double largest_error = 0;  ///< max |W - V|
  double sqnr_db = 0;        ///< 20 log10(||W||_F / ||W - V||_F); infinite when equal
};

/// Compares two matrices of the same shape, any strides.
///
/// @throws qlr::error shape_mismatch: the shapes differ
template <class T, class U>
[[nodiscard]] error_summary compare(matrix_view<T> exact, matrix_view<U> approximate) {
  require(exact.rows() == approximate.rows() && exact.cols() == approximate.cols(),
          status_code::shape_mismatch, "compare: shapes are ", exact.rows(), " x ", exact.cols(), " and ",
          approximate.rows(), " x ", approximate.cols());
  double error = 0;
  double norm = 0;
  error_summary summary;
  for (index_t i = 0; i < exact.rows(); ++i) {
    for (index_t j = 0; j < exact.cols(); ++j) {
      const auto value = static_cast<double>(exact(i, j));
      const double difference = value - static_cast<double>(approximate(i, j));
      error += difference * difference;
      norm += value * value;
      summary.largest_error = std::max(summary.largest_error, std::fabs(difference));
    }
  }
  summary.relative_error = error > 0 ? std::sqrt(error / norm) : 0.0;
  summary.sqnr_db = 10.0 * std::log10(norm / error);
  return summary;
}

/// ||X (W - V)^T||_F / ||X W^T||_F for activations X (t,n): the relative error of the layer's output.
///
/// @throws qlr::error shape_mismatch: W and V differ in shape, or X does not have their number of columns
/// @complexity O(t m n) in double precision, without vector instructions: for reports, not for loops
template <class T, class U>
[[nodiscard]] double relative_output_error(matrix_view<T> exact, matrix_view<U> approximate,
                                           matrix_view<const float> activations) {
  require(exact.rows() == approximate.rows() && exact.cols() == approximate.cols(),
          status_code::shape_mismatch, "relative_output_error: shapes are ", exact.rows(), " x ",
          exact.cols(), " and ", approximate.rows(), " x ", approximate.cols());
  require(activations.cols() == exact.cols(), status_code::shape_mismatch, "activations have ",
          activations.cols(), " columns, the weight matrix has ", exact.cols());
  double error = 0;
  double norm = 0;
  for (index_t i = 0; i < exact.rows(); ++i) {
    for (index_t t = 0; t < activations.rows(); ++t) {
      double difference = 0;
      double output = 0;
      for (index_t j = 0; j < exact.cols(); ++j) {
        const auto x = static_cast<double>(activations(t, j));
        const auto w = static_cast<double>(exact(i, j));
        output += x * w;
        difference += x * (w - static_cast<double>(approximate(i, j)));
      }
      error += difference * difference;
      norm += output * output;
    }
  }
  return error > 0 ? std::sqrt(error / norm) : 0.0;
}

} // namespace qlr
