// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

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
};

/// The one fake device.
fake_device& the_fake_device();

} // namespace qlr::test
