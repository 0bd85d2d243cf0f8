// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/block_reduction.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/quant/range_rules.hpp>
#include <qlr/quant/scale_fit.hpp>
#include <qlr/quant/scale_rules.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

namespace qlr::cuda::detail {

/// A block of elements that shares one scale, reduced by all threads of a thread block together: what scale
/// rules and the scale search take in place of a matrix_view.
///
/// Every function below is called by all threads and returns the same to all. Extremes are those of
/// block_statistics.hpp, bit for bit; sums are in double and differ from the CPU's in their last bits.
template <kernel_thread Thread>
class cooperative_block {
public:
  static constexpr index_t shared_bytes = reduction_bytes;

  /// @param scratch  shared_bytes bytes of shared memory
  QLR_DEVICE cooperative_block(Thread& thread, device_view<const float> values, unsigned char* scratch)
      : thread_(thread), values_(values), scratch_(scratch) {}

  [[nodiscard]] QLR_DEVICE index_t size() const { return values_.size(); }
  [[nodiscard]] QLR_DEVICE bool is_empty() const { return values_.is_empty(); }
  QLR_DEVICE float operator()(index_t row, index_t col) const { return values_(row, col); }

  /// Calls body(x, row, col) for this thread's share.
  template <class Body>
  QLR_DEVICE void for_each(Body&& body) const {
    for (index_t i = 0; i < values_.rows(); ++i) {
      for (index_t j = thread_.index(); j < values_.cols(); j += thread_.num_threads())
        body(values_(i, j), i, j);
    }
  }

  template <class T, class Combine>
  [[nodiscard]] QLR_DEVICE T reduce(T value, Combine&& combine) const {
    return reduce_block(thread_, value, reinterpret_cast<T*>(scratch_), combine);
  }
  [[nodiscard]] QLR_DEVICE double sum(double value) const {
    return sum_block(thread_, value, reinterpret_cast<double*>(scratch_));
  }

private:
  Thread& thread_;
  device_view<const float> values_;
  unsigned char* scratch_;
};

template <kernel_thread Thread>
[[nodiscard]] QLR_DEVICE float largest_magnitude(const cooperative_block<Thread>& block) {
  float largest = 0;
  block.for_each([&](float x, index_t, index_t) { largest = std::max(largest, x < 0 ? -x : x); });
  return block.reduce(largest, [](float a, float b) { return std::max(a, b); });
}

/// As block_statistics.hpp orders them: -0 below 0.
template <kernel_thread Thread>
[[nodiscard]] QLR_DEVICE std::pair<float, float> smallest_and_largest(
    const cooperative_block<Thread>& block) {
  const auto ordered = [](std::int32_t word) { return word ^ ((word >> 31) & 0x7FFFFFFF); };
  std::int32_t smallest = std::numeric_limits<std::int32_t>::max();
  std::int32_t largest = std::numeric_limits<std::int32_t>::min();
  block.for_each([&](float x, index_t, index_t) {
    const std::int32_t word = ordered(std::bit_cast<std::int32_t>(x));
    smallest = std::min(smallest, word);
    largest = std::max(largest, word);
  });
  smallest = block.reduce(smallest, [](std::int32_t a, std::int32_t b) { return std::min(a, b); });
  largest = block.reduce(largest, [](std::int32_t a, std::int32_t b) { return std::max(a, b); });
  return {std::bit_cast<float>(ordered(smallest)), std::bit_cast<float>(ordered(largest))};
}

template <kernel_thread Thread>
[[nodiscard]] QLR_DEVICE float largest_signed(const cooperative_block<Thread>& block) {
  const float magnitude = largest_magnitude(block);
  constexpr index_t none = std::numeric_limits<index_t>::max();
  index_t first_row = none;
  index_t first_col = none;
  block.for_each([&](float x, index_t row, index_t col) {
    if (first_row == none && (x == magnitude || x == -magnitude)) {
      first_row = row;
      first_col = col;
    }
  });
  const auto smaller = [](index_t a, index_t b) { return std::min(a, b); };
  const index_t row = block.reduce(first_row, smaller);
  const index_t col = block.reduce(first_row == row ? first_col : none, smaller);
  return row == none ? 0.0F : block(row, col);
}

template <kernel_thread Thread>
[[nodiscard]] QLR_DEVICE double mean_magnitude(const cooperative_block<Thread>& block) {
  double sum = 0;
  block.for_each([&](float x, index_t, index_t) { sum += static_cast<double>(x < 0 ? -x : x); });
  sum = block.sum(sum);
  return block.is_empty() ? 0.0 : sum / static_cast<double>(block.size());
}

template <grid_policy Grid, kernel_thread Thread>
[[nodiscard]] QLR_DEVICE squares_fit fit_squares(const cooperative_block<Thread>& block, const Grid& grid,
                                                 const scale_normaliser& normalise) {
  squares_fit fit;
  block.for_each([&](float x, index_t, index_t) { fit.add(x, grid.decode(grid.encode(normalise(x)))); });
  return {block.sum(fit.cross), block.sum(fit.energy)};
}

template <grid_policy Grid, kernel_thread Thread>
[[nodiscard]] QLR_DEVICE scale_fit fit_scale(const Grid& grid, const cooperative_block<Thread>& block,
                                             const float* weights, block_scale scale, float unit) {
  const scale_normaliser normalise(scale.scale);
  scale_fit fit;
  block.for_each([&](float x, index_t, index_t col) {
    const float weight = weights != nullptr ? weights[col] : 1.0F;
    const scale_fit_terms terms = terms_of(grid, normalise, scale, unit, weight, x);
    fit.error += static_cast<double>(terms.error);
    fit.cross += static_cast<double>(terms.cross);
    fit.energy += static_cast<double>(terms.energy);
  });
  return {block.sum(fit.error), block.sum(fit.cross), block.sum(fit.energy)};
}

template <kernel_thread Thread>
[[nodiscard]] QLR_DEVICE ::qlr::detail::integer_fit fit_integers(const cooperative_block<Thread>& block,
                                                                 float scale, float zero, float top,
                                                                 float unit) {
  const ::qlr::detail::integer_rounder round(scale, zero, top, unit);
  ::qlr::detail::integer_fit fit;
  block.for_each([&](float x, index_t, index_t) {
    const auto [cross, energy] = round(x);
    fit.cross += static_cast<double>(cross);
    fit.energy += static_cast<double>(energy);
  });
  return {block.sum(fit.cross), block.sum(fit.energy)};
}

} // namespace qlr::cuda::detail
