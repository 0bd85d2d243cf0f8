// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cuda/launcher.hpp>
#include <qlr/cuda/device.hpp>

#include <cstdio>

namespace qlr::test {

/// False, after saying so, where there is no device to test on; a simulated one is always there.
inline bool has_device() {
  if (cuda::num_devices() > 0) return true;
  std::printf("SKIPPED: no GPU\n");
  return false;
}

/// Runs `body` once on a real device, and on the simulated one for each order of threads and each extreme of
/// asynchronous copies.
template <class Body>
void in_every_order(Body&& body) {
#if defined(__CUDACC__)
  body();
#else
  const simulation_options before = current_simulation();
  for (const thread_order order :
       {thread_order::ascending, thread_order::descending, thread_order::shuffled}) {
    for (const copy_time copies : {copy_time::early, copy_time::late}) {
      current_simulation().order = order;
      current_simulation().copies = copies;
      body();
    }
  }
  current_simulation() = before;
#endif
}

} // namespace qlr::test
