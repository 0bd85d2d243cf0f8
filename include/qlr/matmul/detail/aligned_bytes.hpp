// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace qlr::matmul_detail {

/// Zero-initialised memory on a cache line boundary; one line beyond the end may be read.
class aligned_bytes {
public:
  aligned_bytes() = default;
  explicit aligned_bytes(index_t size) : size_(size) {
    const auto allocated = static_cast<std::size_t>(size) + static_cast<std::size_t>(alignment);
    data_ = static_cast<std::uint8_t*>(::operator new(allocated, alignment));
    std::memset(data_, 0, allocated);
  }
  aligned_bytes(aligned_bytes&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  aligned_bytes& operator=(aligned_bytes&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~aligned_bytes() {
    if (data_ != nullptr) ::operator delete(data_, alignment);
  }

  [[nodiscard]] std::uint8_t* data() { return data_; }
  [[nodiscard]] const std::uint8_t* data() const { return data_; }
  [[nodiscard]] index_t size() const { return size_; }

private:
  static constexpr std::align_val_t alignment{64};
  std::uint8_t* data_ = nullptr;
  index_t size_ = 0;
};

} // namespace qlr::matmul_detail
