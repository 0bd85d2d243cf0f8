// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/train/detail/products.hpp>
#include <qlr/train/parameter.hpp>

namespace qlr::train::detail {

/// Rows first ... of L R, L (m,r), R (r,n), into out (tile,n).
template <storage_scalar Storage>
void multiply_factors(const parameter<Storage>& left, const parameter<Storage>& right, index_t first,
                      matrix_view<compute_t<Storage>> out) {
  matrix<compute_t<Storage>> rows(out.rows(), left.cols()); // (tile,r)
  left.load_rows(first, rows.view());
  const matrix<compute_t<Storage>> factor = right.widened(); // (r,n)
  map(out) = product<compute_t<Storage>>(rows.view(), factor.view());
}

/// Adds the gradients of L and R from that of the rows first ... of scale L R: (tile,n).
template <storage_scalar Storage>
void add_factor_gradients(parameter<Storage>& left, const parameter<Storage>& right, index_t first,
                          matrix_view<const compute_t<Storage>> gradient, compute_t<Storage> scale,
                          matrix<compute_t<Storage>>& right_sum) {
  using T = compute_t<Storage>;
  const index_t count = gradient.rows();
  matrix<T> rows(count, left.cols()); // (tile,r)
  left.load_rows(first, rows.view());
  const matrix<T> factor = right.widened(); // (r,n)
  const row_major<T> of_left = scale * product<T>(gradient, factor.view().transposed());
  map(left.gradient().view().middle_rows(first, count)) += of_left;                     // (tile,r)
  const row_major<T> of_right = scale * product<T>(rows.view().transposed(), gradient); // (r,n)
  map(right_sum.view()) += of_right;
}

} // namespace qlr::train::detail
