// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/result.hpp>
#include <qlr/quant/dequantize.hpp>

namespace qlr {

/// The dense matrix Q diag(1 / input_scales) + s L R (m,n) that a decomposition stands for.
///
/// @complexity O(m n r)
/// @determinism the same bits on any number of threads
[[nodiscard]] inline matrix<float> reconstruct(const decomposition& parts, const executor& run = {}) {
  matrix<float> dense(parts.rows(), parts.cols());
  for_each_decoded_row(parts.quantized.view(), run, [&](index_t i, float* QLR_RESTRICT row) {
    for (std::size_t j = 0; j < parts.input_scales.size(); ++j) row[j] *= 1.0F / parts.input_scales[j];
    for (index_t k = 0; k < parts.rank(); ++k) {
      const float* QLR_RESTRICT right = parts.right.view().row(k);
      const float left = parts.scale * parts.left(i, k);
      for (index_t j = 0; j < parts.cols(); ++j) row[j] += left * right[j];
    }
    std::copy_n(row, parts.cols(), dense.view().row(i));
  });
  return dense;
}

} // namespace qlr
