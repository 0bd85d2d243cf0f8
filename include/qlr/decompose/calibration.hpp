// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/core/matrix_view.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr {

/// What is known about the inputs of one weight matrix W (m,n) and about the loss around it; empty = unknown.
///
/// Everything empty means that errors are not weighted.
struct calibration_data {
  matrix<float> activations;      ///< X (t,n)
  matrix<double> covariance;      ///< X^T X / t (n,n), symmetric
  std::vector<float> mean_abs;    ///< mean of |x_j|, (n)
  std::vector<float> rms;         ///< root of the mean of x_j^2, (n)
  std::vector<float> largest;     ///< largest |x_j|, (n)
  matrix<float> fisher;           ///< mean or sum of squared gradients (m,n)
  std::vector<std::string> notes; ///< one sentence for each thing that was left out and why

  /// True when nothing is known.
  [[nodiscard]] bool is_empty() const {
    return activations.size() == 0 && covariance.size() == 0 && mean_abs.empty() && rms.empty() &&
           largest.empty() && fisher.size() == 0;
  }
};

namespace detail {

/// Rounding that a covariance may have, relative to its largest diagonal entry: some 8 roundings in float.
inline constexpr double covariance_rounding = 1e-6;

inline void check_input_statistic(const std::vector<float>& values, std::string_view name, index_t cols) {
  require(values.empty() || static_cast<index_t>(values.size()) == cols, status_code::shape_mismatch, name,
          " has ", values.size(), " entries, the weight matrix has ", cols, " columns");
  for (std::size_t j = 0; j < values.size(); ++j) {
    require(is_finite(values[j]), status_code::non_finite, name, '[', j, "] is ", values[j],
            ", it must be finite");
    require(values[j] >= 0, status_code::invalid_argument, name, '[', j, "] is ", values[j],
            ", it must be >= 0");
  }
}

inline void check_fisher(matrix_view<const float> fisher, std::string_view name, index_t rows, index_t cols,
                         const executor& run) {
  require(fisher.rows() == rows && fisher.cols() == cols, status_code::shape_mismatch, name, " is ",
          fisher.rows(), " x ", fisher.cols(), ", the weight matrix is ", rows, " x ", cols);
  require_finite(fisher, name, run);
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < cols; ++j) {
      if (fisher(i, j) >= 0) continue;
      fail(status_code::invalid_argument, name, '(', i, ", ", j, ") is ", fisher(i, j), ", it must be >= 0");
    }
  }
}

/// Largest diagonal entry of a covariance whose elements are finite and whose diagonal is not negative.
[[nodiscard]] inline double check_covariance_diagonal(const matrix<double>& covariance,
                                                      std::string_view name) {
  double largest = 0;
  for (index_t i = 0; i < covariance.rows(); ++i) {
    for (index_t j = 0; j < covariance.cols(); ++j) {
      if (is_finite(covariance(i, j))) continue;
      fail(status_code::non_finite, name, '(', i, ", ", j, ") is ", covariance(i, j), ", it must be finite");
    }
    largest = std::max(largest, covariance(i, i));
  }
  for (index_t i = 0; i < covariance.rows(); ++i) {
    require(covariance(i, i) >= -covariance_rounding * largest, status_code::invalid_argument, name, '(', i,
            ", ", i, ") is ", covariance(i, i), ", a diagonal entry must be >= 0");
  }
  return largest;
}

/// Mean of the entries (i, j) and (j, i), which rounding may have set apart.
[[nodiscard]] inline double symmetric_entry(const matrix<double>& covariance, index_t i, index_t j) {
  return covariance(i, j) + (covariance(j, i) - covariance(i, j)) / 2;
}

