// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/matmul/detail/kernel_types.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace qlr::matmul_detail {

/// The arrays behind packed_activations, writable.
struct activation_buffers {
  index_t tokens = 0;
  float* exact = nullptr;
  std::int16_t* halves = nullptr;
  std::int8_t* bytes = nullptr;
  float* steps = nullptr;
  float* sums = nullptr;
  std::int32_t* integer_sums = nullptr;

  [[nodiscard]] packed_activations view() const {
    return {tokens, exact, halves, bytes, steps, sums, integer_sums};
  }
};

/// Rounds one block of one token to integers of magnitude `most`, in the order of the operands.
///
/// NaN and infinities become arbitrary integers; the step is then not finite, and so is every result.
template <class Integer>
void round_block(const float* x, const geometry& shape, index_t width, float most, index_t index,
                 const activation_buffers& out, Integer* target) {
  float largest = 0;
  for (index_t j = 0; j < width; ++j) {
    const float magnitude = std::fabs(x[j]);
    largest = magnitude > largest || magnitude != magnitude ? magnitude : largest;
  }
  const float step = largest / most;
  const bool is_usable = step >= smallest_normal_float && step <= std::numeric_limits<float>::max();
  const float inverse = is_usable ? 1.0F / step : 0.0F;
  constexpr index_t parts = 4 / static_cast<index_t>(sizeof(Integer));
  const index_t per_word = shape.codes_per_word();
  const index_t steps = per_word / parts;
  std::int32_t sum = 0;
  for (index_t word = 0; word < shape.block_cols; word += per_word) {
    for (index_t s = 0; s < steps; ++s) {
      for (index_t part = 0; part < parts; ++part) {
        const float value = x[word + part * steps + s] * inverse;
        const int rounded = value == value ? round_half_even(value) : 0;
        sum += rounded;
        *target++ = static_cast<Integer>(rounded);
      }
    }
  }
  out.integer_sums[index] = sum;
  out.steps[index] = step < smallest_normal_float ? 0.0F : step; // NaN and infinity stay
  out.sums[index] = static_cast<float>(sum) * out.steps[index];
}

/// Writes token `token` of X in the order of the kernels.
template <class T>
void pack_token(matrix_view<const T> x, const geometry& shape, index_t token, const activation_buffers& out) {
  const T* row = x.row(token);
  const index_t stride = x.col_stride();
  for (index_t block = 0; block < shape.num_blocks(); ++block) {
    const index_t index = block * out.tokens + token;
    const index_t width = shape.width(block);
    const T* from = row + shape.first_col(block) * stride;
    float* to = out.exact + index * shape.block_cols;
    if (stride == 1) {
      for (index_t j = 0; j < width; ++j) to[j] = to_float(from[j]);
    } else {
      for (index_t j = 0; j < width; ++j) to[j] = to_float(from[j * stride]);
    }
    std::fill(to + width, to + shape.block_cols, 0.0F);
    if (out.bytes != nullptr) {
      round_block(to, shape, width, 127.0F, index, out, out.bytes + index * shape.block_cols);
    } else if (out.halves != nullptr) {
      round_block(to, shape, width, 8191.0F, index, out, out.halves + index * shape.block_cols);
    } else {
      double sum = 0;
      for (index_t j = 0; j < width; ++j) sum += static_cast<double>(to[j]);
      out.sums[index] = static_cast<float>(sum);
    }
  }
}

} // namespace qlr::matmul_detail
