// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>

#include <atomic>
#include <string_view>

namespace qlr {

namespace detail {
/// True when a run of elements holds NaN, infinity, or a double beyond the float range.
template <weight_scalar T>
bool has_non_finite(const T* x, index_t count, index_t stride) {
  unsigned bad = 0; // no early exit inside: the loop vectorises
  for (index_t j = 0; j < count; ++j) bad |= is_finite(static_cast<float>(x[j * stride])) ? 0U : 1U;
  return bad != 0;
}
} // namespace detail

/// Throws unless every element is finite once converted to float.
///
/// @param name  what the message calls the matrix
/// @throws qlr::error non_finite: names the first offending element, row by row, and its value
template <weight_scalar T>
void require_finite(matrix_view<const T> values, std::string_view name, const executor& run = {}) {
  std::atomic<index_t> first_bad_row{values.rows()};
  for_each_range(run, values.rows(), 16, [&](index_t begin, index_t end) {
    for (index_t row = begin; row < end; ++row) {
      if (!detail::has_non_finite(values.row(row), values.cols(), values.col_stride())) continue;
      index_t known = first_bad_row.load();
      while (row < known && !first_bad_row.compare_exchange_weak(known, row)) {
      }
      return;
    }
  });
  const index_t row = first_bad_row.load();
  if (row == values.rows()) return;
  index_t col = 0;
  while (is_finite(static_cast<float>(values(row, col)))) ++col;
  fail(status_code::non_finite, name, '(', row, ", ", col, ") is ", static_cast<double>(values(row, col)),
       ", every element must be finite in float");
}

/// A row-major float copy of any matrix.
template <weight_scalar T>
[[nodiscard]] matrix<float> to_row_major(matrix_view<const T> values) {
  matrix<float> copy(values.rows(), values.cols());
  for (index_t i = 0; i < values.rows(); ++i) {
    for (index_t j = 0; j < values.cols(); ++j) copy(i, j) = static_cast<float>(values(i, j));
  }
  return copy;
}

} // namespace qlr
