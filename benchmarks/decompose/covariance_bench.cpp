// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Decomposition in the metric of a full input covariance, beside the eigendecomposition that it begins with.
#include <harness/matrices.hpp>
#include <harness/memory.hpp>
#include <harness/program.hpp>
#include <harness/timing.hpp>

#include <qlr/host/covariance.hpp>
#include <qlr/host/decompose.hpp>

#include <cmath>
#include <string>
#include <string_view>
#include <utility>

namespace {

using namespace qlr;
using namespace qlr::bench;

constexpr index_t all_sizes[] = {1024, 4096};
constexpr std::string_view all_methods[] = {"qera-exact", "gptq", "gptq-intrinsic", "best"};
constexpr index_t rank = 64;

/// X^T X / t of t = 2 n tokens of correlated inputs, a few of them loud.
matrix<double> make_covariance(index_t n, thread_pool& pool) {
  matrix<float> tokens = make_matrix(matrix_kind::gaussian, 2 * n, n, pool);
  for (index_t t = 0; t < tokens.rows(); ++t) {
    for (index_t j = 1; j < n; ++j) tokens(t, j) += 0.7F * tokens(t, j - 1);
    for (index_t j = 5; j < n; j += 97) tokens(t, j) *= 20.0F;
  }
  matrix<float> squares(n, n);
  const matrix<float> transposed = to_row_major(std::as_const(tokens).view().transposed());
  host::eigen_backend(pool).gemm(transpose::yes, 1.0F / static_cast<float>(tokens.rows()), transposed,
                                 transposed, 0.0F, squares);
  matrix<double> h(n, n);
  for (index_t i = 0; i < n; ++i) {
    for (index_t j = 0; j < n; ++j) h(i, j) = static_cast<double>(squares(std::max(i, j), std::min(i, j)));
  }
  return h;
}

decompose_options options_of(std::string_view method) {
  decompose_options options;
  options.rank = rank;
  options.steps = find_preset(method).steps;
  if (method == "best") { // the time of an iteration, whatever their number
    options.steps.iterations = 4;
    options.steps.polish_rounds = 1;
  }
  return options;
}

/// The metric and the decomposition, with the eigendecomposition alone beside them.
void time_method(benchmark::State& state, std::string_view method, index_t n) {
  thread_pool pool;
  const matrix<float> weight = make_matrix(matrix_kind::gaussian, n, n, pool);
  const matrix<double> h = make_covariance(n, pool);
  const any_quantizer quantizer = make_quantizer("nf4");
  const auto body = [&](int) {
    const metric weights = make_covariance_metric(h, {}, pool);
    return decompose(weight.view(), quantizer, options_of(method), weights, pool);
  };
  const auto eigen = time_once([&] { return host::detail::eigendecompose(h); });
  const auto verify = [&]() -> std::string { // Q and L R repair each other: better than rounding alone
    const metric weights = make_covariance_metric(h, {}, pool);
    const double plain =
        decompose(weight.view(), quantizer, options_of("qlora"), weights, pool).weighted_error;
    const double found =
        decompose(weight.view(), quantizer, options_of(method), weights, pool).weighted_error;
    return found < plain ? "" : sentence("the error is ", found, ", of rounding ", plain);
  };
  samples times = verify_then_time(state, verify, 0, body);
  if (times.is_empty()) return;
  const decompose_result result = body(0);
  state.counters["eigen_s"] = eigen.seconds;
  state.counters["over_eigen"] = times.median() / eigen.seconds;
  state.counters["error_rel"] = result.weighted_error;
  state.counters["iterations_run"] = result.iterations_run;
  state.counters["decompose_s"] = result.seconds_total;
  report(state, times, host::eigensolver_name());
}

/// Peak memory of metric and decomposition over n^2 bytes, W and H included.
void measure_memory(benchmark::State& state, std::string_view method, index_t n) {
  for ([[maybe_unused]] auto iteration : state) {
    const auto body = [&] {
      thread_pool pool;
      const matrix<float> weight = make_matrix(matrix_kind::gaussian, n, n, pool);
      matrix<double> h(n, n, 0.0);
      for (index_t i = 0; i < n; ++i) {
        for (index_t j = 0; j < n; ++j) h(i, j) = std::pow(0.7, static_cast<double>(std::abs(i - j)));
      }
      const metric weights = make_covariance_metric(std::move(h), {}, pool);
      return decompose(weight.view(), make_quantizer("nf4"), options_of(method), weights, pool)
          .relative_error;
    };
    const auto child = time_once([&] { return peak_growth_bytes(body); });
    state.SetIterationTime(child.seconds);
    if (!(child.result > 0)) {
      state.SkipWithError("the child process failed");
      break;
    }
    state.counters["peak_mib"] = child.result / 1048576.0;
    state.counters["bytes_per_n2"] = child.result / static_cast<double>(n * n);
  }
}

} // namespace

int main(int argc, char** argv) {
  const auto add_row = [](const std::string& name, auto body) {
    benchmark::RegisterBenchmark(name.c_str(), body)
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kSecond);
  };
  for (const index_t n :
       all_sizes) { // first, so that the child does not inherit what other rows have allocated
    for (const std::string_view method : {all_methods[0], all_methods[3]}) {
      add_row(sentence("covariance_memory/Method:", method, "/Rows:", n),
              [n, method](benchmark::State& state) { measure_memory(state, method, n); });
    }
  }
  for (const index_t n : all_sizes) {
    for (const std::string_view method : all_methods) {
      add_row(sentence("covariance_decompose/Method:", method, "/Rank:", rank, "/Rows:", n),
              [n, method](benchmark::State& state) { time_method(state, method, n); });
    }
  }
  return run_program(argc, argv);
}
