// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <story/linear.hpp>

#include <qlr/matmul.hpp> // the only file with its kernels, which take long to compile

namespace {

using qlr::index_t;

void multiply_dense(qlr::matrix_view<const float> weight, qlr::matrix_view<const float> x,
                    qlr::matrix_view<float> y, const qlr::executor& run) {
  constexpr index_t rows_per_task = 32;
  qlr::for_each_range(run, weight.rows(), rows_per_task, [&](index_t begin, index_t end) {
    for (index_t t = 0; t < x.rows(); ++t) {
      for (index_t i = begin; i < end; ++i) y(t, i) = dot(weight.row(i), x.row(t), x.cols());
    }
  });
}

} // namespace

float dot(const float* a, const float* b, index_t count) {
  constexpr index_t lanes = 16; // independent sums, so that the loop becomes vector instructions
  float sums[lanes] = {};
  index_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (index_t j = 0; j < lanes; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (index_t j = 0; i < count; ++i, ++j) sums[j] += a[i] * b[i];
  for (index_t half = lanes / 2; half > 0; half /= 2) {
    for (index_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  }
  return sums[0];
}

void multiplier::reserve(const linear& weight, index_t tokens) {
  if (const auto* packed = std::get_if<qlr::packed_weights>(&weight)) {
    workspace_.reserve(*packed, tokens, mode_);
  }
}

qlr::executor multiplier::threads_for(index_t multiplications) const {
  constexpr index_t worth_waking_threads = 1 << 20; // about 50 microseconds of one thread
  return multiplications >= worth_waking_threads ? run_ : qlr::executor();
}

void multiplier::operator()(const linear& weight, qlr::matrix_view<const float> x,
                            qlr::matrix_view<float> y) {
  const qlr::executor run = threads_for(x.size() * y.cols());
  if (const auto* packed = std::get_if<qlr::packed_weights>(&weight)) {
    qlr::matmul<float>(*packed, x, y, {.mode = mode_}, workspace_, run);
  } else {
    multiply_dense(std::get<qlr::matrix_view<const float>>(weight), x, y, run);
  }
}
