// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/train/detail/maps.hpp>
#include <qlr/train/parameter.hpp>

namespace qlr::train::detail {

/// Rows first ... of L R, L (m,r), R (r,n), into out (tile,n).
template <storage_scalar Storage>
void multiply_factors(const parameter<Storage>& left, const parameter<Storage>& right, index_t first,
                      matrix_view<compute_t<Storage>> out) {
  matrix<compute_t<Storage>> rows(out.rows(), left.cols()); // (tile,r)
  left.load_rows(first, rows.view());
  const matrix<compute_t<Storage>> factor = right.widened(); // (r,n)
  map(out).noalias() = map(rows.view()) * map(factor.view());
}

/// Adds the gradients of L and R from that of the rows first ... of scale L R: (tile,n).
template <storage_scalar Storage>
void add_factor_gradients(parameter<Storage>& left, const parameter<Storage>& right, index_t first,
                          matrix_view<const compute_t<Storage>> gradient, compute_t<Storage> scale,
                          matrix<compute_t<Storage>>& right_sum) {
  const index_t count = gradient.rows();
  matrix<compute_t<Storage>> rows(count, left.cols()); // (tile,r)
  left.load_rows(first, rows.view());
  const matrix<compute_t<Storage>> factor = right.widened(); // (r,n)
  map(left.gradient().view().middle_rows(first, count)).noalias() +=
      scale * map(gradient) * map(factor.view()).transpose(); // (tile,n) (n,r)
  map(right_sum.view()).noalias() +=
      scale * map(rows.view()).transpose() * map(gradient); // (r,tile) (tile,n)
}

} // namespace qlr::train::detail