inline void check_covariance(const matrix<double>& covariance, std::string_view name, index_t cols) {
  require(covariance.rows() == cols && covariance.cols() == cols, status_code::shape_mismatch, name, " is ",
          covariance.rows(), " x ", covariance.cols(), ", it must be ", cols, " x ", cols);
  const double largest = check_covariance_diagonal(covariance, name);
  for (index_t i = 0; i < cols; ++i) {
    for (index_t j = 0; j < i; ++j) {
      const double lower = covariance(i, j);
      const double upper = covariance(j, i);
      require(std::abs(lower - upper) <= covariance_rounding * largest, status_code::invalid_argument, name,
              " is not symmetric: (", j, ", ", i, ") is ", upper, ", (", i, ", ", j, ") is ", lower);
      // No product of two inputs has a mean above both mean squares.
      const double mean = symmetric_entry(covariance, i, j);
      require(std::abs(mean) <= (1 + covariance_rounding) * largest, status_code::invalid_argument, name, '(',
              i, ", ", j, ") is ", mean, ", larger than every diagonal entry: the largest is ", largest);
    }
  }
}

/// Makes a checked covariance exactly symmetric, with a diagonal >= 0.
inline void symmetrize_covariance(matrix<double>& covariance) {
  for (index_t i = 0; i < covariance.rows(); ++i) {
    for (index_t j = 0; j < i; ++j) covariance(i, j) = covariance(j, i) = symmetric_entry(covariance, i, j);
    covariance(i, i) = std::max(0.0, covariance(i, i));
  }
}

template <class Values>
[[nodiscard]] bool is_all_zero(const Values& values) {
  const auto* const first = values.data();
  return std::all_of(first, first + values.size(), [](auto value) { return value == 0; });
}

/// Empties a part that holds only zeros, which no error can be weighted with, and notes it.
template <class Values>
void drop_zeros(Values& values, std::string_view name, std::vector<std::string>& notes) {
  if (values.size() == 0 || !is_all_zero(values)) return;
  values = Values();
  notes.push_back(sentence(name, " is all zero: it is left out, errors are not weighted with it"));
}

} // namespace detail

/// Checks calibration data against its weight matrix and repairs what is rounding.
///
/// A covariance that is symmetric to 1e-6 of its largest diagonal entry becomes exactly symmetric by
/// averaging, and diagonal entries that are negative by no more become 0. A part that is all zero is emptied
/// and noted.
/// @param rows   m, rows of the weight matrix
/// @param cols   n, its columns
/// @param where  start of every message and note, such as the name of a file
/// @throws qlr::error shape_mismatch: a part has another width or shape than W
/// @throws qlr::error non_finite: names the part and its first element that is not finite
/// @throws qlr::error invalid_argument: a negative mean_abs, rms, largest, fisher or diagonal of the
///         covariance, or a covariance that is not symmetric; names the indices and values
///         The data is unchanged in all these cases.
/// @complexity O(t n + n^2 + m n)
inline void check_calibration(calibration_data& data, index_t rows, index_t cols, std::string_view where = {},
                              const executor& run = {}) {
  const auto named = [&](std::string_view part) { return sentence(where, part); };
  if (data.activations.size() != 0) {
    require(data.activations.cols() == cols, status_code::shape_mismatch, where, "X is ",
            data.activations.rows(), " x ", data.activations.cols(), ", the weight matrix has ", cols,
            " columns");
    require_finite(std::as_const(data.activations).view(), named("X"), run);
  }
  detail::check_input_statistic(data.mean_abs, named("abs_mean"), cols);
  detail::check_input_statistic(data.rms, named("rms"), cols);
  detail::check_input_statistic(data.largest, named("largest"), cols);
  if (data.fisher.size() != 0) {
    detail::check_fisher(std::as_const(data.fisher).view(), named("fisher"), rows, cols, run);
  }
  if (data.covariance.size() != 0) {
    detail::check_covariance(data.covariance, named("covariance"), cols);
    detail::symmetrize_covariance(data.covariance); // the first change: nothing below can fail
  }
  detail::drop_zeros(data.activations, named("X"), data.notes);
  detail::drop_zeros(data.covariance, named("covariance"), data.notes);
  detail::drop_zeros(data.mean_abs, named("abs_mean"), data.notes);
  detail::drop_zeros(data.rms, named("rms"), data.notes);
  detail::drop_zeros(data.largest, named("largest"), data.notes);
  detail::drop_zeros(data.fisher, named("fisher"), data.notes);
}

} // namespace qlr
