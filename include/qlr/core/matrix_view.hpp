// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <concepts>
#include <type_traits>

namespace qlr {

/// Memory that the CPU reads and writes.
struct host_space {};
/// Memory of a CUDA device; a view of it cannot be handed to a host function.
struct device_space {};

/// Non-owning view of a (rows, cols) matrix with arbitrary element strides.
///
/// Element (i, j) lies at data()[i * row_stride() + j * col_stride()]. Trivially copyable; pass it by value.
/// @tparam T      element type, const for a read-only view
/// @tparam Space  where the memory lies
template <class T, class Space = host_space>
class matrix_view {
public:
  using value_type = std::remove_const_t<T>;

  constexpr matrix_view() = default;

  /// Row-major, contiguous.
  QLR_HOST_DEVICE constexpr matrix_view(T* data, index_t rows, index_t cols)
      : matrix_view(data, rows, cols, cols, 1) {}

  QLR_HOST_DEVICE constexpr matrix_view(T* data, index_t rows, index_t cols, index_t row_stride,
                                        index_t col_stride = 1)
      : data_(data), rows_(rows), cols_(cols), row_stride_(row_stride), col_stride_(col_stride) {}

  /// A writable view converts to a read-only one.
  template <class U>
    requires(std::same_as<const U, T> && !std::same_as<U, T>)
  QLR_HOST_DEVICE constexpr matrix_view(matrix_view<U, Space> other) // NOLINT(google-explicit-constructor)
      : matrix_view(other.data(), other.rows(), other.cols(), other.row_stride(), other.col_stride()) {}

  [[nodiscard]] QLR_HOST_DEVICE constexpr T* data() const { return data_; }
  [[nodiscard]] QLR_HOST_DEVICE constexpr index_t rows() const { return rows_; }
  [[nodiscard]] QLR_HOST_DEVICE constexpr index_t cols() const { return cols_; }
  [[nodiscard]] QLR_HOST_DEVICE constexpr index_t size() const { return rows_ * cols_; }
  [[nodiscard]] QLR_HOST_DEVICE constexpr index_t row_stride() const { return row_stride_; }
  [[nodiscard]] QLR_HOST_DEVICE constexpr index_t col_stride() const { return col_stride_; }
  [[nodiscard]] QLR_HOST_DEVICE constexpr bool is_empty() const { return rows_ == 0 || cols_ == 0; }

  /// True when each row is a run of consecutive elements.
  [[nodiscard]] QLR_HOST_DEVICE constexpr bool has_contiguous_rows() const { return col_stride_ == 1; }

  QLR_HOST_DEVICE constexpr T& operator()(index_t row, index_t col) const {
    return data_[row * row_stride_ + col * col_stride_];
  }

  /// Pointer to element (row, 0).
  [[nodiscard]] QLR_HOST_DEVICE constexpr T* row(index_t row) const { return data_ + row * row_stride_; }

  /// Rows [first, first + count).
  [[nodiscard]] QLR_HOST_DEVICE constexpr matrix_view middle_rows(index_t first, index_t count) const {
    return {row(first), count, cols_, row_stride_, col_stride_};
  }

  /// The same memory with rows and columns exchanged.
  [[nodiscard]] QLR_HOST_DEVICE constexpr matrix_view transposed() const {
    return {data_, cols_, rows_, col_stride_, row_stride_};
  }

private:
  T* data_ = nullptr;
  index_t rows_ = 0;
  index_t cols_ = 0;
  index_t row_stride_ = 0;
  index_t col_stride_ = 1;
};

} // namespace qlr
