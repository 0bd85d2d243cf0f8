// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/host/quantize_adapter.hpp>

#include <support/small_svd.hpp>

#include <cmath>

// Takes long to compile, so adapter.cpp does it once for all test programs.
extern template class qlr::host::detail::adapter_quantizer<float>;

namespace qlr::test {

/// L R in double by the definition: (m,n).
[[nodiscard]] inline matrix<double> slow_product(const matrix<float>& left, const matrix<float>& right) {
  matrix<double> product(left.rows(), right.cols(), 0.0);
  for (index_t i = 0; i < left.rows(); ++i) {
    for (index_t k = 0; k < right.rows(); ++k) {
      for (index_t j = 0; j < right.cols(); ++j)
        product(i, j) += static_cast<double>(left(i, k)) * static_cast<double>(right(k, j));
    }
  }
  return product;
}

/// ||a - b||_F / ||a||_F; 0 when both are zero.
[[nodiscard]] inline double slow_error(const matrix<double>& a, const matrix<double>& b) {
  double error = 0;
  double norm = 0;
  for (index_t i = 0; i < a.size(); ++i) {
    error += (a.data()[i] - b.data()[i]) * (a.data()[i] - b.data()[i]);
    norm += a.data()[i] * a.data()[i];
  }
  return error > 0 ? std::sqrt(error / norm) : 0.0;
}

/// Of L R and a quantized adapter, with m n elements.
[[nodiscard]] inline double slow_error(const matrix<float>& left, const matrix<float>& right,
                                       const quantized_adapter& adapter) {
  return slow_error(slow_product(left, right),
                    slow_product(dequantize_left(adapter), dequantize_right(adapter)));
}

} // namespace qlr::test
