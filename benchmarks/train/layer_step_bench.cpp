// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// One training step of each kind of layer, W (n,n), and the memory that training it takes.
//
//   layer_memory  bytes per weight: kept between steps by the layers' own count (kept), and the peak of
//                 resident memory in a process of its own over two steps (peak), which holds X, Y, their
//                 gradients and what a step allocates too. 16 is full-precision training: W, its gradient
//                 and two moments
//   layer_step    forward, backward with the gradient of X, and AdamW; first the products alone: X W^T,
//                 G W and G^T X with Eigen on the same threads, 6 t n^2 operations
//
// GFLOP/s count these 6 t n^2 operations for every layer.

#include <harness/matrices.hpp>
#include <harness/memory.hpp>
#include <harness/program.hpp>
#include <harness/timing.hpp>

#include <qlr/decompose/reconstruct.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/train.hpp>

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace qlr;
using namespace qlr::bench;
using namespace qlr::train;

constexpr index_t all_sizes[] = {1024, 4096};
constexpr index_t num_tokens = 256;
constexpr index_t rank = 64;
constexpr int step_calls = 7;

using eigen_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using eigen_view = Eigen::Map<const eigen_matrix>;

eigen_view as_eigen(const matrix<float>& x) {
  return {x.data(), x.rows(), x.cols()};
}

/// A layer, its optimizer, and what a batch of tokens needs.
template <class Layer>
struct training {
  training(Layer made, index_t tokens)
      : layer(std::move(made)), parameters(layer.parameters({})), optimizer(parameters),
        x(make_gaussian(tokens, layer.cols(), 5)), grad_y(make_gaussian(tokens, layer.rows(), 6)),
        y(tokens, layer.rows(), 0.0F), grad_x(tokens, layer.cols(), 0.0F) {}

  void step(const executor& run) {
    zero_gradients<float>(parameters);
    layer.forward(x.view(), y.view(), run);
    layer.backward(x.view(), grad_y.view(), grad_x.view(), run);
    optimizer.step(parameters, 1e-4, run);
  }
  /// Bytes between steps: weights as stored, gradients, the optimizer's state.
  [[nodiscard]] index_t kept_bytes() const {
    index_t bytes = layer.stored_bytes() + optimizer.state_bytes();
    for (const auto& p : parameters) bytes += p.size() * static_cast<index_t>(sizeof(float));
    return bytes;
  }

  Layer layer;
  std::vector<parameter_view<float>> parameters;
  adamw<float> optimizer;
  matrix<float> x;      ///< (t,n)
  matrix<float> grad_y; ///< (t,m)
  matrix<float> y;      ///< (t,m)
  matrix<float> grad_x; ///< (t,n)
};

quantized_matrix rounded(const matrix<float>& weight, std::string_view format, const executor& run) {
  return quantize(weight.view(), make_quantizer(format), run);
}

lr_qat_options shifts(frozen_storage start) {
  return {.rank = rank, .alpha = 1.0, .start = start};
}

// How each kind of layer is made of W.
dense_layer<float> make_dense(const matrix<float>& weight, const executor& /*run*/) {
  return dense_layer<float>(weight.view());
}
low_rank_layer<float> make_low_rank(const matrix<float>& weight, const executor& run) {
  return low_rank_layer<float>(rounded(weight, "nf4", run), {.rank = rank});
}
/// The first refresh is over; no gradient has been seen, so P is taken from W - Q.
loqt_layer<float> make_loqt(const matrix<float>& weight, const executor& run) {
  loqt_layer<float> layer(weight.view(), make_quantizer("nf4"), {.rank = rank}, run);
  layer.finish_refresh(run);
  return layer;
}
lrq_layer<float> make_lrq(const matrix<float>& weight, const executor& run) {
  return lrq_layer<float>(weight.view(), rounded(weight, "uint4", run), {.rank = rank});
}
lr_qat_layer<float> make_lr_qat(const matrix<float>& weight, const executor& run) {
  return lr_qat_layer<float>(weight.view(), rounded(weight, "int4", run), shifts(frozen_storage::fp32));
}
lr_qat_layer<float> make_lr_qat_fixed8(const matrix<float>& weight, const executor& run) {
  return lr_qat_layer<float>(weight.view(), rounded(weight, "int4", run), shifts(frozen_storage::fixed8));
}
lr_qat_layer<bfloat16> make_lr_qat_bf16(const matrix<float>& weight, const executor& run) {
  return lr_qat_layer<bfloat16>(weight.view(), rounded(weight, "int4", run), shifts(frozen_storage::fixed8));
}

