// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <harness/timing.hpp>

#include <qlr/cuda/detail/check.hpp>
#include <qlr/cuda/device.hpp>
#include <qlr/cuda/device_buffer.hpp>

#include <benchmark/benchmark.h>

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

namespace qlr::bench {

using cuda::detail::check;

/// A stream of its own and a pair of events on it.
class gpu_clock {
public:
  gpu_clock() {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    check(cudaEventCreate(&start_), "event");
    check(cudaEventCreate(&end_), "event");
  }
  gpu_clock(const gpu_clock&) = delete;
  gpu_clock& operator=(const gpu_clock&) = delete;
  ~gpu_clock() {
    (void)cudaEventDestroy(start_);
    (void)cudaEventDestroy(end_);
    (void)cudaStreamDestroy(stream_);
  }

  [[nodiscard]] cudaStream_t stream() const { return stream_; }

  /// Seconds on the device between the starts of what is enqueued before and after body().
  template <class Body>
  [[nodiscard]] double seconds_of(Body&& body) {
    check(cudaEventRecord(start_, stream_), "event");
    body();
    check(cudaEventRecord(end_, stream_), "event");
    check(cudaEventSynchronize(end_), "event");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start_, end_), "event");
    return 1e-3 * static_cast<double>(milliseconds);
  }

private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

/// Several calls captured into a graph, so that no launch waits for the CPU.
class gpu_graph {
public:
  /// @param body  body(turn, stream) enqueues one call; it must not allocate or wait
  template <class Body>
  gpu_graph(cudaStream_t stream, int num_calls, Body&& body) : num_calls_(num_calls) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (int turn = 0; turn < num_calls; ++turn) body(turn, stream);
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream, &graph), "capture");
    const cudaError_t made = cudaGraphInstantiate(&graph_, graph, 0);
    (void)cudaGraphDestroy(graph);
    check(made, "graph");
  }
  gpu_graph(const gpu_graph&) = delete;
  gpu_graph& operator=(const gpu_graph&) = delete;
  ~gpu_graph() { (void)cudaGraphExecDestroy(graph_); }

  [[nodiscard]] int num_calls() const { return num_calls_; }
  void launch(cudaStream_t stream) const { check(cudaGraphLaunch(graph_, stream), "graph"); }

private:
  cudaGraphExec_t graph_ = nullptr;
  int num_calls_;
};

/// Verifies, then times graphs of calls by events; samples are seconds per call on the device.
///
/// @param verify  returns an empty string, or a sentence that says what is wrong: then nothing is timed
/// @param body    body(turn, stream); turns rotate over copies of the operands
template <class Verify, class Body>
[[nodiscard]] samples verify_then_time_on_gpu(benchmark::State& state, gpu_clock& clock, Verify&& verify,
                                              int calls_per_graph, Body&& body) {
  samples times;
  if (const std::string mistake = verify(); !mistake.empty()) {
    state.SkipWithError(mistake.c_str());
    return times;
  }
  const gpu_graph graph(clock.stream(), calls_per_graph, body);
  for (int turn = 0; turn < warm_ups; ++turn) graph.launch(clock.stream());
  for ([[maybe_unused]] auto iteration : state) {
    const double seconds =
        clock.seconds_of([&] { graph.launch(clock.stream()); }) / static_cast<double>(graph.num_calls());
    state.SetIterationTime(seconds);
    times.add(timed<int>{0, seconds, seconds});
  }
  return times;
}

/// What the device does at best, as measured in this run; 0 where it was not measured.
struct device_peaks {
  double copy_bandwidth = 0; ///< bytes per second, read and written, of a copy within the device
  double half_rate = 0;      ///< bf16 operations per second of the BLAS library, two for each multiply-add
};

inline device_peaks& gpu_peaks() {
  static device_peaks measured;
  return measured;
}

/// Copies of `bytes` each that together exceed twice the second-level cache.
[[nodiscard]] inline int num_rotated_copies(index_t bytes) {
  return static_cast<int>(2 * cuda::current_device().cache_bytes / (bytes + 1)) + 2;
}

/// A copy within the device, of 1 GiB.
inline void time_device_copy(benchmark::State& state) {
  gpu_clock clock;
  constexpr index_t bytes = index_t{1} << 30;
  cuda::device_buffer<unsigned char> from(bytes, clock.stream());
  cuda::device_buffer<unsigned char> to(bytes, clock.stream());
  check(cudaMemsetAsync(from.data(), 1, bytes, clock.stream()), "memset");
  const auto body = [&](int, cudaStream_t stream) {
    check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream), "copy");
  };
  const auto verify = [&]() -> std::string {
    body(0, clock.stream());
    std::vector<unsigned char> tail(1);
    cuda::copy_to_host(to.data() + bytes - 1, std::span<unsigned char>(tail), clock.stream());
    return tail[0] == 1 ? "" : "the copy is wrong";
  };
  const samples times = verify_then_time_on_gpu(state, clock, verify, 4, body);
  if (times.is_empty()) return;
  gpu_peaks().copy_bandwidth = 2.0 * static_cast<double>(bytes) / times.median();
  state.counters["GB/s"] = gpu_peaks().copy_bandwidth * 1e-9;
  report(state, times);
}

/// Adds the device to the context of the run.
inline void record_gpu() {
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, cuda::current_device().index), "device properties");
  int driver = 0;
  int runtime = 0;
  int clock_khz = 0;
  int memory_khz = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  (void)cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, cuda::current_device().index);
  (void)cudaDeviceGetAttribute(&memory_khz, cudaDevAttrMemoryClockRate, cuda::current_device().index);
  benchmark::AddCustomContext("gpu", device.name);
  benchmark::AddCustomContext("gpu_clock_mhz", std::to_string(clock_khz / 1000));
  benchmark::AddCustomContext("gpu_memory_clock_mhz", std::to_string(memory_khz / 1000));
  benchmark::AddCustomContext("gpu_l2_mib", std::to_string(device.l2CacheSize >> 20));
  benchmark::AddCustomContext("cuda_driver", std::to_string(driver));
  benchmark::AddCustomContext("cuda_runtime", std::to_string(runtime));
}

} // namespace qlr::bench
