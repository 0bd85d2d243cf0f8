// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// decompose() on the GPU.
//
//   copy_bandwidth       a copy of 1 GiB within the device, bytes read and written
//   decompose_rows_cuda  LoftQ, NF4, rank 64, 5 iterations, from device memory to device memory; the bar is
//   15
//                        ms at 4096; cpu_error_ratio = its error over the CPU's, at the sizes where the CPU
//                        takes seconds
//   decompose_methods_cuda  other methods at one size
//   quantize_cuda        quantization and dequantization alone, with the share of the copy bandwidth
//
// Times are wall-clock seconds from call to result, since the loop reads two numbers per iteration. PyTorch's
// SVDs are timed by torch_svd.py.

#include <harness/axes.hpp>
#include <harness/gpu.hpp>
#include <harness/matrices.hpp>
#include <harness/program.hpp>

#include <qlr/core/error_metrics.hpp>
#include <qlr/cuda/decompose.cuh>
#include <qlr/cuda/quantize.cuh>
#include <qlr/decompose/presets.hpp>
#include <qlr/host/decompose.hpp>
#include <qlr/quant/formats.hpp>

#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <string_view>

namespace {

using namespace qlr;
using namespace qlr::bench;

/// Largest size at which the CPU runs the same problem for comparison.
constexpr index_t largest_cpu_rows = 1024;

struct problem {
  std::string_view method = "loftq";
  std::string_view format = "nf4";
  index_t rank = decompose_rank;
};

decompose_options options_of(const problem& p) {
  decompose_options options;
  options.rank = p.rank;
  options.steps = find_preset(p.method).steps;
  return options;
}

/// Rebuilds Q + L R on the host and compares its distance from W with the error that was reported.
std::string verify_result(const matrix<float>& weight, const decompose_result& result) {
  const matrix<float> rebuilt = reconstruct(result.best);
  const double measured = compare(weight.view(), rebuilt.view()).relative_error;
  if (std::fabs(measured - result.relative_error) <= 1e-4 * measured) return {};
  return sentence("the error is ", measured, ", reported was ", result.relative_error);
}

void time_problem(benchmark::State& state, const problem& p, matrix_kind kind, index_t rows) {
  thread_pool pool;
  const matrix<float> weight = make_matrix(kind, rows, rows, pool);
  const cuda::device_matrix<float> on_device = cuda::to_device(weight.view());
  const any_quantizer quantizer = make_quantizer(p.format);
  const decompose_options options = options_of(p);
  const cuda::context context;
  decompose_result result;
  const auto body = [&](int) {
    return cuda::decompose_on_device(context, on_device.view(), quantizer, options).summary.relative_error;
  };
  const auto verify = [&] {
    result = cuda::decompose(context, on_device.view(), quantizer, options);
    return verify_result(weight, result);
  };
  const samples times = verify_then_time(state, verify, warm_ups, body);
  if (times.is_empty()) return;
  state.counters["error_rel"] = result.relative_error;
  state.counters["iterations_run"] = result.iterations_run;
  state.counters["svd_share"] = result.seconds_svd / result.seconds_total;
  if (rows <= largest_cpu_rows) {
    state.counters["cpu_error_ratio"] =
        result.relative_error / decompose(weight.view(), quantizer, options, {}, pool).relative_error;
  }
  report(state, times, rows == 4096 && p.method == "loftq" ? "bar: 0.015 s" : "");
}

/// One pass of quantization, or back.
void time_quantize(benchmark::State& state, std::string_view format, bool searches) {
  thread_pool pool;
  const matrix<float> weight = make_matrix(matrix_kind::gaussian, quantize_rows, quantize_cols, pool);
  const any_quantizer quantizer = make_quantizer(format, {.scale_search = searches});
  gpu_clock clock;
  const cuda::device_matrix<float> on_device = cuda::to_device(weight.view(), clock.stream());
  const auto verify = [&]() -> std::string {
    const quantized_matrix expected = quantize(weight.view(), quantizer, pool);
    const quantized_matrix found =
        cuda::to_host(cuda::quantize(quantizer, on_device.view(), {}, clock.stream()), clock.stream());
    index_t different = 0;
    for (std::size_t i = 0; i < expected.codes().size(); ++i)
      different += expected.codes()[i] != found.codes()[i] ? 1 : 0;
    return different * 10000 <= static_cast<index_t>(expected.codes().size())
               ? ""
               : sentence(different, " bytes of codes differ from the CPU's");
  };
  if (const std::string mistake = verify(); !mistake.empty()) {
    state.SkipWithError(mistake.c_str());
    return;
  }
  samples times;
  for ([[maybe_unused]] auto iteration : state) {
    const double seconds = clock.seconds_of(
        [&] { (void)cuda::quantize_async(quantizer, on_device.view(), {}, clock.stream()); });
    state.SetIterationTime(seconds);
    times.add(timed<int>{0, seconds, seconds});
  }
  const double bytes = 4.0 * static_cast<double>(weight.size()) +
                       static_cast<double>(quantizer.layout(weight.rows(), weight.cols()).storage_bytes());
  state.counters["GB/s"] = 1e-9 * bytes / times.median();
  if (gpu_peaks().copy_bandwidth > 0)
    state.counters["of_copy"] = bytes / times.median() / gpu_peaks().copy_bandwidth;
  report(state, times);
}

template <class Body>
void add_row(const std::string& name, int calls, Body&& body) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->UseManualTime()
      ->Iterations(calls)
      ->Unit(benchmark::kMillisecond);
}

void register_rows() {
  add_row("copy_bandwidth", timed_calls, time_device_copy);
  for (const matrix_kind kind : all_matrix_kinds) {
    for (const index_t rows : {1024, 4096, 8192}) {
      add_row(sentence("decompose_rows_cuda/Model:", to_string(kind), "/Rows:", rows), timed_calls,
              [kind, rows](benchmark::State& state) { time_problem(state, {}, kind, rows); });
    }
  }
  static constexpr problem methods[] = {
      {"best", "nf4", 16}, {"lq-lora", "nf4", decompose_rank}, {"zeroquant-v2", "int4", decompose_rank}};
  for (const problem& method : methods) {
    add_row(sentence("decompose_methods_cuda/Method:", method.method, "/Quantizer:", method.format,
                     "/Rank:", method.rank, "/Rows:", method_rows),
            decompose_calls, [&method](benchmark::State& state) {
              time_problem(state, method, matrix_kind::weight_like, method_rows);
            });
  }
  for (const format_axis& format : formats) {
    add_row(sentence("quantize_cuda/Quantizer:", format.name, "/Search:", format.searches_scales ? 1 : 0),
            timed_calls, [&format](benchmark::State& state) {
              time_quantize(state, format.name, format.searches_scales);
            });
  }
}

} // namespace

int main(int argc, char** argv) {
  register_rows();
  record_gpu();
  return run_program(argc, argv);
}