/// W_hat of a layer.
template <class Layer>
matrix<float> weight_of(Layer& layer, const matrix<float>& weight) {
  if constexpr (requires { layer.to_quantized(); }) {
    return dequantize(layer.to_quantized());
  } else if constexpr (requires { layer.to_decomposition(); }) {
    return reconstruct(layer.to_decomposition());
  } else {
    return weight;
  }
}

double relative_difference(const eigen_matrix& found, const eigen_matrix& expected) {
  return static_cast<double>((found - expected).norm() / expected.norm());
}

/// Checks Y and the gradient of X against products with the whole W_hat.
template <class Layer>
std::string verify_layer(training<Layer>& run_of, const matrix<float>& weight, const executor& run) {
  constexpr float unset = std::numeric_limits<float>::quiet_NaN();
  run_of.y.fill(unset);
  run_of.grad_x.fill(unset);
  run_of.layer.forward(run_of.x.view(), run_of.y.view(), run);
  run_of.layer.backward(run_of.x.view(), run_of.grad_y.view(), run_of.grad_x.view(), run);
  const matrix<float> whole = weight_of(run_of.layer, weight);
  const double of_y =
      relative_difference(as_eigen(run_of.y), as_eigen(run_of.x) * as_eigen(whole).transpose());
  const double of_x = relative_difference(as_eigen(run_of.grad_x), as_eigen(run_of.grad_y) * as_eigen(whole));
  // Sums of n products in float, in another order.
  if (of_y < 1e-5 && of_x < 1e-5) return {};
  return sentence("Y is off by ", of_y, ", the gradient of X by ", of_x);
}

/// Medians of the floor and of the dense layer by size, which others are compared with.
double& reference_seconds(std::string_view name, index_t n) {
  static std::map<std::pair<std::string, index_t>, double> seconds;
  return seconds[{std::string(name), n}];
}

void report_step(benchmark::State& state, const samples& times, index_t n) {
  if (times.is_empty()) return;
  const double products = 6.0 * static_cast<double>(num_tokens * n * n);
  state.counters["GFLOP/s"] = products / times.median() * 1e-9;
  for (const char* const name : {"products", "dense"}) {
    const double reference = reference_seconds(name, n);
    if (reference > 0) state.counters[sentence("over_", name)] = times.median() / reference;
  }
  report(state, times);
}

/// The three products of a dense layer's step with Eigen.
void time_products(benchmark::State& state, index_t n) {
  thread_pool pool;
  const eigen_matrix weight = as_eigen(make_gaussian(n, n, 1, pool));
  const eigen_matrix x = as_eigen(make_gaussian(num_tokens, n, 5));
  const eigen_matrix grad_y = as_eigen(make_gaussian(num_tokens, n, 6));
  eigen_matrix y(num_tokens, n);
  eigen_matrix grad_x(num_tokens, n);
  eigen_matrix grad_weight(n, n);
  const auto body = [&](int) {
    for_each_range(pool, n, 256, [&](index_t begin, index_t end) {
      const index_t count = end - begin;
      y.middleCols(begin, count).noalias() = x * weight.middleRows(begin, count).transpose();
      grad_x.middleCols(begin, count).noalias() = grad_y * weight.middleCols(begin, count);
      grad_weight.middleRows(begin, count).noalias() = grad_y.middleCols(begin, count).transpose() * x;
    });
    return grad_weight(0, 0);
  };
  const auto verify = [&]() -> std::string {
    body(0);
    const double off = relative_difference(y, x * weight.transpose());
    return off < 1e-5 ? "" : sentence("X W^T is off by ", off);
  };
  const samples times = verify_then_time(state, verify, 1, body);
  reference_seconds("products", n) = times.median();
  report_step(state, times, n);
}

