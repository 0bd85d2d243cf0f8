// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

namespace qlr::test {

/// Controls of the CUDA runtime that tests are linked with instead of the real one. Its device memory is host
/// memory, filled with NaN; work is done when it is enqueued.
struct fake_device {
  int compute_capability = 90;
  int multiprocessors = 4;
  int allocations_before_failure = -1; ///< the next allocation after so many fails; -1: none does
  bool has_device = true;

  /// Allocations that have not been freed.
  [[nodiscard]] static std::size_t num_live_allocations();

  /// Whether all these bytes lie in one allocation; a null pointer to nothing does.
  [[nodiscard]] static bool is_device_memory(const void* pointer, std::size_t bytes);

  int live_handles = 0; ///< of cuBLAS and cuSOLVER, streams and pinned buffers that have not been destroyed
  int num_waits = 0;    ///< calls that waited for a stream
  std::uint64_t kept_bytes = 0; ///< release threshold of the default memory pool
};

/// Whether a column-major (rows, cols) matrix with this leading dimension is one that a CUDA library accepts:
/// the leading dimension is large enough, and all of it is device memory.
template <class T>
[[nodiscard]] bool is_device_matrix(const T* data, std::int64_t rows, std::int64_t cols, std::int64_t ld) {
  if (rows < 0 || cols < 0 || ld < (rows > 1 ? rows : 1)) return false;
  if (rows == 0 || cols == 0) return true;
  return fake_device::is_device_memory(data, static_cast<std::size_t>((cols - 1) * ld + rows) * sizeof(T));
}

/// The one fake device.
fake_device& the_fake_device();

} // namespace qlr::test
