// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace qlr::test {

/// Column-major (rows, cols) matrix, or its transpose: what the CUDA libraries work on.
template <class T>
struct column_major {
  T* data;
  std::int64_t ld;
  bool is_transposed = false;

  T& operator()(std::int64_t row, std::int64_t col) const {
    return is_transposed ? data[row * ld + col] : data[col * ld + row];
  }
};

} // namespace qlr::test
