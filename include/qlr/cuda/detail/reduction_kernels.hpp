// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>
#include <qlr/cuda/detail/block_reduction.hpp>
#include <qlr/cuda/detail/kernel_thread.hpp>
#include <qlr/cuda/detail/report.hpp>
#include <qlr/cuda/device_buffer.hpp>

#include <cmath>
#include <string_view>
#include <type_traits>

namespace qlr::cuda::detail {

/// The sum over a warp, in every lane; its order is fixed.
template <kernel_thread Thread>
QLR_DEVICE double sum_of_warp(Thread& thread, double value) {
  for (int mask = warp_size / 2; mask > 0; mask /= 2) value += thread.shuffle_xor(value, mask);
  return value;
}

/// Euclidean lengths of the rows of x; a warp per row.
///
/// Floats get 1 for a length below the smallest normal number, which nothing may be divided by.
template <class T>
struct row_lengths_kernel {
  static constexpr std::string_view name = "row_lengths_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 1;

  device_view<const T> x;
  T* lengths; // (rows)

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const index_t row = thread.block() * (thread.num_threads() / warp_size) + thread.index() / warp_size;
    double sum = 0;
    if (row < x.rows()) {
      for (index_t j = thread.index() % warp_size; j < x.cols(); j += warp_size) {
        const double value = static_cast<double>(x(row, j));
        sum += value * value;
      }
    }
    const double length = std::sqrt(sum_of_warp(thread, sum));
    if (row >= x.rows() || thread.index() % warp_size != 0) return;
    if constexpr (std::is_same_v<T, double>) {
      lengths[row] = length;
    } else {
      lengths[row] = length >= static_cast<double>(smallest_normal_float) ? static_cast<float>(length) : 1.0F;
    }
  }
};

/// partials[block] = sum of a[i] b[i] over the block's piece.
struct dot_kernel {
  static constexpr std::string_view name = "dot_kernel";
  static constexpr int most_threads = 256;
  static constexpr int least_blocks = 1;
  static constexpr index_t piece = 16384; // elements of a block: does not depend on the device

  const float* a;
  const float* b;
  index_t count;
  double* partials;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const index_t first = thread.block() * piece;
    const index_t last = first + piece < count ? first + piece : count;
    double sum = 0;
    for (index_t i = first + thread.index(); i < last; i += thread.num_threads())
      sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    sum = sum_block(thread, sum, thread.template shared<double>(0));
    if (thread.index() == 0) partials[thread.block()] = sum;
  }
};

/// *out = sum of the partials; one block.
struct sum_kernel {
  static constexpr std::string_view name = "sum_kernel";
  static constexpr int most_threads = 256;
  static constexpr int least_blocks = 1;

  const double* partials;
  index_t count;
  double* out;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    double sum = 0;
    for (index_t i = thread.index(); i < count; i += thread.num_threads()) sum += partials[i];
    sum = sum_block(thread, sum, thread.template shared<double>(0));
    if (thread.index() == 0) *out = sum;
  }
};

/// Judges rows that were divided by the Cholesky factor T of their Gram matrix, see row_basis.hpp; one block.
struct judge_basis_kernel {
  static constexpr std::string_view name = "judge_basis_kernel";
  static constexpr int most_threads = 256;
  static constexpr int least_blocks = 1;

  device_view<const double> lower;   // T (q,q), what is above its diagonal is not read
  device_view<const double> inverse; // T^-1 (q,q)
  report* reported;                  // factor_info is there

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const index_t q = lower.rows();
    double squares = 0;
    double inverse_squares = 0;
    for (index_t e = thread.index(); e < q * q; e += thread.num_threads()) {
      const index_t i = e / q;
      const index_t j = e % q;
      if (j > i) continue;
      squares += lower(i, j) * lower(i, j);
      inverse_squares += inverse(i, j) * inverse(i, j);
    }
    squares = sum_block(thread, squares, thread.template shared<double>(0));
    inverse_squares = sum_block(thread, inverse_squares, thread.template shared<double>(0));
    if (thread.index() != 0) return;
    // Frobenius norms bound the condition number to within a factor of q.
    const double condition = std::sqrt(squares) * std::sqrt(inverse_squares) / static_cast<double>(q);
    constexpr double dependent = 1e6; // beyond, floats have no correct digit in the smallest direction
    constexpr double harmless = 1e3;  // its square costs less than the rounding of floats
    const bool is_independent = reported->factor_info == 0 && condition < dependent;
    reported->is_independent = is_independent ? 1 : 0;
    reported->is_basis = is_independent && condition < harmless ? 1 : 0;
    reported->smallest = is_independent ? 1.0 / std::sqrt(inverse_squares) : 0.0;
  }
};

/// largest[j] = the largest magnitude in column j; a thread per column.
template <class T>
struct column_magnitudes_kernel {
  static constexpr std::string_view name = "column_magnitudes_kernel";
  static constexpr int most_threads = 64;
  static constexpr int least_blocks = 1;

  device_view<const T> x;
  float* largest;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const index_t j = thread.block() * thread.num_threads() + thread.index();
    if (j >= x.cols()) return;
    float most = 0;
    for (index_t i = 0; i < x.rows(); ++i) {
      const float magnitude = std::fabs(static_cast<float>(x(i, j)));
      most = magnitude > most ? magnitude : most;
    }
    largest[j] = most;
  }
};

} // namespace qlr::cuda::detail
