// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Catch's main function, but 77 ("skipped") where there is no GPU.
#define CATCH_CONFIG_RUNNER
#include <qlr/cuda/device.hpp>
#include <support/catch.hpp>

#include <cstdio>

int main(int argc, char** argv) {
  if (qlr::cuda::num_devices() == 0) {
    std::printf("SKIPPED: no GPU\n");
    return 77;
  }
  return Catch::Session().run(argc, argv);
}
