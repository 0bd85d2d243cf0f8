// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// decompose() on the CPU against the same loop on a full SVD, in the same run.
//
//   decompose_memory   peak memory of LoftQ in a process of its own, in multiples of the fp32 bytes of W, W
//                      included
//   decompose_rows     LoftQ, NF4, rank 64, 5 iterations; speedup = peer seconds / our seconds (medians),
//                      error_ratio = our relative error / the peer's. The peer runs up to --peer-size=N
//                      (default 1024); beyond, extrapolated_peer_s scales its largest measured size by n^3
//   decompose_methods  other methods at one size
//   decompose_threads  LoftQ on one thread and on all
//   svd_rows           one randomized SVD from a random start against one full SVD

#include <harness/axes.hpp>
#include <harness/environment.hpp>
#include <harness/matrices.hpp>
#include <harness/memory.hpp>
#include <harness/program.hpp>
#include <harness/timing.hpp>

#include <qlr/core/error_metrics.hpp>
#include <qlr/host/decompose.hpp>

#include <benchmark/benchmark.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

namespace {

using namespace qlr;
using namespace qlr::bench;

/// Largest size of the peer.
index_t& peer_size() {
  static index_t size = default_peer_size;
  return size;
}

/// Seconds of the peer at the largest size measured so far.
struct peer_time {
  index_t rows = 0;
  double seconds = 0;
};

/// The latest peer measurement of each kind of matrix.
peer_time& latest_peer(matrix_kind kind) {
  static std::map<matrix_kind, peer_time> times;
  return times[kind];
}

/// One decomposition that a row asks for.
struct problem {
  std::string_view method = "loftq";
  std::string_view format = "nf4";
  index_t rank = decompose_rank;
  svd_method svd = svd_method::randomized;
};

/// Runs one decomposition with default options.
decompose_result run_problem(const problem& p, const matrix<float>& weight, const executor& run) {
  decompose_options options;
  options.rank = p.rank;
  options.steps = find_preset(p.method).steps;
  options.svd = p.svd;
  return decompose(weight.view(), make_quantizer(p.format), options, {}, run);
}

/// Rebuilds Q + L R and compares its distance from W with the error that was reported.
std::string verify_result(const matrix<float>& weight, const decompose_result& result, const executor& run) {
  const matrix<float> rebuilt = reconstruct(result.best, run);
  const double measured = compare(weight.view(), rebuilt.view()).relative_error;
  if (std::fabs(measured - result.relative_error) <= 1e-4 * measured) return {};
  return sentence("the error is ", measured, ", reported was ", result.relative_error);
}

/// A problem timed once per iteration, after one verified call; also its last result.
struct timed_problem {
  samples times;
  decompose_result result;
};

/// Verifies, then times a problem.
timed_problem time_problem(benchmark::State& state, const problem& p, const matrix<float>& weight,
                           const executor& run) {
  timed_problem timed;
  timed.result = run_problem(p, weight, run);
  const auto verify = [&] { return verify_result(weight, timed.result, run); };
  timed.times = verify_then_time(state, verify, 0, [&](int) {
    timed.result = run_problem(p, weight, run);
    return timed.result.relative_error;
  });
  if (timed.times.is_empty()) return timed;
  state.counters["error_rel"] = timed.result.relative_error;
  state.counters["iterations_run"] = timed.result.iterations_run;
  state.counters["svd_share"] = timed.result.seconds_svd / timed.result.seconds_total;
  state.counters["quantize_share"] = timed.result.seconds_quantize / timed.result.seconds_total;
  return timed;
}

/// Times the same loop on the full SVD: as often as ours up to the default size, once above it.
void add_peer(benchmark::State& state, matrix_kind kind, const problem& p, const matrix<float>& weight,
              const timed_problem& ours, const executor& run) {
  problem exact = p;
  exact.svd = svd_method::exact;
  samples times;
  double error = 0;
  const int calls = weight.rows() <= default_peer_size ? decompose_calls : 1;
  for (int call = 0; call < calls; ++call) {
    const auto timed_call = time_once([&] { return run_problem(exact, weight, run); });
    times.add(timed_call);
    error = timed_call.result.relative_error;
  }
  latest_peer(kind) = {weight.rows(), times.median()};
  state.counters["peer_s"] = times.median();
  state.counters["peer_cpu_s"] = times.mean_cpu();
  state.counters["peer_cores_used"] = times.cores_used();
  state.counters["speedup"] = times.median() / ours.times.median();
  state.counters["error_ratio"] = ours.result.relative_error / error;
}

/// The size sweep with the peer.
void time_rows(benchmark::State& state, matrix_kind kind, index_t rows) {
  thread_pool pool;
  const matrix<float> weight = make_matrix(kind, rows, rows, pool);
  const problem loftq;
  const timed_problem ours = time_problem(state, loftq, weight, pool);
  if (ours.times.is_empty()) return;
  std::string label = sentence("peer: ", host::exact_svd_name());
  if (rows <= peer_size()) {
    add_peer(state, kind, loftq, weight, ours, pool);
  } else if (const peer_time peer = latest_peer(kind); peer.rows > 0) {
    const double growth = static_cast<double>(rows) / static_cast<double>(peer.rows);
    const double seconds = peer.seconds * growth * growth * growth;
    state.counters["extrapolated_peer_s"] = seconds;
    state.counters["extrapolated_speedup"] = seconds / ours.times.median();
    label += sentence(" at ", peer.rows, ", extrapolated");
  }
  if (rows == 4096) state.counters["speedup_over_61s"] = 61.0 / ours.times.median(); // 5 SVDs of 12.2 s
  report(state, ours.times, label);
}

/// Another method, without a peer.
void time_method(benchmark::State& state, matrix_kind kind, const problem& p) {
  thread_pool pool;
  const matrix<float> weight = make_matrix(kind, method_rows, method_rows, pool);
  report(state, time_problem(state, p, weight, pool).times);
}

/// LoftQ on a number of threads, and its speed over the first such row (one thread).
void time_threads(benchmark::State& state, int num_threads) {
  static double one_thread_seconds = 0;
  thread_pool pool(num_threads);
  const matrix<float> weight = make_matrix(matrix_kind::gaussian, scaling_rows, scaling_rows, pool);
  const samples times = time_problem(state, {}, weight, pool).times;
  if (times.is_empty()) return;
  if (num_threads == 1) one_thread_seconds = times.median();
  if (one_thread_seconds > 0) state.counters["over_one_thread"] = one_thread_seconds / times.median();
  report(state, times);
}

/// Distance of the rank-r product of triplets from x, relative to x.
double triplet_error(const matrix<float>& x, const singular_triplets<matrix<float>>& triplets) {
  matrix<float> left(triplets.left);
  host::eigen_backend::scale_rows(left, triplets.values, 1.0F);
  matrix<float> product(x.rows(), x.cols());
  host::map(product).noalias() = host::map_transposed(left) * host::map(triplets.right); // (m,r) (r,n)
  return compare(x.view(), product.view()).relative_error;
}

/// One randomized SVD from a random start, and the full one.
void time_svd(benchmark::State& state, matrix_kind kind) {
  thread_pool pool;
  const matrix<float> x = make_matrix(kind, method_rows, method_rows, pool);
  const host::eigen_backend backend(pool);
  const auto randomized = [&](int) {
    return randomized_svd<host::eigen_backend>().solve(backend, x, decompose_rank);
  };
  const auto exact = [&] { return truncated_svd{}.solve(backend, x, decompose_rank); };
  const double error_ratio = triplet_error(x, randomized(0)) / triplet_error(x, exact());
  const auto verify = [&]() -> std::string {
    return error_ratio > 0.9999 && error_ratio < 1.01 ? "" : sentence("the error ratio is ", error_ratio);
  };
  const samples times = verify_then_time(state, verify, 0, randomized);
  if (times.is_empty()) return;
  samples peer_times;
  for (int call = 0; call < decompose_calls; ++call) peer_times.add(time_once(exact));
  state.counters["peer_s"] = peer_times.median();
  state.counters["speedup"] = peer_times.median() / times.median();
  state.counters["error_ratio"] = error_ratio;
  report(state, times, sentence("peer: ", host::exact_svd_name()));
}

/// Peak memory of a LoftQ run, over the fp32 bytes of W.
void measure_memory(benchmark::State& state, index_t rows) {
  const auto weight_bytes = static_cast<double>(rows * rows) * sizeof(float);
  for ([[maybe_unused]] auto iteration : state) {
    const auto body = [&] {
      thread_pool pool;
      const matrix<float> weight = make_matrix(matrix_kind::gaussian, rows, rows, pool);
      return run_problem({}, weight, pool).relative_error;
    };
    const auto child = time_once([&] { return peak_growth_bytes(body); });
    const double growth = child.result;
    state.SetIterationTime(child.seconds);
    if (!(growth >= weight_bytes)) {
      state.SkipWithError("the child process failed");
      break;
    }
    state.counters["peak_over_weight"] = growth / weight_bytes;
    state.counters["peak_mib"] = growth / 1048576.0;
  }
}

/// Registers a row that runs a fixed number of times.
template <class Body>
void add_row(const std::string& name, int calls, Body&& body) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->UseManualTime()
      ->Iterations(calls)
      ->Unit(benchmark::kMillisecond);
}

