// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>

#include <Eigen/Core>

#include <type_traits>

namespace qlr::train::detail {

template <class T>
using row_major = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A view with contiguous rows as an Eigen matrix.
template <class T>
[[nodiscard]] auto map(matrix_view<T> x) {
  using plain = row_major<std::remove_const_t<T>>;
  using mapped =
      Eigen::Map<std::conditional_t<std::is_const_v<T>, const plain, plain>, 0, Eigen::OuterStride<>>;
  return mapped(x.data(), x.rows(), x.cols(), Eigen::OuterStride<>(x.row_stride()));
}

} // namespace qlr::train::detail
