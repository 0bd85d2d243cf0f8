// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// quantize_adapter() on adapters whose singular values fall, at 2 and 1 bits, ratio 0.9, groups of 128.
//
//   adapter_refine    rounding to nearest (none), 300 steps of gradient descent (sgd), least squares (als)
//   and its
//                     start without sweeps (als_start); error = ||L R - its approximation||_F / ||L R||_F
//   adapter_products  300 steps for each high pair as code that forms products (m,n) does them: the two outer
//                     products, the norm of their difference and its two gradients, without any rounding; a
//                     lower bound for such code

#include <harness/axes.hpp>
#include <harness/program.hpp>
#include <harness/timing.hpp>

#include <qlr/host/backend.hpp>
#include <qlr/host/quantize_adapter.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

namespace {

using namespace qlr;
using namespace qlr::bench;

struct shape {
  index_t rows, cols, rank;
};

struct factors {
  matrix<float> left;  // (m,r)
  matrix<float> right; // (r,n)
};

/// Independent elements; singular values that fall to 2 % as those of the reference adapter do.
factors make_factors(const shape& s) {
  factors made{matrix<float>(s.rows, s.rank), matrix<float>(s.rank, s.cols)};
  const host::eigen_backend backend;
  backend.fill_random(made.left, 0, 1);
  backend.fill_random(made.right, 0, 2);
  for (index_t k = 0; k < s.rank; ++k) {
    const auto size =
        static_cast<float>(0.02 * std::pow(0.02, static_cast<double>(k) / static_cast<double>(s.rank)));
    for (index_t j = 0; j < s.cols; ++j) made.right(k, j) *= size;
  }
  return made;
}

struct refinement {
  std::string_view name;
  adapter_refinement kind;
  int sweeps;
};

adapter_result refine(const factors& parts, const refinement& how) {
  adapter_options options;
  options.split = adapter_split::before;
  options.refinement = how.kind;
  options.als_sweeps = how.sweeps;
  // What gradient descent is defined on; the others search.
  if (how.kind == adapter_refinement::sgd) options.range = adapter_range::extended;
  return quantize_adapter(parts.left.view(), parts.right.view(), options);
}

/// The error that was reported against that of the dense product, in double.
std::string verify_error(const factors& parts, const adapter_result& result) {
  const matrix<float> left = dequantize_left(result.adapter);
  const matrix<float> right = dequantize_right(result.adapter);
  const auto product = [](const matrix<float>& l, const matrix<float>& r, index_t first, index_t count) {
    return Eigen::MatrixXd(host::map(l).middleRows(first, count).cast<double>() *
                           host::map(r).cast<double>());
  };
  double error = 0;
  double norm = 0;
  for (index_t first = 0; first < left.rows(); first += 256) {
    const index_t count = std::min<index_t>(256, left.rows() - first);
    const Eigen::MatrixXd exact = product(parts.left, parts.right, first, count);
    norm += exact.squaredNorm();
    error += (exact - product(left, right, first, count)).squaredNorm();
  }
  const double measured = std::sqrt(error / norm);
  if (std::fabs(measured - result.relative_error) <= 1e-6) return {};
  return sentence("the error is ", measured, ", reported was ", result.relative_error);
}

void time_refinement(benchmark::State& state, const shape& s, const refinement& how) {
  const factors parts = make_factors(s);
  const adapter_result result = refine(parts, how);
  const samples times = verify_then_time(
      state, [&] { return verify_error(parts, result); }, 1, [&](int) { return refine(parts, how); });
  state.counters["error"] = result.relative_error;
  state.counters["bits"] = result.adapter.bits_without_scales();
  state.counters["bits_stored"] = result.adapter.bits_with_scales();
  state.counters["split_rank"] = static_cast<double>(result.adapter.split_rank());
  state.counters["sweeps"] = result.sweeps_run;
  report(state, times);
}

/// 300 steps on `pairs` pairs with products (m,n) in memory.
float form_products(const factors& parts, index_t pairs) {
  const auto left = host::map(parts.left);
  const auto right = host::map(parts.right);
  Eigen::MatrixXf difference(left.rows(), right.cols());
  float sum = 0;
  for (index_t k = 0; k < pairs; ++k) {
    const Eigen::VectorXf b = left.col(k);
    const Eigen::VectorXf a = right.row(k).transpose();
    Eigen::VectorXf moved_b = 1.1F * b;
    Eigen::VectorXf moved_a = 0.95F * a;
    for (int step = 0; step < 300; ++step) {
      difference.noalias() = moved_b * moved_a.transpose();
      difference.noalias() -= b * a.transpose();
      const float norm = difference.norm();
      sum += norm;
      const Eigen::VectorXf slope = difference * moved_a;
      moved_a.noalias() -= 1e-4F / norm * (difference.transpose() * moved_b);
      moved_b.noalias() -= 1e-4F / norm * slope;
    }
  }
  return sum;
}

void time_products(benchmark::State& state, const shape& s) {
  const factors parts = make_factors(s);
  const adapter_result result = refine(parts, {"none", adapter_refinement::none, 0});
  const index_t pairs = result.adapter.split_rank();
  const samples times = verify_then_time(
      state, [] { return std::string(); }, 1, [&](int) { return form_products(parts, pairs); });
  state.counters["split_rank"] = static_cast<double>(pairs);
  report(state, times);
}

void register_rows() {
  static constexpr shape shapes[] = {{384, 512, 16}, {4096, 4096, 64}};
  static constexpr refinement refinements[] = {{"none", adapter_refinement::none, 0},
                                               {"sgd", adapter_refinement::sgd, 0},
                                               {"als_start", adapter_refinement::als, 0},
                                               {"als", adapter_refinement::als, 12}};
  const auto add = [](const std::string& name, index_t calls, auto body) {
    benchmark::RegisterBenchmark(name.c_str(), body)
        ->Iterations(calls)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  };
  for (const shape& s : shapes) {
    const bool is_small = s.rows < 1000;
    for (const refinement& how : refinements) {
      add(sentence("adapter_refine/Method:", how.name, "/Rows:", s.rows, "/Cols:", s.cols, "/Rank:", s.rank),
          is_small ? 101 : 5, [&s, &how](benchmark::State& state) { time_refinement(state, s, how); });
    }
    if (!is_small) continue;
    add(sentence("adapter_products/Rows:", s.rows, "/Cols:", s.cols, "/Rank:", s.rank), 5,
        [&s](benchmark::State& state) { time_products(state, s); });
  }
}

} // namespace

int main(int argc, char** argv) {
  register_rows();
  return run_program(argc, argv);
}
