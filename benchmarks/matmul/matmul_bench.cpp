// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Y = X (Q + L R)^T with NF4 codes in groups of 64, on all threads, beside the product with the dense matrix.
//
//   read_bandwidth    one pass over a buffer as large as the packed weights, or as all rotated copies of them
//   fma_peak          multiply-adds in registers
//   matmul_dense      sgemv or sgemm of the BLAS library (label), else Eigen's product
//   matmul_eigen      Eigen's product, which has one thread
//   matmul_fused      ours; rank 0 is the product without a low-rank part
//   matmul_unfused    ours without a low-rank part, then X R^T and its product with L by Eigen
//
// GB/s counts the bytes of packed codes, scales and factors once (dense: 4 m n); GFLOP/s counts 2 t (m n + r
// (m + n)); of_read and of_fma are their shares of what read_bandwidth and fma_peak measured in the same run.
// "memory": calls take turns over copies that fill twice the last-level cache.

#include <harness/axes.hpp>
#include <harness/environment.hpp>
#include <harness/matrices.hpp>
#include <harness/peaks.hpp>
#include <harness/program.hpp>
#include <harness/timing.hpp>

#include <qlr/host/eigen_maps.hpp>
#include <qlr/matmul.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/formats.hpp>

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#if defined(QLR_USE_LAPACKE)
extern "C" void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*,
                       const float*, const int*, const float*, const int*, const float*, float*, const int*);
extern "C" void sgemv_(const char*, const int*, const int*, const float*, const float*, const int*,
                       const float*, const int*, const float*, float*, const int*);
#endif

