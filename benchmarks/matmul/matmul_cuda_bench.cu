// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Y = X (Q + L R)^T on the GPU with NF4 codes in groups of 64, beside cuBLAS on the dense matrix.
//
//   copy_bandwidth   a copy of 1 GiB within the device, bytes read and written
//   matmul_dense     cuBLAS, bf16 operands, fp32 sums
//   matmul_plain     ours without a low-rank part
//   matmul_unfused   ours without a low-rank part, then X R^T and its product with L by cuBLAS
//   matmul_fused     ours, rank 64; the label is the kernel that ran
//
// Times are of calls captured in a graph, by events, while operands take turns over more than twice the
// second-level cache. GB/s counts the bytes of packed codes, scales and factors, X and Y once (dense: 2 m n);
// TFLOP/s counts 2 t (m n + r (m + n)); of_copy is the share of copy_bandwidth, of_dense the speed over the
// dense product of the same shape in this run.

#include <harness/axes.hpp>
#include <harness/gpu.hpp>
#include <harness/matrices.hpp>
#include <harness/program.hpp>

#include <qlr/cuda/matmul.cuh>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/formats.hpp>

#include <benchmark/benchmark.h>

#include <cublas_v2.h>

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

namespace {

using namespace qlr;
using namespace qlr::bench;

enum class product { dense, plain, unfused, fused };

struct problem {
  index_t rows;
  index_t cols;
  index_t rank;
  index_t tokens;
};

/// cuBLAS on one stream, with memory of its own, as graphs need it.
class blas {
public:
  explicit blas(cudaStream_t stream) : workspace_(workspace_bytes, stream) {
    succeed(cublasCreate(&handle_));
    succeed(cublasSetStream(handle_, stream));
    succeed(cublasSetWorkspace(handle_, workspace_.data(), workspace_bytes));
  }
  blas(const blas&) = delete;
  blas& operator=(const blas&) = delete;
  ~blas() { (void)cublasDestroy(handle_); }

