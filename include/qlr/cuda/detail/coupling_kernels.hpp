// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/config.hpp>
#include <qlr/core/types.hpp>

#include <string_view>

namespace qlr::cuda::detail {

// Bodies of map_elements_async for the coupling of columns; H (n,n) and all of its relatives are row-major
// doubles.

/// out = in, widened.
struct widen_elements {
  static constexpr std::string_view name = "widen_elements_kernel";
  const float* in; // (rows, cols)
  double* out;     // (rows, cols)
  index_t cols;

  QLR_DEVICE void operator()(index_t i, index_t j) const {
    out[i * cols + j] = static_cast<double>(in[i * cols + j]);
  }
};

/// out_j = H(j,j); over (1, n).
struct read_diagonal {
  static constexpr std::string_view name = "read_diagonal_kernel";
  const double* h; // (n,n)
  double* out;     // (n)
  index_t n;

  QLR_DEVICE void operator()(index_t /*row*/, index_t j) const { out[j] = h[j * n + j]; }
};

/// H(j,j) = factor H(j,j) + added; over (1, n).
struct change_diagonal {
  static constexpr std::string_view name = "change_diagonal_kernel";
  double* h; // (n,n)
  index_t n;
  double factor;
  double added;

  QLR_DEVICE void operator()(index_t /*row*/, index_t j) const {
    h[j * n + j] = factor * h[j * n + j] + added;
  }
};

/// Row i of x times scales_i.
struct scale_double_rows {
  static constexpr std::string_view name = "scale_double_rows_kernel";
  double* x;            // (rows, cols)
  const double* scales; // (rows)
  index_t cols;

  QLR_DEVICE void operator()(index_t i, index_t j) const { x[i * cols + j] *= scales[i]; }
};

/// out = the rows and columns of H + added I, the one that is visited last first.
struct reverse_order {
  static constexpr std::string_view name = "reverse_order_kernel";
  const double* h;  // (n,n)
  const int* order; // (n): the column that is visited j-th
  double* out;      // (n,n)
  index_t n;
  double added;

  QLR_DEVICE void operator()(index_t i, index_t j) const {
    const double value = h[order[n - 1 - i] * n + order[n - 1 - j]];
    out[i * n + j] = i == j ? value + added : value;
  }
};

/// N - I of N diag(d) N^T from the lower Cholesky factor of the reversed matrix, over (n, stride).
struct write_feedback {
  static constexpr std::string_view name = "write_feedback_kernel";
  const double* lower; // (n,n), what is above its diagonal is ignored
  float* out;          // (n, stride), zeros from column n on
  index_t n;
  index_t stride;

  QLR_DEVICE void operator()(index_t l, index_t j) const {
    double value = 0;
    if (l < j && j < n) value = lower[(n - 1 - l) * n + n - 1 - j] / lower[(n - 1 - j) * (n + 1)];
    out[l * stride + j] = static_cast<float>(value);
  }
};

/// out(l,j) = H(l,j) / H(j,j) in visiting order and off the diagonal, over (n, stride).
struct write_descent {
  static constexpr std::string_view name = "write_descent_kernel";
  const double* h;  // (n,n)
  const int* order; // (n)
  float* out;       // (n, stride), zeros from column n on
  index_t n;
  index_t stride;
  double floor; // a column whose variance is gone has no say; its own error is all that is left

  QLR_DEVICE void operator()(index_t l, index_t j) const {
    double value = 0;
    if (l != j && j < n) {
      const index_t row = order[l];
      const index_t col = order[j];
      const double variance = h[col * n + col];
      if (variance > floor) value = h[row * n + col] / variance;
    }
    out[l * stride + j] = static_cast<float>(value);
  }
};

} // namespace qlr::cuda::detail