namespace {

using namespace qlr;
using namespace qlr::bench;

/// Shape of one product.
struct problem {
  index_t rows;
  index_t cols;
  index_t rank;
  index_t tokens;
};

/// One layer in all forms.
struct layer {
  matrix<float> weight; ///< dense Q
  matrix<float> left;
  matrix<float> right;
  std::vector<packed_weights> copies; ///< one, or enough to leave the cache
};

matrix<float> half_matrix(index_t rows, index_t cols, std::uint64_t seed, thread_pool& pool) {
  matrix<float> values = make_matrix(matrix_kind::gaussian, rows, cols, pool, seed);
  for (index_t i = 0; i < values.size(); ++i) values.data()[i] = to_float(to_float16(values.data()[i]));
  return values;
}

/// The latest layer is kept: rows of one shape follow each other.
layer& layer_of(const problem& p, bool is_from_memory, thread_pool& pool) {
  static std::tuple<index_t, index_t, index_t, bool> key;
  static std::unique_ptr<layer> latest;
  if (const auto wanted = std::tuple{p.rows, p.cols, p.rank, is_from_memory}; !latest || key != wanted) {
    latest.reset();
    latest = std::make_unique<layer>();
    const matrix<float> weight = make_matrix(matrix_kind::gaussian, p.rows, p.cols, pool);
    const quantized_matrix q = quantize(weight.view(), make_quantizer("nf4"), pool);
    latest->weight = dequantize(q, pool);
    latest->left = half_matrix(p.rows, p.rank, 2, pool);
    latest->right = half_matrix(p.rank, p.cols, 3, pool);
    const auto pack = [&] {
      return prepack(q.view(), std::as_const(latest->left).view(), std::as_const(latest->right).view());
    };
    latest->copies.push_back(pack());
    const index_t size = latest->copies[0].size_bytes();
    for (index_t total = size; is_from_memory && total < 2 * last_level_cache_bytes(); total += size) {
      latest->copies.push_back(pack());
    }
    key = wanted;
  }
  return *latest;
}

/// Compares some rows with a double sum; relative to the largest result.
std::string verify(const layer& l, const matrix<float>& x, const matrix<float>& y, double tolerance_rel) {
  double worst = 0;
  double largest = 0;
  const index_t last = x.rows() - 1;
  for (index_t i = 0; i < l.weight.rows(); i += 61) {
    double sum = 0;
    for (index_t j = 0; j < x.cols(); ++j) {
      double w = static_cast<double>(l.weight(i, j));
      for (index_t k = 0; k < l.right.rows(); ++k) {
        w += static_cast<double>(l.left(i, k)) * static_cast<double>(l.right(k, j));
      }
      sum += w * static_cast<double>(x(last, j));
    }
    const double difference = std::fabs(sum - static_cast<double>(y(last, i)));
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
    largest = std::max(largest, std::fabs(sum));
  }
  return worst <= tolerance_rel * largest
             ? ""
             : sentence("the error is ", worst / largest, " of the largest result");
}

void multiply_eigen(const layer& l, const matrix<float>& x, matrix<float>& y) {
  host::map(y).noalias() = host::map(x) * host::map(l.weight).transpose();
}

void multiply_dense(const layer& l, const matrix<float>& x, matrix<float>& y) {
#if defined(QLR_USE_LAPACKE)
  const int m = static_cast<int>(l.weight.rows());
  const int n = static_cast<int>(l.weight.cols());
  const int t = static_cast<int>(x.rows());
  const int one = 1;
  const float alpha = 1;
  const float beta = 0;
  // Column-major: Y^T (m,t) = W (m,n) X^T (n,t), where W is stored as its transpose.
  if (t == 1) {
    sgemv_("T", &n, &m, &alpha, l.weight.data(), &n, x.data(), &one, &beta, y.data(), &one);
  } else {
    sgemm_("T", "N", &m, &t, &n, &alpha, l.weight.data(), &n, x.data(), &n, &beta, y.data(), &m);
  }
#else
  multiply_eigen(l, x, y);
#endif
}

int calls_for(const problem& p) {
  return p.tokens <= 16 ? 101 : p.tokens <= 128 ? 21 : 9;
}

/// Median seconds of the dense product, by rows, cols and tokens.
std::map<std::tuple<index_t, index_t, index_t>, double>& dense_seconds() {
  static std::map<std::tuple<index_t, index_t, index_t>, double> seconds;
  return seconds;
}

void report_rates(benchmark::State& state, const problem& p, const samples& times, index_t bytes,
                  double bandwidth, const std::string& label) {
  if (times.is_empty()) return;
  const auto dense = dense_seconds().find({p.rows, p.cols, p.tokens});
  const double byte_rate = static_cast<double>(bytes) / times.median();
  const double flop_rate =
      2.0 * static_cast<double>(p.tokens * (p.rows * p.cols + p.rank * (p.rows + p.cols))) / times.median();
  state.counters["GB/s"] = byte_rate * 1e-9;
  state.counters["GFLOP/s"] = flop_rate * 1e-9;
  if (bandwidth > 0) state.counters["of_read"] = byte_rate / bandwidth;
  if (peaks().fma_rate > 0) state.counters["of_fma"] = flop_rate / peaks().fma_rate;
  if (dense != dense_seconds().end()) state.counters["speedup"] = dense->second / times.median();
  report(state, times, label);
}

void time_dense(benchmark::State& state, problem p, bool is_eigen) {
  thread_pool pool;
  p.rank = 0;
  const layer& l = layer_of(p, false, pool);
  const matrix<float> x = make_matrix(matrix_kind::gaussian, p.tokens, p.cols, pool, 4);
  matrix<float> y(p.tokens, p.rows, NAN);
  const auto body = [&](int) {
    is_eigen ? multiply_eigen(l, x, y) : multiply_dense(l, x, y);
    return y.data();
  };
  const auto check = [&] {
    (void)body(0);
    return verify(l, x, y, 1e-4);
  };
  const samples times = verify_then_time(state, check, warm_ups, body);
  if (!times.is_empty() && !is_eigen) dense_seconds()[{p.rows, p.cols, p.tokens}] = times.median();
  report_rates(state, p, times, 4 * p.rows * p.cols, peaks().cache_bandwidth,
               is_eigen ? "Eigen" : blas_name());
}

void time_fused(benchmark::State& state, const problem& p, precision mode, bool is_from_memory) {
  thread_pool pool;
  const layer& l = layer_of(p, is_from_memory, pool);
  const matrix<float> x = make_matrix(matrix_kind::gaussian, p.tokens, p.cols, pool, 4);
  matrix<float> y(p.tokens, p.rows, NAN);
  matmul_workspace workspace(l.copies[0], p.tokens, mode);
  const auto body = [&](int turn) {
    matmul(l.copies[static_cast<std::size_t>(turn) % l.copies.size()], x.view(), y.view(), {.mode = mode},
           workspace, pool);
    return y.data();
  };
  const auto check = [&] {
    (void)body(0);
    return verify(l, x, y, mode == precision::exact ? 1e-5 : mode == precision::bf16 ? 1e-3 : 3e-2);
  };
  const samples times = verify_then_time(state, check, warm_ups, body);
  report_rates(state, p, times, l.copies[0].size_bytes(),
               is_from_memory ? peaks().memory_bandwidth : peaks().cache_bandwidth,
               std::string(to_string(l.copies[0].instruction_set())));
}

void time_unfused(benchmark::State& state, const problem& p) {
  thread_pool pool;
  const layer& l = layer_of(p, false, pool);
  const matrix<float> x = make_matrix(matrix_kind::gaussian, p.tokens, p.cols, pool, 4);
  matrix<float> y(p.tokens, p.rows, NAN);
  const packed_weights plain = prepack(l.copies[0].unpack().view(), l.copies[0].instruction_set());
  matmul_workspace workspace(plain, p.tokens, precision::exact);
  host::row_major_matrix projected;
  const auto body = [&](int) {
    matmul(plain, x.view(), y.view(), {}, workspace, pool);
    projected.noalias() = host::map(x) * host::map(l.right).transpose();
    host::map(y).noalias() += projected * host::map(l.left).transpose();
    return y.data();
  };
  const auto check = [&] {
    (void)body(0);
    return verify(l, x, y, 1e-5);
  };
  const samples times = verify_then_time(state, check, warm_ups, body);
  report_rates(state, p, times, l.copies[0].size_bytes(), peaks().cache_bandwidth,
               "Q fused, L and R by Eigen");
}

template <class Body>
void add_row(const std::string& name, int calls, Body&& body) {
  benchmark::RegisterBenchmark(name.c_str(), std::forward<Body>(body))->UseManualTime()->Iterations(calls);
}

void register_dense(index_t rows, index_t cols, const std::vector<index_t>& tokens) {
  for (const index_t t : tokens) {
    const problem p{rows, cols, 0, t};
    const std::string suffix = sentence("Rows:", rows, "/Cols:", cols, "/Tokens:", t);
    add_row("matmul_dense/" + suffix, calls_for(p),
            [=](benchmark::State& state) { time_dense(state, p, false); });
    add_row("matmul_eigen/" + suffix, calls_for(p),
            [=](benchmark::State& state) { time_dense(state, p, true); });
  }
}

void register_products(index_t rows, index_t cols, index_t rank, const std::vector<index_t>& tokens) {
  for (const index_t t : tokens) {
    const problem p{rows, cols, rank, t};
    const std::string suffix = sentence("Rows:", rows, "/Cols:", cols, "/Rank:", rank, "/Tokens:", t);
    for (const precision mode : all_precisions) {
      add_row(sentence("matmul_fused/", to_string(mode), '/', suffix), calls_for(p),
              [=](benchmark::State& state) { time_fused(state, p, mode, false); });
    }
    if (rank > 0) {
      add_row("matmul_unfused/exact/" + suffix, calls_for(p),
              [=](benchmark::State& state) { time_unfused(state, p); });
    }
  }
}

void register_rows() {
  add_row("read_bandwidth/cache", 101,
          [](benchmark::State& state) { time_read(state, 10 << 20, peaks().cache_bandwidth); });
  add_row("read_bandwidth/memory", 9, [](benchmark::State& state) {
    time_read(state, 2 * last_level_cache_bytes(), peaks().memory_bandwidth);
  });
  add_row("fma_peak", 9, time_fma);
  const std::vector<index_t> all_tokens{1, 4, 16, 128, 512};
  register_dense(4096, 4096, all_tokens);
  for (const index_t rank : {64, 0}) register_products(4096, 4096, rank, all_tokens);
  for (const index_t rank : {8, 16, 32, 128, 256}) register_products(4096, 4096, rank, {1});
  for (const auto& [rows, cols] :
       {std::pair<index_t, index_t>{1024, 1024}, {11008, 4096}, {4096, 11008}, {14336, 4096}}) {
    register_dense(rows, cols, {1, 16, 128});
    register_products(rows, cols, 64, {1, 16, 128});
  }
  for (const index_t rank : {64, 0}) {
    for (const precision mode : all_precisions) {
      const problem p{4096, 4096, rank, 1};
      add_row(
          sentence("matmul_fused_memory/", to_string(mode), "/Rows:4096/Cols:4096/Rank:", rank, "/Tokens:1"),
          101, [=](benchmark::State& state) { time_fused(state, p, mode, true); });
    }
  }
}

} // namespace

int main(int argc, char** argv) {
  register_rows();
  return run_program(argc, argv);
}
