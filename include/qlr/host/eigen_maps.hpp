// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>

#include <Eigen/Core>

namespace qlr::host {

using row_major_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using row_major_map = Eigen::Map<row_major_matrix>;
using const_row_major_map = Eigen::Map<const row_major_matrix>;

/// The same memory as an Eigen matrix.
[[nodiscard]] inline row_major_map map(matrix<float>& x) {
  return {x.data(), x.rows(), x.cols()};
}
[[nodiscard]] inline const_row_major_map map(const matrix<float>& x) {
  return {x.data(), x.rows(), x.cols()};
}

/// The same memory, transposed: a row-major (r,n) is a column-major (n,r).
[[nodiscard]] inline Eigen::Map<Eigen::MatrixXf> map_transposed(matrix<float>& x) {
  return {x.data(), x.cols(), x.rows()};
}
[[nodiscard]] inline Eigen::Map<const Eigen::MatrixXf> map_transposed(const matrix<float>& x) {
  return {x.data(), x.cols(), x.rows()};
}

/// A view of any Eigen expression with direct access (matrix, map, block; either order); no copy.
template <class Derived>
[[nodiscard]] matrix_view<const typename Derived::Scalar> view_of(const Eigen::DenseBase<Derived>& x) {
  static_assert((Derived::Flags & Eigen::DirectAccessBit) != 0,
                "view_of needs an expression that owns memory: evaluate it into a matrix first");
  const Derived& self = x.derived();
  const index_t row_stride = Derived::IsRowMajor ? self.outerStride() : self.innerStride();
  const index_t col_stride = Derived::IsRowMajor ? self.innerStride() : self.outerStride();
  return {self.data(), self.rows(), self.cols(), row_stride, col_stride};
}

/// A writable view of an Eigen object with direct access (matrix, map, block, ref; either order); no copy.
template <class Derived>
[[nodiscard]] matrix_view<typename Derived::Scalar> writable_view_of(Eigen::DenseBase<Derived>& x) {
  static_assert((Derived::Flags & Eigen::DirectAccessBit) != 0 && (Derived::Flags & Eigen::LvalueBit) != 0,
                "writable_view_of needs a matrix, map, block or ref that may be written to");
  const matrix_view<const typename Derived::Scalar> view = view_of(x);
  return {x.derived().data(), view.rows(), view.cols(), view.row_stride(), view.col_stride()};
}

} // namespace qlr::host
