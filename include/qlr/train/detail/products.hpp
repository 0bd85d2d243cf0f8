// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/train/detail/maps.hpp>

#include <concepts>

namespace qlr::train::detail {

template <class T>
[[nodiscard]] matrix_view<const T> view(const row_major<T>& x) {
  return {x.data(), x.rows(), x.cols()};
}
template <class T>
[[nodiscard]] matrix_view<T> view(row_major<T>& x) {
  return {x.data(), x.rows(), x.cols()};
}

/// Columns first ... of a view with contiguous rows.
template <class T>
[[nodiscard]] matrix_view<T> middle_cols(matrix_view<T> x, index_t first, index_t count) {
  return {x.data() + first, x.rows(), count, x.row_stride()};
}

/// out += A B, each with contiguous rows or contiguous columns, at least one of them with contiguous rows.
///
/// One function for all shapes, as Eigen's products take long to compile.
template <std::floating_point T>
void add_product(matrix_view<const T> a, matrix_view<const T> b, row_major<T>& out) {
  if (!a.has_contiguous_rows()) {
    out.noalias() += map(a.transposed()).transpose() * map(b);
  } else if (b.has_contiguous_rows()) {
    out.noalias() += map(a) * map(b);
  } else {
    out.noalias() += map(a) * map(b.transposed()).transpose();
  }
}

/// A B in memory of its own.
template <std::floating_point T>
[[nodiscard]] row_major<T> product(matrix_view<const T> a, matrix_view<const T> b) {
  row_major<T> out = row_major<T>::Zero(a.rows(), b.cols());
  add_product(a, b, out);
  return out;
}

} // namespace qlr::train::detail