/// Registers every row; memory first, its child must not inherit what other rows have allocated.
void register_rows() {
  add_row(sentence("decompose_memory/Rows:", decompose_rows.back()), 1,
          [](benchmark::State& state) { measure_memory(state, decompose_rows.back()); });
  for (const matrix_kind kind : all_matrix_kinds) {
    for (const index_t rows : decompose_rows) {
      add_row(sentence("decompose_rows/Model:", to_string(kind), "/Rows:", rows), decompose_calls,
              [kind, rows](benchmark::State& state) { time_rows(state, kind, rows); });
    }
  }
  static constexpr problem methods[] = {
      {"best", "nf4", 16}, {"lq-lora", "nf4", decompose_rank}, {"zeroquant-v2", "int4", decompose_rank}};
  for (const matrix_kind kind : all_matrix_kinds) {
    for (const problem& method : methods) {
      add_row(sentence("decompose_methods/Model:", to_string(kind), "/Method:", method.method,
                       "/Quantizer:", method.format, "/Rank:", method.rank, "/Rows:", method_rows),
              decompose_calls,
              [kind, &method](benchmark::State& state) { time_method(state, kind, method); });
    }
    add_row(sentence("svd_rows/Model:", to_string(kind), "/Rank:", decompose_rank, "/Rows:", method_rows),
            timed_calls, [kind](benchmark::State& state) { time_svd(state, kind); });
  }
  for (int threads = 1; threads <= num_hardware_threads(); threads *= 2) {
    add_row(sentence("decompose_threads/Threads:", threads, "/Rows:", scaling_rows), decompose_calls,
            [threads](benchmark::State& state) { time_threads(state, threads); });
  }
}

/// Takes --peer-size=N out of the arguments; false when N is not a positive number.
bool take_peer_size(int& argc, char** argv) {
  constexpr std::string_view flag = "--peer-size=";
  int kept = 0;
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.substr(0, flag.size()) != flag) {
      argv[kept++] = argv[i];
      continue;
    }
    const std::string_view number = argument.substr(flag.size());
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), peer_size());
    if (error != std::errc{} || end != number.data() + number.size() || peer_size() < 1) return false;
  }
  argc = kept;
  return true;
}

} // namespace

int main(int argc, char** argv) {
  if (!take_peer_size(argc, argv)) {
    std::fprintf(stderr, "--peer-size=N needs a positive number of rows\n");
    return 1;
  }
  register_rows();
  return run_program(argc, argv);
}
