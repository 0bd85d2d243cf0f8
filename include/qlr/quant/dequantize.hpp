// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/quant/quantized_matrix.hpp>
#include <qlr/quant/scale_fit.hpp>

#include <algorithm>
#include <vector>

namespace qlr {

/// Rows handled by one task: about 64 K elements, so that a task outlives its start-up and its data stays in
/// cache.
[[nodiscard]] constexpr index_t rows_per_task(index_t cols) {
  return std::max<index_t>(1, (index_t{1} << 16) / (cols + 1));
}

/// Decodes row `row` into out[0 ... cols).
///
/// @param codes  scratch for cols codes
inline void decode_row(const quantized_matrix_view& q, index_t row, code_t* codes, float* out) {
  const quantized_layout& layout = q.layout;
  unpack_codes(layout.order, q.codes + row * layout.row_bytes(), layout.cols, layout.bits, codes);
  const index_t group = layout.group_cols();
  for (index_t g = 0, first = 0; first < layout.cols; ++g, first += group) {
    const block_scale scale = q.block(layout.scale_index(row, g));
    const index_t last = std::min(first + group, layout.cols);
    const float* QLR_RESTRICT levels = q.levels;
    for (index_t j = first; j < last; ++j) out[j] = decode_value(levels[codes[j]], scale);
  }
}

/// Calls body(row, values) for every row, several rows at a time on the executor's threads.
template <class Body>
void for_each_decoded_row(const quantized_matrix_view& q, const executor& run, Body&& body) {
  for_each_range(run, q.rows(), rows_per_task(q.cols()), [&](index_t begin, index_t end) {
    std::vector<code_t> codes(static_cast<std::size_t>(q.cols()));
    std::vector<float> values(static_cast<std::size_t>(q.cols()));
    for (index_t row = begin; row < end; ++row) {
      decode_row(q, row, codes.data(), values.data());
      body(row, values.data());
    }
  });
}

/// Writes the dequantized matrix to `out` (rows, cols), any strides.
///
/// @throws qlr::error shape_mismatch: out has another shape
/// @determinism the same bits on any number of threads
inline void dequantize(const quantized_matrix_view& q, matrix_view<float> out, const executor& run = {}) {
  require(out.rows() == q.rows() && out.cols() == q.cols(), status_code::shape_mismatch,
          "dequantize: out is ", out.rows(), " x ", out.cols(), ", the matrix is ", q.rows(), " x ",
          q.cols());
  for_each_decoded_row(q, run, [&](index_t row, const float* values) {
    for (index_t j = 0; j < q.cols(); ++j) out(row, j) = values[j];
  });
}

/// The dequantized matrix, row-major.
[[nodiscard]] inline matrix<float> dequantize(const quantized_matrix& q, const executor& run = {}) {
  matrix<float> out(q.rows(), q.cols());
  dequantize(q.view(), out.view(), run);
  return out;
}

} // namespace qlr
