// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>
#include <qlr/cuda/device_buffer.hpp>

#include <string_view>

namespace qlr::cuda::detail {

// What map_elements_async does for the coupling of columns; H (n,n) and its relatives are row-major.

/// out_j = H(j,j); over (1,n).
struct read_diagonal_body {
  static constexpr std::string_view name = "read_diagonal_kernel";
  device_view<const double> h;
  double* out; // (n)
  QLR_DEVICE void operator()(index_t /*row*/, index_t j) const { out[j] = h(j, j); }
};

/// H(j,j) = factor H(j,j) + added; over (1,n).
struct change_diagonal_body {
  static constexpr std::string_view name = "change_diagonal_kernel";
  device_view<double> h;
  double factor;
  double added;
  QLR_DEVICE void operator()(index_t /*row*/, index_t j) const { h(j, j) = factor * h(j, j) + added; }
};

/// Row i of x times scales[i].
struct scale_double_rows_body {
  static constexpr std::string_view name = "scale_double_rows_kernel";
  device_view<double> x;
  const double* scales; // (rows)
  QLR_DEVICE void operator()(index_t i, index_t j) const { x(i, j) *= scales[i]; }
};

/// out = H + added I with rows and columns in the order opposite to that of the visits.
struct reverse_order_body {
  static constexpr std::string_view name = "reverse_order_kernel";
  device_view<const double> h;
  const int* order; // (n): the column that is visited j-th
  device_view<double> out;
  double added;
  QLR_DEVICE void operator()(index_t i, index_t j) const {
    const index_t last = h.rows() - 1;
    const double value = h(order[last - i], order[last - j]);
    out(i, j) = i == j ? value + added : value;
  }
};

/// N - I of N diag(d) N^T from the Cholesky factor T of the reversed matrix; over (n,stride).
struct write_feedback_body {
  static constexpr std::string_view name = "write_feedback_kernel";
  device_view<const double> factor; // (n,n), its lower triangle
  device_view<float> out;           // (n,stride), zeros from column n on
  QLR_DEVICE void operator()(index_t l, index_t j) const {
    const index_t last = factor.rows() - 1;
    double value = 0;
    if (l < j && j <= last) value = factor(last - l, last - j) / factor(last - j, last - j);
    out(l, j) = static_cast<float>(value);
  }
};

/// out(l,j) = H(l,j) / H(j,j) in visiting order and off the diagonal; over (n,stride).
struct write_descent_body {
  static constexpr std::string_view name = "write_descent_kernel";
  device_view<const double> h;
  const int* order;       // (n)
  device_view<float> out; // (n,stride), zeros from column n on
  double floor;           // a column whose variance is gone has no say; its own error is all that is left
  QLR_DEVICE void operator()(index_t l, index_t j) const {
    double value = 0;
    if (l != j && j < h.cols()) {
      const index_t col = order[j];
      const double variance = h(col, col);
      if (variance > floor) value = h(order[l], col) / variance;
    }
    out(l, j) = static_cast<float>(value);
  }
};

} // namespace qlr::cuda::detail
