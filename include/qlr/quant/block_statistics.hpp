// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

namespace qlr {

// Reductions over a block with contiguous rows. They compare the bit patterns of floats as integers, which
// compilers vectorise without being allowed to reorder floating-point operations. Inputs are finite.

/// Largest |x|; 0 for an empty block.
[[nodiscard]] QLR_HOST_DEVICE inline float largest_magnitude(matrix_view<const float> block) {
  std::int32_t largest = 0;
  for (index_t i = 0; i < block.rows(); ++i) {
    const float* x = block.row(i);
    for (index_t j = 0; j < block.cols(); ++j) {
      largest = std::max(largest, std::bit_cast<std::int32_t>(x[j]) & 0x7FFFFFFF);
    }
  }
  return std::bit_cast<float>(largest);
}

/// Smallest and largest element.
///
/// @pre the block is not empty
[[nodiscard]] QLR_HOST_DEVICE inline std::pair<float, float> smallest_and_largest(
    matrix_view<const float> block) {
  // Maps floats to integers in the same order: negative numbers have their magnitude bits inverted.
  // Self-inverse.
  const auto ordered = [](std::int32_t word) { return word ^ ((word >> 31) & 0x7FFFFFFF); };
  std::int32_t smallest = ordered(std::bit_cast<std::int32_t>(block(0, 0)));
  std::int32_t largest = smallest;
  for (index_t i = 0; i < block.rows(); ++i) {
    const float* x = block.row(i);
    for (index_t j = 0; j < block.cols(); ++j) {
      const std::int32_t word = ordered(std::bit_cast<std::int32_t>(x[j]));
      smallest = std::min(smallest, word);
      largest = std::max(largest, word);
    }
  }
  return {std::bit_cast<float>(ordered(smallest)), std::bit_cast<float>(ordered(largest))};
}

/// The element of largest magnitude with its sign, the first one of equals; 0 for an empty block.
[[nodiscard]] QLR_HOST_DEVICE inline float largest_signed(matrix_view<const float> block) {
  const float magnitude = largest_magnitude(block);
  for (index_t i = 0; i < block.rows(); ++i) {
    const float* x = block.row(i);
    for (index_t j = 0; j < block.cols(); ++j) {
      if (x[j] == magnitude || x[j] == -magnitude) return x[j];
    }
  }
  return 0.0F;
}

/// Mean of |x| in double precision; 0 for an empty block.
[[nodiscard]] QLR_HOST_DEVICE inline double mean_magnitude(matrix_view<const float> block) {
  constexpr index_t lanes = 8; // fixed partial sums, which may be vectorised without reordering
  double partial[lanes] = {};
  const auto magnitude = [](float x) { return static_cast<double>(x < 0 ? -x : x); };
  for (index_t i = 0; i < block.rows(); ++i) {
    const float* x = block.row(i);
    index_t j = 0;
    for (; j + lanes <= block.cols(); j += lanes) {
      QLR_DEVICE_UNROLL
      for (index_t lane = 0; lane < lanes; ++lane) partial[lane] += magnitude(x[j + lane]);
    }
    QLR_DEVICE_UNROLL
    for (index_t lane = 0; lane < lanes; ++lane) {
      if (j + lane < block.cols()) partial[lane] += magnitude(x[j + lane]);
    }
  }
  double sum = 0;
  for (const double value : partial) sum += value;
  return block.is_empty() ? 0.0 : sum / static_cast<double>(block.size());
}

} // namespace qlr
