// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/host/eigen_maps.hpp>
#include <qlr/matmul/call.hpp>

#include <concepts>
#include <type_traits>
#include <utility>

namespace qlr {

namespace host {

/// A dense Eigen type, whatever its value category.
template <class T>
concept eigen_dense = std::derived_from<std::remove_cvref_t<T>, Eigen::DenseBase<std::remove_cvref_t<T>>>;

namespace detail {

/// True for column vectors, which stand for one token.
template <class Dense>
inline constexpr bool is_column = Dense::ColsAtCompileTime == 1 && Dense::RowsAtCompileTime != 1;

/// Gives Y the shape (t,m) when it is a matrix or vector of its own.
template <class Y>
void resize_output(matrix_view<const float> x, index_t rows, Y& y) {
  if constexpr (std::derived_from<Y, Eigen::PlainObjectBase<Y>>) {
    const bool is_shaped =
        is_column<Y> ? y.rows() == rows && x.rows() == 1 : y.rows() == x.rows() && y.cols() == rows;
    if (is_shaped) return;
    // Its memory is about to be freed.
    require(!matmul_detail::may_overlap(x, view_of(y)), status_code::invalid_argument,
            "X and Y overlap in memory");
    if constexpr (is_column<Y>) {
      require(x.rows() == 1, status_code::shape_mismatch, "Y is a vector, X has ", x.rows(), " tokens");
      y.resize(rows);
    } else {
      y.resize(x.rows(), rows);
    }
  }
}

/// Calls body(X, Y) with views (t,n) and (t,m).
template <class X, class Y, class Body>
void with_views(const packed_weights& w, const Eigen::DenseBase<X>& x, Y& y, Body&& body) {
  static_assert(std::same_as<typename X::Scalar, float> && std::same_as<typename Y::Scalar, float>,
                "X and Y hold float: cast them, or use matrix_view for bf16 and fp16");
  matrix_view<const float> from = view_of(x);
  if constexpr (is_column<X>) from = from.transposed();
  require(from.cols() == w.cols(), status_code::shape_mismatch, "X is ", from.rows(), " x ", from.cols(),
          ", Q is ", w.rows(), " x ", w.cols());
  resize_output(from, w.rows(), y);
  matrix_view<float> to = writable_view_of(y);
  if constexpr (is_column<Y>) to = to.transposed();
  body(from, to);
}

/// The object behind Y, checked to be there after the call.
template <class Y>
std::remove_cvref_t<Y>& output_of(Y&& y) {
  using object = std::remove_cvref_t<Y>;
  constexpr bool owns_memory = std::derived_from<object, Eigen::PlainObjectBase<object>>;
  static_assert(!owns_memory || std::is_lvalue_reference_v<Y>,
                "Y is a temporary matrix, the result would be lost");
  static_assert(!owns_memory || !std::is_const_v<std::remove_reference_t<Y>>,
                "Y is const, the result is written to it");
  return const_cast<object&>(y); // constness of a map or block is not that of what it refers to
}

} // namespace detail
} // namespace host

/// Y = X Q^T + s (X R^T) L^T + bias, straight from packed codes, on Eigen objects of float.
///
/// @param[in]  x  X (t,n): matrix, map, block or ref in either order; a column vector is one token
/// @param[out] y  Y (t,m), likewise; a matrix or vector of its own is resized; must not overlap X
/// @param      workspace  large enough for this call; used by one call at a time
/// @param      run        threads
/// @throws qlr::error as matmul_call; nothing is written then, but Y may have been resized
template <host::eigen_dense X, host::eigen_dense Y>
void matmul(const packed_weights& w, const X& x, Y&& y, const matmul_options& options,
            matmul_workspace& workspace, const executor& run = {}) {
  host::detail::with_views(w, x, host::detail::output_of(std::forward<Y>(y)),
                           [&](matrix_view<const float> from, matrix_view<float> to) {
                             matmul<float>(w, from, to, options, workspace, run);
                           });
}

/// The same with a workspace of its own: convenient, but it allocates on every call.
template <host::eigen_dense X, host::eigen_dense Y>
void matmul(const packed_weights& w, const X& x, Y&& y, const matmul_options& options = {},
            const executor& run = {}) {
  host::detail::with_views(w, x, host::detail::output_of(std::forward<Y>(y)),
                           [&](matrix_view<const float> from, matrix_view<float> to) {
                             matmul<float>(w, from, to, options, run);
                           });
}

} // namespace qlr
