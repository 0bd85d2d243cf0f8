// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <harness/environment.hpp>
#include <harness/timing.hpp>

#include <qlr/core/parallel.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace qlr::bench {

/// What the machine can do at best on all threads, as measured in this run; 0 where it was not measured.
struct machine_peaks {
  double cache_bandwidth = 0;  ///< bytes per second, read from a buffer that fits the last-level cache
  double memory_bandwidth = 0; ///< bytes per second, read from twice the last-level cache
  double fma_rate = 0;         ///< fp32 operations per second, two for each multiply-add
};

inline machine_peaks& peaks() {
  static machine_peaks measured;
  return measured;
}

#if defined(__AVX512F__)
using widest_vector [[gnu::vector_size(64)]] = float;
#elif defined(__AVX__)
using widest_vector [[gnu::vector_size(32)]] = float;
#else
using widest_vector [[gnu::vector_size(16)]] = float;
#endif

/// Reads `bytes` once per call.
inline void time_read(benchmark::State& state, index_t bytes, double& bandwidth) {
  thread_pool pool;
  const index_t count = bytes / static_cast<index_t>(sizeof(std::uint64_t));
  const std::vector<std::uint64_t> words(static_cast<std::size_t>(count), 1);
  const auto body = [&](int) {
    std::atomic<std::uint64_t> sum{0};
    const index_t grain = std::max<index_t>(8192, count / 64);
    for_each_range(pool, count, grain, [&](index_t begin, index_t end) {
      std::uint64_t part = 0;
      for (index_t i = begin; i < end; ++i) part += words[static_cast<std::size_t>(i)];
      sum += part;
    });
    return sum.load();
  };
  const auto check = [&]() -> std::string {
    return body(0) == static_cast<std::uint64_t>(count) ? "" : "wrong sum";
  };
  const samples times = verify_then_time(state, check, warm_ups, body);
  if (times.is_empty()) return;
  bandwidth = static_cast<double>(bytes) / times.median();
  state.counters["GB/s"] = bandwidth * 1e-9;
  report(state, times);
}

/// Independent multiply-adds in registers on every thread.
inline void time_fma(benchmark::State& state) {
  thread_pool pool;
  constexpr int chains = 12;
  constexpr index_t rounds = 200'000;
  const auto body = [&](int) {
    std::atomic<int> wrong{0};
    auto task = [&](index_t) {
      widest_vector sums[chains] = {};
      widest_vector factor = {};
      factor += 0.5F;
      benchmark::DoNotOptimize(factor);
      for (index_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
        for (int k = 0; k < chains; ++k) sums[k] = sums[k] * factor + factor; // tends to 1
      }
      for (const widest_vector& sum : sums) wrong += sum[0] == 1.0F ? 0 : 1;
    };
    pool(pool.num_threads(), task);
    return wrong.load();
  };
  const auto check = [&]() -> std::string { return body(0) == 0 ? "" : "wrong sums"; };
  const samples times = verify_then_time(state, check, warm_ups, body);
  if (times.is_empty()) return;
  const double lanes = sizeof(widest_vector) / sizeof(float);
  peaks().fma_rate = 2 * lanes * chains * static_cast<double>(rounds) * pool.num_threads() / times.median();
  state.counters["GFLOP/s"] = peaks().fma_rate * 1e-9;
  report(state, times);
}

} // namespace qlr::bench
