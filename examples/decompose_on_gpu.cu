// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Splits a matrix in device memory into a quantized and a low-rank part on the GPU and compares with the CPU.
#include <qlr/cuda/decompose.cuh>
#include <qlr/cuda/device.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/qlr.hpp>

#include <cmath>
#include <cstdio>
#include <exception>

namespace {

int run() {
  constexpr qlr::index_t rows = 512;
  constexpr qlr::index_t cols = 768;
  qlr::matrix<float> weight(rows, cols);
  for (qlr::index_t i = 0; i < weight.size(); ++i)
    weight.data()[i] = static_cast<float>(qlr::normal_at(1, i));
  const auto on_device = qlr::cuda::to_device(weight.view());

  qlr::decompose_options options;
  options.rank = 16;
  options.steps = qlr::find_preset("loftq").steps;
  options.on_iteration = [](const qlr::iteration_report& iteration) {
    std::printf("iteration %d: relative error %.6f\n", iteration.iteration, iteration.relative_error);
  };
  const qlr::any_quantizer quantizer = qlr::make_quantizer("nf4");
  const qlr::decompose_result result = qlr::cuda::decompose(on_device.view(), quantizer, options);

  options.on_iteration = {};
  const qlr::matrix_view<const float> w = weight.view();
  const double expected = qlr::decompose(w, quantizer, options).relative_error;
  std::printf("GPU %.6f, CPU %.6f, %.1f ms on the GPU\n", result.relative_error, expected,
              1e3 * result.seconds_total);
  return std::fabs(result.relative_error - expected) <= 1e-3 * expected ? 0 : 1;
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
    std::fprintf(stderr, "decompose_on_gpu: %s\n", failure.what());
    return 2;
  }
}
