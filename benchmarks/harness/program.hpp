// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <harness/environment.hpp>

#include <benchmark/benchmark.h>

namespace qlr::bench {

/// The rest of main(): records the environment and runs what was registered.
inline int run_program(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  record_environment();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

} // namespace qlr::bench
