// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/quant/quantized_matrix.hpp>
#include <qlr/quant/scale_fit.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace qlr {

/// Rows handled by one task: about 64 K elements, so that a task outlives its start-up and its data stays in
/// cache.
[[nodiscard]] constexpr index_t rows_per_task(index_t cols) {
  return std::max<index_t>(1, (index_t{1} << 16) / (cols + 1));
}

/// Decodes rows of a quantized matrix; holds the scratch memory that this takes.
class row_decoder {
public:
  /// @param q  must outlive the decoder
  explicit row_decoder(const quantized_matrix_view& q) : q_(q) {
    if (has_pairs()) {
      // One look-up per byte instead of two per element.
      const bool is_lsb_first = q.layout.order == code_order::lsb_first;
      pairs_.resize(256);
      for (std::size_t byte = 0; byte < 256; ++byte) {
        const float low = q.levels[byte & 15U];
        const float high = q.levels[byte >> 4U];
        pairs_[byte] = is_lsb_first ? pair{low, high} : pair{high, low};
      }
    } else {
      codes_.resize(static_cast<std::size_t>(q.cols()));
    }
  }

  /// Decodes row `row` into out[0 ... cols).
  void operator()(index_t row, float* out) {
    const quantized_layout& layout = q_.layout;
    look_up(q_.codes + row * layout.row_bytes(), out);
    const index_t group = layout.group_cols();
    for (index_t g = 0, first = 0; first < layout.cols; ++g, first += group) {
      const block_scale scale = q_.block(layout.scale_index(row, g));
      const index_t last = std::min(first + group, layout.cols);
      for (index_t j = first; j < last; ++j) out[j] = decode_value(out[j], scale);
    }
  }

private:
  struct pair {
    float first;
    float second;
  };

  [[nodiscard]] bool has_pairs() const {
    return q_.layout.bits == 4 && q_.layout.order != code_order::split_half;
  }

  /// The levels of one row, before scaling.
  void look_up(const std::uint8_t* bytes, float* out) {
    const index_t cols = q_.cols();
    if (has_pairs()) {
      const pair* QLR_RESTRICT pairs = pairs_.data();
      for (index_t byte = 0; byte < cols / 2; ++byte)
        std::memcpy(out + 2 * byte, pairs + bytes[byte], sizeof(pair));
      if (cols % 2 != 0) out[cols - 1] = pairs[bytes[cols / 2]].first;
      return;
    }
    unpack_codes(q_.layout.order, bytes, cols, q_.layout.bits, codes_.data());
    const float* QLR_RESTRICT levels = q_.levels;
    for (index_t j = 0; j < cols; ++j) out[j] = levels[codes_[static_cast<std::size_t>(j)]];
  }

  quantized_matrix_view q_;
  std::vector<pair> pairs_;
  std::vector<code_t> codes_;
};

/// Calls body(row, values) for every row, several rows at a time on the executor's threads.
template <class Body>
void for_each_decoded_row(const quantized_matrix_view& q, const executor& run, Body&& body) {
  for_each_range(run, q.rows(), rows_per_task(q.cols()), [&](index_t begin, index_t end) {
    row_decoder decode(q);
    std::vector<float> values(static_cast<std::size_t>(q.cols()));
    for (index_t row = begin; row < end; ++row) {
      decode(row, values.data());
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
