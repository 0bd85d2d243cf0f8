// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix_view.hpp>
#include <qlr/core/status.hpp>
#include <qlr/decompose/input_covariance.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr {

/// Squared norms of one matrix: plain, and in the metric of a decomposition.
struct energies {
  double frobenius = 0;
  double weighted = 0;
};

namespace detail {
/// Sum of term(0) ... term(count - 1), doubles, in fixed lanes that the compiler may vectorise without
/// reordering.
template <class Term>
double sum_of(index_t count, Term&& term) {
  constexpr index_t lanes = 8;
  double partial[lanes] = {};
  index_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    for (index_t lane = 0; lane < lanes; ++lane) partial[lane] += term(j + lane);
  }
  for (index_t lane = 0; j < count; ++j, ++lane) partial[lane] += term(j);
  double sum = 0;
  for (const double value : partial) sum += value;
  return sum;
}
} // namespace detail

/// What the decomposer measures errors in: || D E S ||_F with diagonal D and S, or elementwise weights, or
/// the covariance H of the layer's inputs (S is then a root of it and D the identity).
///
/// The low-rank step works with D and S; where a full matrix of weights F is known, errors are sum F_ij
/// E_ij^2.
struct metric {
  std::vector<float> row_weights;    ///< diagonal of D (m); empty = ones
  std::vector<float> col_weights;    ///< diagonal of S (n); empty = ones
  matrix_view<const float> elements; ///< F (m,n), contiguous rows; empty = none; must outlive the metric
  std::shared_ptr<const input_covariance> covariance; ///< H; null = none; excludes the weights above

  [[nodiscard]] bool has_covariance() const { return covariance != nullptr; }
  [[nodiscard]] bool is_identity() const {
    return row_weights.empty() && col_weights.empty() && elements.is_empty() && !has_covariance();
  }

  /// Energies of row i of an error matrix; `weighted` leaves the covariance out.
  [[nodiscard]] energies row_energies(index_t i, const float* error, index_t cols) const {
    const float* full = elements.is_empty() ? nullptr : elements.row(i);
    const float* col = col_weights.empty() ? nullptr : col_weights.data();
    energies sum;
    const auto square = [&](index_t j) {
      return static_cast<double>(error[j]) * static_cast<double>(error[j]);
    };
    const auto square_of = [](float value) {
      return static_cast<double>(value) * static_cast<double>(value);
    };
    sum.frobenius = detail::sum_of(cols, square);
    if (full != nullptr) {
      sum.weighted =
          detail::sum_of(cols, [&](index_t j) { return static_cast<double>(full[j]) * square(j); });
    } else if (col != nullptr) {
      sum.weighted = detail::sum_of(cols, [&](index_t j) { return square_of(col[j]) * square(j); });
    }
    if (full == nullptr) {
      const double d =
          row_weights.empty() ? 1.0 : static_cast<double>(row_weights[static_cast<std::size_t>(i)]);
      sum.weighted = d * d * (col == nullptr ? sum.frobenius : sum.weighted);
    }
    return sum;
  }
};

namespace detail {

/// Square roots of non-negative means, floored at 1e-6 of their mean so that nothing is divided by zero.
inline std::vector<float> to_weights(const std::vector<double>& means) {
  double total = 0;
  for (const double mean : means) total += mean;
  const double floor = 1e-12 * total / static_cast<double>(std::max<std::size_t>(1, means.size()));
  std::vector<float> weights(means.size());
  std::transform(means.begin(), means.end(), weights.begin(),
                 [&](double mean) { return static_cast<float>(std::sqrt(std::max(mean, floor))); });
  return weights;
}

/// Importances may have zeros, weights are divided by.
enum class zero_weights { allowed, refused };

inline void check_weights(const std::vector<float>& weights, std::string_view name, index_t expected,
                          zero_weights zeros) {
  require(weights.empty() || static_cast<index_t>(weights.size()) == expected, status_code::shape_mismatch,
          name, " has ", weights.size(), " entries, the weight matrix needs ", expected);
  float largest = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    require(is_finite(weights[i]), status_code::non_finite, name, '[', i, "] is ", weights[i],
            ", it must be finite");
    const bool is_allowed = zeros == zero_weights::allowed ? weights[i] >= 0 : weights[i] > 0;
    require(is_allowed, status_code::invalid_argument, name, '[', i, "] is ", weights[i], ", it must be ",
            zeros == zero_weights::allowed ? ">= 0" : "> 0");
    largest = std::max(largest, weights[i]);
  }
  require(weights.empty() || largest > 0, status_code::invalid_argument, name,
          " is all zero, at least one entry must be positive");
}

} // namespace detail

/// Metric of given row and column importances: errors are weighted with row[i] * col[j].
///
/// @param row_importance  mean squared gradient (or similar) of each row, (m), or empty
/// @param col_importance  likewise of each column, (n), or empty
/// @throws qlr::error shape_mismatch, non_finite, invalid_argument (negative, or all zero)
[[nodiscard]] inline metric make_metric(const std::vector<float>& row_importance,
                                        const std::vector<float>& col_importance, index_t rows,
                                        index_t cols) {
  detail::check_weights(row_importance, "row importance", rows, detail::zero_weights::allowed);
  detail::check_weights(col_importance, "column importance", cols, detail::zero_weights::allowed);
  metric result;
  result.row_weights = detail::to_weights({row_importance.begin(), row_importance.end()});
  result.col_weights = detail::to_weights({col_importance.begin(), col_importance.end()});
  return result;
}

/// Metric of a Fisher matrix F (m,n): errors are sum F_ij E_ij^2; D and S are the roots of its row and column
/// means.
///
/// @param fisher  (m,n), contiguous rows, not copied
/// @throws qlr::error shape_mismatch: F is not (rows, cols)
/// @throws qlr::error non_finite, invalid_argument: an entry is not finite or negative, or all are zero
/// @see Guo et al., LQ-LoRA, arXiv 2311.12023, section 3.3; the mean is taken before the root, as its code
/// does
[[nodiscard]] inline metric make_fisher_metric(matrix_view<const float> fisher, index_t rows, index_t cols) {
  require(fisher.rows() == rows && fisher.cols() == cols, status_code::shape_mismatch, "fisher is ",
          fisher.rows(), " x ", fisher.cols(), ", the weight matrix is ", rows, " x ", cols);
  require(fisher.has_contiguous_rows(), status_code::unsupported, "fisher must have contiguous rows");
  require_finite(fisher, "fisher");
  std::vector<double> row_means(static_cast<std::size_t>(rows));
  std::vector<double> col_means(static_cast<std::size_t>(cols));
  double total = 0;
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < cols; ++j) {
      const float value = fisher(i, j);
      if (value < 0)
        fail(status_code::invalid_argument, "fisher(", i, ", ", j, ") is ", value, ", it must be >= 0");
      row_means[static_cast<std::size_t>(i)] += static_cast<double>(value) / static_cast<double>(cols);
      col_means[static_cast<std::size_t>(j)] += static_cast<double>(value) / static_cast<double>(rows);
      total += static_cast<double>(value);
    }
  }
  require(total > 0 || fisher.is_empty(), status_code::invalid_argument,
          "fisher is all zero, at least one entry must be positive");
  metric result;
  result.row_weights = detail::to_weights(row_means);
  result.col_weights = detail::to_weights(col_means);
  result.elements = fisher;
  return result;
}

} // namespace qlr
