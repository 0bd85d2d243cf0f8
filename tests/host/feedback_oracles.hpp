// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Error feedback as GPTQ's paper states it: column by column, with the Cholesky factor of the inverse of the
// damped covariance, in double precision and triple loops.

#include <qlr/decompose/input_covariance.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/quant/formats.hpp>

#include <host/covariance_oracles.hpp>
#include <support/feedback.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

namespace qlr::test {

/// By Gauss and Jordan, rows exchanged.
[[nodiscard]] inline matrix<double> slow_inverse(matrix<double> a) {
  const index_t n = a.rows();
  matrix<double> inverse(n, n, 0.0);
  for (index_t i = 0; i < n; ++i) inverse(i, i) = 1;
  for (index_t k = 0; k < n; ++k) {
    index_t pivot = k;
    for (index_t i = k; i < n; ++i) {
      if (std::fabs(a(i, k)) > std::fabs(a(pivot, k))) pivot = i;
    }
    for (index_t j = 0; j < n; ++j) {
      std::swap(a(k, j), a(pivot, j));
      std::swap(inverse(k, j), inverse(pivot, j));
    }
    const double unit = 1.0 / a(k, k);
    for (index_t j = 0; j < n; ++j) {
      a(k, j) *= unit;
      inverse(k, j) *= unit;
    }
    for (index_t i = 0; i < n; ++i) {
      const double factor = a(i, k);
      if (i == k || factor == 0) continue;
      for (index_t j = 0; j < n; ++j) {
        a(i, j) -= factor * a(k, j);
        inverse(i, j) -= factor * inverse(k, j);
      }
    }
  }
  return inverse;
}

/// U upper triangular with U^T U = A.
[[nodiscard]] inline matrix<double> slow_cholesky(const matrix<double>& a) {
  const index_t n = a.rows();
  matrix<double> u(n, n, 0.0);
  for (index_t i = 0; i < n; ++i) {
    for (index_t j = i; j < n; ++j) {
      double rest = a(i, j);
      for (index_t k = 0; k < i; ++k) rest -= u(k, i) * u(k, j);
      u(i, j) = i == j ? std::sqrt(rest) : rest / u(i, i);
    }
  }
  return u;
}

/// H - H R^T (R H R^T)^-1 R H.
[[nodiscard]] inline matrix<double> slow_downdate(const matrix<double>& h, const matrix<float>& right) {
  const matrix<double> rh = slow_product(right, h);
  const matrix<double> inner = slow_inverse(slow_product(rh, right, true));
  matrix<double> out(h);
  for (index_t i = 0; i < h.rows(); ++i) {
    for (index_t j = 0; j < h.cols(); ++j) {
      for (index_t k = 0; k < right.rows(); ++k) {
        for (index_t l = 0; l < right.rows(); ++l) out(i, j) -= rh(k, i) * inner(k, l) * rh(l, j);
      }
    }
  }
  return out;
}

[[nodiscard]] inline matrix<double> damped(matrix<double> h, double added) {
  for (index_t i = 0; i < h.rows(); ++i) h(i, i) += added;
  return h;
}

/// The column visited j-th.
[[nodiscard]] inline std::vector<index_t> slow_order(const matrix<double>& h, column_order order) {
  std::vector<index_t> columns(static_cast<std::size_t>(h.rows()));
  std::iota(columns.begin(), columns.end(), index_t{0});
  if (order == column_order::descending)
    std::sort(columns.begin(), columns.end(), [](index_t a, index_t b) { return a > b; });
  if (order == column_order::importance) {
    std::sort(columns.begin(), columns.end(),
              [&](index_t a, index_t b) { return h(a, a) != h(b, b) ? h(a, a) > h(b, b) : a < b; });
  }
  return columns;
}

/// Codes of the first columns of W+ = [W, 0], whose last columns are never rounded, and how sure they are.
struct slow_codes {
  matrix<code_t> codes;
  matrix<bool> is_clear; ///< the target is further than 1e-4 of the scale from a threshold
  matrix<double> values;
};

/// GPTQ for a covariance that is damped already; it may have more columns than W.
[[nodiscard]] inline slow_codes slow_gptq(const any_quantizer& quantizer, const fitted_scales& scales,
                                          const matrix<float>& w, const matrix<double>& h,
                                          const std::vector<index_t>& order) {
  const quantized_layout layout = quantizer.layout(w.rows(), w.cols());
  const index_t n = h.rows();
  matrix<double> ordered(n, n);
  for (index_t i = 0; i < n; ++i) {
    for (index_t j = 0; j < n; ++j)
      ordered(i, j) = h(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]);
  }
  const matrix<double> u = slow_cholesky(slow_inverse(std::move(ordered)));
  slow_codes out{matrix<code_t>(w.rows(), w.cols()), matrix<bool>(w.rows(), w.cols()),
                 matrix<double>(w.rows(), w.cols())};
  for (index_t i = 0; i < w.rows(); ++i) {
    std::vector<double> target(static_cast<std::size_t>(n), 0.0);
    for (index_t j = 0; j < n; ++j) {
      const index_t col = order[static_cast<std::size_t>(j)];
      if (col < w.cols()) target[static_cast<std::size_t>(j)] = static_cast<double>(w(i, col));
    }
    for (index_t j = 0; j < w.cols(); ++j) {
      const index_t col = order[static_cast<std::size_t>(j)];
      const double x = target[static_cast<std::size_t>(j)];
      const block_scale block =
          scales.blocks[static_cast<std::size_t>(layout.scale_index(i, col / layout.group_cols()))];
      const double slack = 1e-4 * std::fabs(static_cast<double>(block.scale));
      const float x_near[] = {static_cast<float>(x - slack), static_cast<float>(x),
                              static_cast<float>(x + slack)};
      const block_scale blocks[] = {block, block, block};
      code_t codes[3];
      float values[3];
      quantizer.round(x_near, blocks, 3, codes, values);
      out.codes(i, col) = codes[1];
      out.is_clear(i, col) = codes[0] == codes[1] && codes[1] == codes[2];
      out.values(i, col) = static_cast<double>(values[1]);
      const double error = (x - static_cast<double>(values[1])) / u(j, j);
      for (index_t k = j + 1; k < n; ++k) target[static_cast<std::size_t>(k)] -= error * u(j, k);
    }
  }
  return out;
}

} // namespace qlr::test
