// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Decomposes a layer, packs it for the GPU, multiplies activations with it and compares with the dense
// product: what an inference engine does with a compressed layer.
#include <qlr/cuda/matmul.cuh>
#include <qlr/qlr.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <vector>

namespace {

constexpr qlr::index_t rows = 512; // m
constexpr qlr::index_t cols = 768; // n
constexpr qlr::index_t tokens = 5; // t

qlr::matrix<float> random_matrix(qlr::index_t m, qlr::index_t n, std::uint64_t seed) {
  qlr::matrix<float> x(m, n);
  for (qlr::index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(qlr::normal_at(seed, i));
  return x;
}

/// The largest difference from X (Q + L R)^T, over its largest element.
double largest_error(const qlr::matrix<float>& x, const qlr::decomposition& parts,
                     const std::vector<float>& y) {
  const qlr::matrix<float> dense = qlr::reconstruct(parts);
  double worst = 0;
  double largest = 0;
  for (qlr::index_t t = 0; t < tokens; ++t) {
    for (qlr::index_t i = 0; i < rows; ++i) {
      double sum = 0;
      for (qlr::index_t j = 0; j < cols; ++j)
        sum += static_cast<double>(x(t, j)) * static_cast<double>(dense(i, j));
      const double found = static_cast<double>(y[static_cast<std::size_t>(t * rows + i)]);
      worst = std::isfinite(found) ? std::max(worst, std::fabs(found - sum)) : 1e30;
      largest = std::max(largest, std::fabs(sum));
    }
  }
  return worst / largest;
}

int run() {
  const qlr::matrix<float> weight = random_matrix(rows, cols, 1);
  qlr::decompose_options options;
  options.rank = 16;
  options.steps = qlr::find_preset("loftq").steps;
  const qlr::matrix_view<const float> w = weight.view();
  const qlr::decompose_result result = qlr::decompose(w, qlr::make_quantizer("nf4"), options);

  // Once per layer: packed in the order of the kernels, for activations in fp16.
  const auto packed = qlr::cuda::prepack<qlr::float16>(result.best);

  // Once per stream: scratch memory for the largest number of tokens. Calls neither allocate nor wait.
  using product = qlr::cuda::gpu_matmul<4>; // kernels for 4-bit codes alone: they take long to compile
  qlr::cuda::matmul_workspace workspace(product::workspace_bytes(packed, tokens));

  const qlr::matrix<float> x = random_matrix(tokens, cols, 2);
  std::vector<qlr::float16> halves;
  for (qlr::index_t i = 0; i < x.size(); ++i) halves.push_back(qlr::to_float16(x.data()[i]));
  const auto on_device = qlr::cuda::to_device(std::span<const qlr::float16>(halves));
  qlr::cuda::device_buffer<float> y(tokens * rows);
  product::run<qlr::float16, float>(packed, {on_device.data(), tokens, cols}, {y.data(), tokens, rows}, {},
                                    workspace);

  std::vector<float> found(static_cast<std::size_t>(y.size()));
  qlr::cuda::copy_to_host(y.data(), std::span<float>(found), nullptr);
  const double error = largest_error(x, result.best, found);
  std::printf("%lld bytes on the device, %.2f per weight; largest error %.1e of the largest output\n",
              static_cast<long long>(packed.size_bytes()),
              static_cast<double>(packed.size_bytes()) / static_cast<double>(rows * cols), error);
  return error < 5e-3 ? 0 : 1;
}

} // namespace

int main() {
  try {
    if (qlr::cuda::num_devices() == 0) {
      std::printf("SKIPPED: no GPU\n");
      return 77;
    }
    return run();
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "fused_matmul: %s\n", failure.what());
    return 2;
  }
}
