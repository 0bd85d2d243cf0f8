// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/core/status.hpp>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

namespace qlr {

/// Owning row-major contiguous (rows, cols) matrix in host memory; elements start uninitialised.
///
/// @memory rows * cols * sizeof(T) bytes
template <class T>
class matrix {
public:
  matrix() = default;

  /// @throws qlr::error invalid_argument: a negative dimension, or a byte count beyond 2^63 - 1
  matrix(index_t rows, index_t cols) : rows_(rows), cols_(cols) {
    require(rows >= 0 && cols >= 0, status_code::invalid_argument, "matrix: shape is ", rows, " x ", cols,
            ", both must be >= 0");
    constexpr index_t largest = std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(T));
    require(cols == 0 || rows <= largest / cols, status_code::invalid_argument, "matrix: shape ", rows, " x ",
            cols, " exceeds the address space");
    data_ = std::make_unique_for_overwrite<T[]>(static_cast<std::size_t>(rows * cols));
  }

  matrix(index_t rows, index_t cols, T value) : matrix(rows, cols) { fill(value); }

  matrix(const matrix& other) : matrix(other.rows_, other.cols_) {
    std::copy_n(other.data(), static_cast<std::size_t>(size()), data());
  }
  matrix(matrix&& other) noexcept
      : data_(std::move(other.data_)), rows_(std::exchange(other.rows_, 0)),
        cols_(std::exchange(other.cols_, 0)) {}
  matrix& operator=(matrix other) noexcept {
    std::swap(data_, other.data_);
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
    return *this;
  }
  ~matrix() = default;

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] index_t size() const { return rows_ * cols_; }
  [[nodiscard]] T* data() { return data_.get(); }
  [[nodiscard]] const T* data() const { return data_.get(); }
  [[nodiscard]] T& operator()(index_t row, index_t col) {
    return data_[static_cast<std::size_t>(row * cols_ + col)];
  }
  [[nodiscard]] const T& operator()(index_t row, index_t col) const {
    return data_[static_cast<std::size_t>(row * cols_ + col)];
  }
  [[nodiscard]] matrix_view<T> view() { return {data(), rows_, cols_}; }
  [[nodiscard]] matrix_view<const T> view() const { return {data(), rows_, cols_}; }

  void fill(T value) { std::fill_n(data(), static_cast<std::size_t>(size()), value); }

private:
  std::unique_ptr<T[]> data_;
  index_t rows_ = 0;
  index_t cols_ = 0;
};

} // namespace qlr
