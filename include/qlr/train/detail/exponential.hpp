// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <concepts>

namespace qlr::train::detail {

/// Replaces every x by exp(-x); contiguous rows.
///
/// In blocks of a fixed size: Eigen's exponential of a packet and that of a single number differ in the last
/// bit, and which of them an element of a longer array gets depends on where the array lies.
template <std::floating_point T>
void exponentiate_negated(matrix_view<T> x) {
  constexpr index_t width = 16;
  for (index_t i = 0; i < x.rows(); ++i) {
    for (index_t j = 0; j < x.cols(); j += width) {
      const index_t count = std::min(width, x.cols() - j);
      Eigen::Array<T, width, 1> block = Eigen::Array<T, width, 1>::Zero();
      std::copy_n(x.row(i) + j, count, block.data());
      block = (-block).exp();
      std::copy_n(block.data(), count, x.row(i) + j);
    }
  }
}

} // namespace qlr::train::detail
