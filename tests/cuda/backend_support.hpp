// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cuda/launcher.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/cuda/backend.hpp>

#include <cmath>
#include <limits>

namespace qlr::test {

using cuda_backend = cuda::basic_cuda_backend<test_launcher>;

/// A device matrix of NaN.
inline cuda::device_matrix<float> spoilt(index_t rows, index_t cols) {
  return cuda::to_device(matrix<float>(rows, cols, std::numeric_limits<float>::quiet_NaN()).view());
}

/// Largest absolute difference of elements; infinite for different shapes or NaN.
inline double largest_difference(const matrix<float>& a, const matrix<float>& b) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  if (a.rows() != b.rows() || a.cols() != b.cols()) return infinite;
  double worst = 0;
  for (index_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
    if (!(difference <= worst)) worst = std::isnan(difference) ? infinite : difference;
  }
  return worst;
}

} // namespace qlr::test