  /// out (t,m) = x (t,n) w^T + beta out for w (m,n), all row-major bf16; computed as out^T = w x^T.
  void multiply(const bfloat16* x, const bfloat16* w, bfloat16* out, index_t tokens, index_t rows,
                index_t cols, float beta) const {
    const float one = 1;
    succeed(cublasGemmEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(rows), static_cast<int>(tokens),
                         static_cast<int>(cols), &one, w, CUDA_R_16BF, static_cast<int>(cols), x, CUDA_R_16BF,
                         static_cast<int>(cols), &beta, out, CUDA_R_16BF, static_cast<int>(rows),
                         CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  }

private:
  static constexpr index_t workspace_bytes = index_t{64} << 20;
  static void succeed(cublasStatus_t status) {
    require(status == CUBLAS_STATUS_SUCCESS, status_code::device_failure,
            "cuBLAS: ", cublasGetStatusString(status));
  }
  cuda::device_buffer<std::uint8_t> workspace_;
  cublasHandle_t handle_ = nullptr;
};

std::vector<bfloat16> to_bf16(matrix_view<const float> x) {
  std::vector<bfloat16> out;
  out.reserve(static_cast<std::size_t>(x.size()));
  for (index_t i = 0; i < x.rows(); ++i) {
    for (index_t j = 0; j < x.cols(); ++j) out.push_back(to_bfloat16(x(i, j)));
  }
  return out;
}

/// One layer, on the host and in as many copies on the device as one call in a row needs.
struct layer {
  matrix<float> weight; ///< dense Q
  matrix<float> left;
  matrix<float> right;
  std::vector<cuda::packed_weights<bfloat16>> packed;
  std::vector<cuda::packed_weights<bfloat16>> plain;
  std::vector<cuda::device_buffer<bfloat16>> dense;
  cuda::device_buffer<bfloat16> left_half;  ///< (m,r)
  cuda::device_buffer<bfloat16> right_half; ///< (r,n)
};

/// Numbers that bf16 holds.
matrix<float> half_matrix(index_t rows, index_t cols, std::uint64_t seed, float scale, thread_pool& pool) {
  matrix<float> values = make_matrix(matrix_kind::gaussian, rows, cols, pool, seed);
  for (index_t i = 0; i < values.size(); ++i)
    values.data()[i] = to_float(to_bfloat16(scale * values.data()[i]));
  return values;
}

/// The latest layer is kept: rows of one shape follow each other.
layer& layer_of(const problem& p, thread_pool& pool) {
  static std::tuple<index_t, index_t, index_t> key;
  static std::unique_ptr<layer> latest;
  if (const auto wanted = std::tuple{p.rows, p.cols, p.rank}; latest && key == wanted) return *latest;
  latest.reset();
  latest = std::make_unique<layer>();
  const matrix<float> weight = make_matrix(matrix_kind::gaussian, p.rows, p.cols, pool);
  const quantized_matrix q = quantize(weight.view(), make_quantizer("nf4"), pool);
  latest->weight = dequantize(q, pool);
  latest->left = half_matrix(p.rows, p.rank, 2, 0.1F, pool);
  latest->right = half_matrix(p.rank, p.cols, 3, 0.1F, pool);
  const matrix_view<const float> left = latest->left.view();
  const matrix_view<const float> right = latest->right.view();
  const matrix_view<const float> no_left{nullptr, p.rows, 0};
  const matrix_view<const float> no_right{nullptr, 0, p.cols};
  const cuda::packed_image<bfloat16> image(q.view());
  for (int i = num_rotated_copies(p.rows * p.cols / 2); i > 0; --i) {
    latest->packed.emplace_back(image, left, right, 1.0F);
    latest->plain.emplace_back(image, no_left, no_right, 1.0F);
  }
  const std::vector<bfloat16> dense = to_bf16(latest->weight.view());
  for (int i = num_rotated_copies(2 * p.rows * p.cols); i > 0; --i)
    latest->dense.push_back(cuda::to_device(std::span<const bfloat16>(dense)));
  latest->left_half = cuda::to_device(std::span<const bfloat16>(to_bf16(left)));
  latest->right_half = cuda::to_device(std::span<const bfloat16>(to_bf16(right)));
  check(cudaDeviceSynchronize(), "set-up");
  key = std::tuple{p.rows, p.cols, p.rank};
  return *latest;
}

/// Compares some elements of the last token with a double sum; relative to the largest result.
std::string verify(const layer& l, bool has_low_rank, const matrix<float>& x,
                   const std::vector<bfloat16>& y) {
  double worst = 0;
  double largest = 0;
  const index_t last = x.rows() - 1;
  for (index_t i = 0; i < l.weight.rows(); i += 61) {
    double sum = 0;
    for (index_t j = 0; j < x.cols(); ++j)
      sum += static_cast<double>(l.weight(i, j)) * static_cast<double>(x(last, j));
    for (index_t k = 0; has_low_rank && k < l.right.rows(); ++k) {
      double inner = 0;
      for (index_t j = 0; j < x.cols(); ++j)
        inner += static_cast<double>(l.right(k, j)) * static_cast<double>(x(last, j));
      sum += static_cast<double>(l.left(i, k)) * inner;
    }
    const auto found = static_cast<double>(to_float(y[static_cast<std::size_t>(last * l.weight.rows() + i)]));
    worst =
        std::isnan(found) ? std::numeric_limits<double>::infinity() : std::max(worst, std::fabs(sum - found));
    largest = std::max(largest, std::fabs(sum));
  }
  // bf16 has 8 bits; Y itself is rounded to it.
  return worst <= 1e-2 * largest ? "" : sentence("the error is ", worst / largest, " of the largest result");
}

/// Median seconds of the dense product, by rows, cols and tokens.
std::map<std::tuple<index_t, index_t, index_t>, double>& dense_seconds() {
  static std::map<std::tuple<index_t, index_t, index_t>, double> seconds;
  return seconds;
}

void report_rates(benchmark::State& state, const problem& p, const samples& times, index_t weight_bytes,
                  const std::string& label) {
  if (times.is_empty()) return;
  const auto dense = dense_seconds().find({p.rows, p.cols, p.tokens});
  const double bytes = static_cast<double>(weight_bytes + 2 * p.tokens * (p.rows + p.cols));
  const double operations =
      2.0 * static_cast<double>(p.tokens * (p.rows * p.cols + p.rank * (p.rows + p.cols)));
  state.counters["GB/s"] = 1e-9 * bytes / times.median();
  state.counters["TFLOP/s"] = 1e-12 * operations / times.median();
  if (gpu_peaks().copy_bandwidth > 0)
    state.counters["of_copy"] = bytes / times.median() / gpu_peaks().copy_bandwidth;
  if (dense != dense_seconds().end()) state.counters["of_dense"] = dense->second / times.median();
  report(state, times, label);
}

void time_product(benchmark::State& state, product kind, problem p) {
  thread_pool pool;
  gpu_clock clock;
  layer& l = layer_of(p, pool);
  const bool has_low_rank = kind == product::unfused || kind == product::fused;
  const matrix<float> x = half_matrix(p.tokens, p.cols, 4, 1.0F, pool);
  const auto x_device = cuda::to_device(std::span<const bfloat16>(to_bf16(x.view())), clock.stream());
  const std::vector<bfloat16> unwritten(static_cast<std::size_t>(p.tokens * p.rows), bfloat16{0x7FC0});
  auto y_device = cuda::to_device(std::span<const bfloat16>(unwritten), clock.stream());
  cuda::device_buffer<bfloat16> projected(p.tokens * p.rank, clock.stream());
  const cuda::device_view<const bfloat16> x_view(x_device.data(), p.tokens, p.cols);
  const cuda::device_view<bfloat16> y_view(y_device.data(), p.tokens, p.rows);
  const blas dense(clock.stream());
  const auto& weights = kind == product::fused ? l.packed : l.plain;
  using gpu_product = cuda::gpu_matmul<4>;
  cuda::matmul_workspace workspace(gpu_product::workspace_bytes(weights[0], p.tokens), clock.stream());
  const auto body = [&](int turn, cudaStream_t stream) {
    const auto copy = static_cast<std::size_t>(turn);
    if (kind == product::dense) {
      dense.multiply(x_device.data(), l.dense[copy % l.dense.size()].data(), y_device.data(), p.tokens,
                     p.rows, p.cols, 0.0F);
      return;
    }
    gpu_product::run<bfloat16, bfloat16>(weights[copy % weights.size()], x_view, y_view, {}, workspace,
                                         stream);
    if (kind != product::unfused) return;
    dense.multiply(x_device.data(), l.right_half.data(), projected.data(), p.tokens, p.rank, p.cols, 0.0F);
    dense.multiply(projected.data(), l.left_half.data(), y_device.data(), p.tokens, p.rows, p.rank, 1.0F);
  };
  const auto check_result = [&] {
    body(0, clock.stream());
    std::vector<bfloat16> y(unwritten.size());
    cuda::copy_to_host(y_device.data(), std::span<bfloat16>(y), clock.stream());
    return verify(l, has_low_rank, x, y);
  };
  const std::size_t copies = kind == product::dense ? l.dense.size() : weights.size();
  const int calls = static_cast<int>(copies) * (p.tokens <= 64 ? 8 : 2);
  const samples times = verify_then_time_on_gpu(state, clock, check_result, calls, body);
  if (kind == product::dense && !times.is_empty())
    dense_seconds()[{p.rows, p.cols, p.tokens}] = times.median();
  if (!has_low_rank) p.rank = 0;
  const index_t bytes =
      kind == product::dense
          ? 2 * p.rows * p.cols
          : weights[0].size_bytes() + (kind == product::unfused ? 2 * p.rank * (p.rows + p.cols) : 0);
  const std::string label =
      kind == product::dense
          ? "cuBLAS bf16"
          : std::string(gpu_product::chosen_variant<bfloat16, bfloat16>(weights[0], x_view, y_view, {}));
  report_rates(state, p, times, bytes, label);
}

template <class Body>
void add_row(const std::string& name, int calls, Body&& body) {
  benchmark::RegisterBenchmark(name.c_str(), std::forward<Body>(body))
      ->UseManualTime()
      ->Iterations(calls)
      ->Unit(benchmark::kMicrosecond);
}

void register_rows() {
  add_row("copy_bandwidth", timed_calls, time_device_copy);
  constexpr std::pair<const char*, product> kinds[] = {{"dense", product::dense},
                                                       {"plain", product::plain},
                                                       {"unfused", product::unfused},
                                                       {"fused", product::fused}};
  for (const auto& [rows, cols] :
       {std::pair<index_t, index_t>{4096, 4096}, {8192, 8192}, {8192, 28672}, {28672, 8192}}) {
    for (const index_t tokens : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}) {
      for (const auto& [name, kind] : kinds) {
        const problem p{rows, cols, decompose_rank, tokens};
        add_row(sentence("matmul_", name, "/Rows:", rows, "/Cols:", cols, "/Rank:", decompose_rank,
                         "/Tokens:", tokens),
                timed_calls, [kind = kind, p](benchmark::State& state) { time_product(state, kind, p); });
      }
    }
  }
}

} // namespace

int main(int argc, char** argv) {
  register_rows();
  record_gpu();
  return run_program(argc, argv);
}
