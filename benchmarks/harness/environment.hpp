// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/version.hpp>

#include <Eigen/Core>

#include <benchmark/benchmark.h>

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <string>
#include <thread>

namespace qlr::bench {

/// Threads that "all threads" stands for.
[[nodiscard]] inline int num_hardware_threads() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// Bytes of the last-level cache as the C library reports it; 32 MiB when it reports none.
[[nodiscard]] inline long last_level_cache_bytes() {
  long bytes = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  bytes = std::max(sysconf(_SC_LEVEL3_CACHE_SIZE), sysconf(_SC_LEVEL2_CACHE_SIZE));
#endif
  return bytes > 0 ? bytes : 32L << 20;
}

/// The processor's model name, or "unknown".
[[nodiscard]] inline std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

/// Name and version of the compiler.
[[nodiscard]] inline std::string compiler_name() {
#if defined(__clang__)
  return std::string("clang ") + __clang_version__;
#elif defined(__GNUC__)
  return std::string("gcc ") + __VERSION__;
#else
  return "unknown";
#endif
}

/// Which BLAS and LAPACK the program runs on: OpenBLAS says so itself, any other is named by its interface.
[[nodiscard]] inline std::string blas_name() {
#if defined(QLR_USE_LAPACKE)
  using describe = char* (*)();
  if (void* symbol = dlsym(RTLD_DEFAULT, "openblas_get_config")) {
    return std::string("LAPACKE, ") + reinterpret_cast<describe>(symbol)();
  }
  return "not used by this program, or not OpenBLAS";
#else
  return "none (Eigen)";
#endif
}

/// Today's date in UTC, YYYY-MM-DD.
[[nodiscard]] inline std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[16] = {};
  std::strftime(text, sizeof text, "%F", std::gmtime(&now));
  return text;
}

/// Adds what a figure depends on to the context that Google Benchmark prints and writes to JSON.
inline void record_environment() {
  benchmark::AddCustomContext("qlr_version", version_string);
  benchmark::AddCustomContext("date_utc", today());
  benchmark::AddCustomContext("cpu", cpu_name());
  benchmark::AddCustomContext("threads", std::to_string(num_hardware_threads()));
  benchmark::AddCustomContext("last_level_cache_mib", std::to_string(last_level_cache_bytes() >> 20));
  benchmark::AddCustomContext("simd_of_eigen", Eigen::SimdInstructionSetsInUse());
  benchmark::AddCustomContext("blas", blas_name());
  benchmark::AddCustomContext("compiler", compiler_name());
}

} // namespace qlr::bench
