// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/decompose/metric.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace qlr::detail {

/// The k of r directions that SRR keeps before quantization: the argmin of rho_k(signal) rho_(r-k)(noise),
/// rho_p the share of energy beyond the p largest singular values; the smallest k of equals.
///
/// @param signal  (1, 1 + r) norm of W S, then its largest singular values, descending; fewer than r stand
/// for
///                all that are not zero
/// @param noise   likewise of random noise times S
/// @see Cho et al., Structured residual reconstruction, arXiv 2602.02001, section 4
[[nodiscard]] inline index_t preserved_rank(const matrix<float>& signal, const matrix<float>& noise,
                                            index_t rank) {
  const auto tails = [rank](const matrix<float>& spectrum) {
    std::vector<double> shares(static_cast<std::size_t>(rank + 1), 0.0);
    const double norm = static_cast<double>(spectrum(0, 0));
    double tail = 1.0;
    for (index_t p = 0; p <= rank; ++p) {
      if (p > 0 && p < spectrum.cols() && norm > 0) {
        const double share = static_cast<double>(spectrum(0, p)) / norm;
        tail -= share * share;
      }
      shares[static_cast<std::size_t>(p)] = std::max(0.0, tail);
    }
    return shares;
  };
  const std::vector<double> kept = tails(signal);
  const std::vector<double> repaired = tails(noise);
  index_t best = 0;
  double least = 2.0;
  for (index_t k = 0; k <= rank; ++k) {
    const double product = kept[static_cast<std::size_t>(k)] * repaired[static_cast<std::size_t>(rank - k)];
    if (product < least) {
      least = product;
      best = k;
    }
  }
  return best;
}

/// The `count` columns of largest input variance, descending; empty where nothing is known of the inputs.
[[nodiscard]] inline std::vector<index_t> largest_variances(const metric& weights, index_t cols,
                                                            index_t count) {
  if (!weights.has_covariance() && weights.col_weights.empty()) return {};
  std::vector<index_t> columns(static_cast<std::size_t>(cols));
  std::iota(columns.begin(), columns.end(), index_t{0});
  const auto variance = [&](index_t j) {
    return weights.has_covariance() ? weights.covariance->values(j, j)
                                    : static_cast<double>(weights.col_weights[static_cast<std::size_t>(j)]);
  };
  std::stable_sort(columns.begin(), columns.end(),
                   [&](index_t a, index_t b) { return variance(a) > variance(b); });
  columns.resize(static_cast<std::size_t>(std::min(count, cols)));
  return columns;
}

} // namespace qlr::detail