template <class Make>
void time_layer(benchmark::State& state, const Make& make, const std::string& name, index_t n) {
  thread_pool pool;
  const matrix<float> weight = make_gaussian(n, n, 1, pool);
  training run_of(make(weight, pool), num_tokens);
  const auto body = [&](int) {
    run_of.step(pool);
    return run_of.y(0, 0);
  };
  const samples times = verify_then_time(
      state, [&] { return verify_layer(run_of, weight, pool); }, 1, body);
  reference_seconds(name, n) = times.median();
  report_step(state, times, n);
}

/// Two steps; with LoQT's refresh one before and one within it.
template <class Layer>
void take_steps(training<Layer>& run_of, bool refreshes, const executor& run) {
  run_of.step(run);
  if constexpr (requires { run_of.layer.start_refresh(run); }) {
    if (refreshes) {
      run_of.layer.start_refresh(run);
      run_of.layer.backward(run_of.x.view(), run_of.grad_y.view(), run_of.grad_x.view(), run);
      run_of.layer.finish_refresh(run);
    }
  }
  run_of.step(run);
}

template <class Make>
void measure_memory(benchmark::State& state, const Make& make, bool refreshes, index_t n) {
  const auto per_weight = [n](double bytes) { return bytes / static_cast<double>(n * n); };
  for ([[maybe_unused]] auto iteration : state) {
    const auto prepared = [&](const executor& run) {
      return training(make(make_gaussian(n, n, 1, run), run), num_tokens);
    };
    const auto in_child = [&] {
      thread_pool pool;
      auto run_of = prepared(pool); // W itself and what making the layer took are given back
      reset_peak_memory();
      take_steps(run_of, refreshes, pool);
    };
    const auto child = time_once([&] { return peak_growth_bytes(in_child); });
    state.SetIterationTime(child.seconds);
    if (!(child.result > 0)) {
      state.SkipWithError("the child process failed");
      break;
    }
    auto run_of = prepared({});
    state.counters["stored"] = per_weight(static_cast<double>(run_of.layer.stored_bytes()));
    state.counters["kept"] = per_weight(static_cast<double>(run_of.kept_bytes()));
    state.counters["peak"] = per_weight(child.result);
    state.counters["kept_of_full"] = per_weight(static_cast<double>(run_of.kept_bytes())) / 16;
    state.counters["peak_mib"] = child.result / 1048576.0;
  }
}

template <class Body>
void add_row(const std::string& name, int calls, Body&& body) {
  benchmark::RegisterBenchmark(name.c_str(), std::forward<Body>(body))
      ->UseManualTime()
      ->Iterations(calls)
      ->Unit(benchmark::kMillisecond);
}

template <class Visit>
void for_each_layer(Visit&& visit) {
  visit("dense", make_dense);
  visit("qlora_nf4", make_low_rank);
  visit("loqt_nf4", make_loqt);
  visit("lrq_uint4", make_lrq);
  visit("lr_qat_int4_fp32", make_lr_qat);
  visit("lr_qat_int4_fixed8", make_lr_qat_fixed8);
  visit("lr_qat_int4_fixed8_bf16", make_lr_qat_bf16);
}

std::string axes(const std::string& layer, index_t n) {
  return sentence("/Layer:", layer, "/Rows:", n, "/Rank:", rank, "/Tokens:", num_tokens);
}

} // namespace

int main(int argc, char** argv) {
  for (const index_t n : all_sizes) { // first: a child begins with what other rows have left allocated
    for_each_layer([&](const std::string& layer, auto make) {
      add_row("layer_memory" + axes(layer, n), 1,
              [=](benchmark::State& state) { measure_memory(state, make, false, n); });
    });
    add_row("layer_memory" + axes("loqt_nf4_refresh", n), 1,
            [n](benchmark::State& state) { measure_memory(state, make_loqt, true, n); });
  }
  for (const index_t n : all_sizes) {
    add_row("layer_step" + axes("products", n), step_calls,
            [n](benchmark::State& state) { time_products(state, n); });
    for_each_layer([&](const std::string& layer, auto make) {
      add_row("layer_step" + axes(layer, n), step_calls,
              [=](benchmark::State& state) { time_layer(state, make, layer, n); });
    });
  }
  return run_program(argc, argv);
}
