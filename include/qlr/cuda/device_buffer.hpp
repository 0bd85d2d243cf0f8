// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/matrix_view.hpp>
#include <qlr/core/status.hpp>
#include <qlr/cuda/detail/check.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

namespace qlr::cuda {

/// A matrix in device memory; a view of host memory does not convert to it.
template <class T>
using device_view = matrix_view<T, device_space>;

/// Owning array in device memory, allocated and freed in the order of one stream; elements start
/// uninitialised.
///
/// Work on another stream must be ordered after the allocation and before the destruction by the caller.
/// @tparam T  trivially copyable
/// @memory count * sizeof(T) bytes
template <class T>
class device_buffer {
  static_assert(std::is_trivially_copyable_v<T>, "device_buffer holds trivially copyable elements");

public:
  device_buffer() = default;

  /// @throws qlr::error invalid_argument: count < 0 or a byte count beyond 2^63 - 1
  /// @throws qlr::error out_of_memory, device_failure: the device refuses
  explicit device_buffer(index_t count, cudaStream_t stream = nullptr) : size_(count), stream_(stream) {
    constexpr index_t most = std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(T));
    require(count >= 0 && count <= most, status_code::invalid_argument, "device_buffer: count is ", count,
            ", allowed are 0 to ", most);
    if (count == 0) return;
    void* memory = nullptr;
    detail::check(cudaMallocAsync(&memory, static_cast<std::size_t>(bytes()), stream),
                  "device_buffer: ", bytes(), " bytes");
    data_ = static_cast<T*>(memory);
  }

  device_buffer(const device_buffer&) = delete;
  device_buffer& operator=(const device_buffer&) = delete;
  device_buffer(device_buffer&& other) noexcept { swap(other); }
  device_buffer& operator=(device_buffer&& other) noexcept {
    device_buffer taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~device_buffer() {
    if (data_ != nullptr) (void)cudaFreeAsync(data_, stream_); // fails only while the process ends
  }

  [[nodiscard]] T* data() { return data_; }
  [[nodiscard]] const T* data() const { return data_; }
  [[nodiscard]] index_t size() const { return size_; }
  [[nodiscard]] index_t bytes() const { return size_ * static_cast<index_t>(sizeof(T)); }
  [[nodiscard]] cudaStream_t stream() const { return stream_; }

private:
  void swap(device_buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(stream_, other.stream_);
  }

  T* data_ = nullptr;
  index_t size_ = 0;
  cudaStream_t stream_ = nullptr;
};

/// Copies host elements to the device; only enqueues, so pageable `from` may be reused at once, pinned memory
/// not before the stream has passed.
template <class T>
void copy_to_device_async(std::span<const T> from, T* to, cudaStream_t stream) {
  if (from.empty()) return;
  detail::check(cudaMemcpyAsync(to, from.data(), from.size_bytes(), cudaMemcpyHostToDevice, stream),
                "copy to the device");
}

/// Copies device elements to the host and waits for them.
///
/// @sync waits for the stream
template <class T>
void copy_to_host(const T* from, std::span<T> to, cudaStream_t stream) {
  if (to.empty()) return;
  detail::check(cudaMemcpyAsync(to.data(), from, to.size_bytes(), cudaMemcpyDeviceToHost, stream),
                "copy to the host");
  detail::check(cudaStreamSynchronize(stream), "copy to the host");
}

/// A device array with these elements; the copy has been enqueued.
template <class T>
[[nodiscard]] device_buffer<T> to_device(std::span<const T> from, cudaStream_t stream = nullptr) {
  device_buffer<T> buffer(static_cast<index_t>(from.size()), stream);
  copy_to_device_async(from, buffer.data(), stream);
  return buffer;
}

/// Owning row-major contiguous (rows, cols) matrix in device memory; elements start uninitialised.
///
/// @memory rows * cols * sizeof(T) bytes, in the order of one stream; see device_buffer
template <class T>
class device_matrix {
public:
  device_matrix() = default;

  /// @throws qlr::error invalid_argument: a negative dimension, or a byte count beyond 2^63 - 1
  /// @throws qlr::error out_of_memory, device_failure: the device refuses
  device_matrix(index_t rows, index_t cols, cudaStream_t stream = nullptr)
      : elements_(checked_size(rows, cols), stream), rows_(rows), cols_(cols) {}

  device_matrix(device_matrix&& other) noexcept
      : elements_(std::move(other.elements_)), rows_(std::exchange(other.rows_, 0)),
        cols_(std::exchange(other.cols_, 0)) {}
  device_matrix& operator=(device_matrix&& other) noexcept {
    elements_ = std::move(other.elements_);
    rows_ = std::exchange(other.rows_, 0);
    cols_ = std::exchange(other.cols_, 0);
    return *this;
  }
  device_matrix(const device_matrix&) = delete;
  device_matrix& operator=(const device_matrix&) = delete;
  ~device_matrix() = default;

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] index_t size() const { return rows_ * cols_; }
  [[nodiscard]] T* data() { return elements_.data(); }
  [[nodiscard]] const T* data() const { return elements_.data(); }
  [[nodiscard]] cudaStream_t stream() const { return elements_.stream(); }
  [[nodiscard]] device_view<T> view() { return {data(), rows_, cols_}; }
  [[nodiscard]] device_view<const T> view() const { return {data(), rows_, cols_}; }

private:
  static index_t checked_size(index_t rows, index_t cols) {
    require(rows >= 0 && cols >= 0, status_code::invalid_argument, "device_matrix: shape is ", rows, " x ",
            cols, ", both must be >= 0");
    constexpr index_t most = std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(T));
    require(cols == 0 || rows <= most / cols, status_code::invalid_argument, "device_matrix: shape ", rows,
            " x ", cols, " exceeds the address space");
    return rows * cols;
  }

  device_buffer<T> elements_;
  index_t rows_ = 0;
  index_t cols_ = 0;
};

/// A device copy of a host matrix of any strides; the copy has been enqueued.
template <class T>
[[nodiscard]] device_matrix<std::remove_const_t<T>> to_device(matrix_view<T> from,
                                                              cudaStream_t stream = nullptr) {
  using value_type = std::remove_const_t<T>;
  device_matrix<value_type> out(from.rows(), from.cols(), stream);
  if (from.is_empty()) return out;
  if (from.has_contiguous_rows() && from.row_stride() == from.cols()) {
    copy_to_device_async(std::span<const value_type>(from.data(), static_cast<std::size_t>(from.size())),
                         out.data(), stream);
    return out;
  }
  matrix<value_type> rows(from.rows(), from.cols());
  for (index_t i = 0; i < from.rows(); ++i) {
    for (index_t j = 0; j < from.cols(); ++j) rows(i, j) = from(i, j);
  }
  copy_to_device_async(std::span<const value_type>(rows.data(), static_cast<std::size_t>(rows.size())),
                       out.data(), stream);
  detail::check(cudaStreamSynchronize(stream), "copy to the device"); // `rows` ends here
  return out;
}

/// A host copy of a device matrix.
///
/// @sync waits for the stream
template <class T>
[[nodiscard]] matrix<T> to_host(const device_matrix<T>& from, cudaStream_t stream = nullptr) {
  matrix<T> out(from.rows(), from.cols());
  copy_to_host(from.data(), std::span<T>(out.data(), static_cast<std::size_t>(out.size())), stream);
  return out;
}

} // namespace qlr::cuda
