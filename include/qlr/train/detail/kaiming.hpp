// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/random.hpp>
#include <qlr/core/status.hpp>
#include <qlr/train/parameter.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace qlr::train::detail {

inline void check_rank(index_t rank, index_t rows, index_t cols) {
  require(rank >= 0 && rank <= std::min(rows, cols), status_code::invalid_argument, "rank is ", rank,
          ", allowed for ", rows, " x ", cols, " are 0 to ", std::min(rows, cols));
}

/// @returns the rank
/// @throws qlr::error invalid_argument: it is not 0 to min(m,n)
[[nodiscard]] inline index_t checked_rank(index_t rank, index_t rows, index_t cols) {
  check_rank(rank, rows, cols);
  return rank;
}

/// Fills R (r,n) uniformly within +- 1 / sqrt(n): Kaiming's rule with slope sqrt(5), as PEFT starts lora_A.
///
/// @see He et al., Delving deep into rectifiers, arXiv 1502.01852, equation 10
template <storage_scalar Storage>
void fill_kaiming(parameter<Storage>& right, std::uint64_t seed) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(std::max<index_t>(1, right.cols())));
  for (index_t k = 0; k < right.rows(); ++k) {
    for (index_t j = 0; j < right.cols(); ++j) {
      const std::uint32_t word = philox(seed, static_cast<std::uint64_t>(k * right.cols() + j))[0];
      right.set(k, j, static_cast<compute_t<Storage>>(bound * (2.0 * to_unit_interval(word) - 1.0)));
    }
  }
}

} // namespace qlr::train::detail
