// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <harness/axes.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace qlr::bench {

/// What a call returned, and what it took.
template <class Result>
struct timed {
  Result result;
  double seconds = 0;     ///< on the clock
  double cpu_seconds = 0; ///< of all threads of the process
};

/// Calls body() and measures it.
template <class Body>
[[nodiscard]] auto time_once(Body&& body) {
  const std::clock_t cpu_start = std::clock();
  const auto start = std::chrono::steady_clock::now();
  auto result = body();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const double cpu_seconds = static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
  return timed<decltype(result)>{std::move(result), elapsed.count(), cpu_seconds};
}

/// Times of one operation in seconds.
class samples {
public:
  /// Keeps the times of one call.
  template <class Result>
  void add(const timed<Result>& call) {
    seconds_.insert(std::upper_bound(seconds_.begin(), seconds_.end(), call.seconds), call.seconds);
    cpu_seconds_ += call.cpu_seconds;
  }

  [[nodiscard]] bool is_empty() const { return seconds_.empty(); }
  [[nodiscard]] double least() const { return at(0); }

  /// The middle one; of two middle ones the larger.
  [[nodiscard]] double median() const { return at(seconds_.size() / 2); }

  /// Interquartile range over the median; of three samples the whole range.
  [[nodiscard]] double spread_rel() const {
    return (at(3 * seconds_.size() / 4) - at(seconds_.size() / 4)) / median();
  }

  /// Seconds of all threads per call, on average: what others do on the machine changes it little.
  [[nodiscard]] double mean_cpu() const { return cpu_seconds_ / static_cast<double>(seconds_.size()); }

  /// Processors that were busy on average; fewer than threads when others use the machine too.
  [[nodiscard]] double cores_used() const {
    return cpu_seconds_ / std::accumulate(seconds_.begin(), seconds_.end(), 0.0);
  }

private:
  [[nodiscard]] double at(std::size_t index) const { return is_empty() ? 0.0 : seconds_[index]; }

  std::vector<double> seconds_; // ascending
  double cpu_seconds_ = 0;
};

/// Adds what every row reports: median, least, spread, cores, and a label when the spread is above the noise
/// limit.
inline void report(benchmark::State& state, const samples& times, std::string label = {}) {
  if (times.is_empty()) return;
  state.counters["median_s"] = times.median();
  state.counters["least_s"] = times.least();
  state.counters["spread_rel"] = times.spread_rel();
  state.counters["cpu_s"] = times.mean_cpu();
  state.counters["cores_used"] = times.cores_used();
  if (times.spread_rel() > noise_limit_rel) label += label.empty() ? "noisy" : ", noisy";
  state.SetLabel(label);
}

/// Verifies, warms up, then times body(turn) once per iteration; what it returns is destroyed off the clock.
///
/// @param verify  returns an empty string, or a sentence that says what is wrong: then nothing is timed
template <class Verify, class Body>
[[nodiscard]] samples verify_then_time(benchmark::State& state, Verify&& verify, int num_warm_ups,
                                       Body&& body) {
  samples times;
  if (const std::string mistake = verify(); !mistake.empty()) {
    state.SkipWithError(mistake.c_str());
    return times;
  }
  int turn = 0;
  for (; turn < num_warm_ups; ++turn) benchmark::DoNotOptimize(body(turn));
  for ([[maybe_unused]] auto iteration : state) {
    const auto call = time_once([&] { return body(turn); });
    benchmark::DoNotOptimize(call);
    state.SetIterationTime(call.seconds);
    times.add(call);
    ++turn;
  }
  return times;
}

} // namespace qlr::bench
