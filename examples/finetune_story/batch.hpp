// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <story/tokenizer.hpp>

#include <qlr/core/matrix.hpp>
#include <qlr/core/matrix_view.hpp>

#include <Eigen/Core>

#include <span>
#include <type_traits>

/// Texts of one length, one after the other; positions start at 0 in each.
struct batch_shape {
  qlr::index_t sequences = 0;
  qlr::index_t length = 0; ///< tokens of each

  [[nodiscard]] qlr::index_t tokens() const { return sequences * length; }
  friend bool operator==(const batch_shape&, const batch_shape&) = default;
};

/// What a model reads, and what it should predict after each token.
struct token_batch {
  static constexpr token_t not_counted = -1; ///< a target without part in the loss

  batch_shape shape;
  std::span<const token_t> tokens;  ///< sequence by sequence
  std::span<const token_t> targets; ///< as many
};

/// A matrix whose shape changes and whose memory only grows.
template <class T>
class buffer {
public:
  buffer() = default;
  buffer(buffer&&) noexcept = default; // a copy's view would be of the first one's memory
  buffer& operator=(buffer&&) noexcept = default;

  /// Sets the shape; elements are what was there before, in no useful order.
  qlr::matrix_view<T> shape(qlr::index_t rows, qlr::index_t cols) {
    if (rows * cols > memory_.size()) memory_ = qlr::matrix<T>(1, rows * cols);
    view_ = {memory_.data(), rows, cols};
    return view_;
  }
  [[nodiscard]] qlr::matrix_view<T> view() { return view_; }
  [[nodiscard]] qlr::matrix_view<const T> view() const { return view_; }
  [[nodiscard]] T* data() { return view_.data(); }

private:
  qlr::matrix<T> memory_;
  qlr::matrix_view<T> view_;
};

/// A view with contiguous rows as an Eigen matrix.
template <class T>
[[nodiscard]] auto as_eigen(qlr::matrix_view<T> x) {
  using plain = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using mapped =
      Eigen::Map<std::conditional_t<std::is_const_v<T>, const plain, plain>, 0, Eigen::OuterStride<>>;
  return mapped(x.data(), x.rows(), x.cols(), Eigen::OuterStride<>(x.row_stride()));
}

/// Columns [first, first + count).
template <class T>
[[nodiscard]] qlr::matrix_view<T> middle_columns(qlr::matrix_view<T> x, qlr::index_t first,
                                                 qlr::index_t count) {
  return {x.data() + first, x.rows(), count, x.row_stride()};
}
