// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/core/random.hpp>

#include <cmath>
#include <cstdint>
#include <string_view>

namespace qlr::bench {

/// Which matrix a benchmark decomposes.
enum class matrix_kind {
  gaussian,   ///< independent normal elements: a flat spectrum, the worst case of a randomized SVD
  weight_like ///< rows of different size, heavy tails and a planted low-rank part, as in language models
};

inline constexpr matrix_kind all_matrix_kinds[] = {matrix_kind::gaussian, matrix_kind::weight_like};

/// The name a benchmark's row carries.
[[nodiscard]] constexpr std::string_view to_string(matrix_kind kind) {
  return kind == matrix_kind::gaussian ? "gaussian" : "weight_like";
}

/// Independent normal elements, the same on any number of threads.
[[nodiscard]] inline matrix<float> make_gaussian(index_t rows, index_t cols, std::uint64_t seed,
                                                 const executor& run = {}) {
  matrix<float> values(rows, cols);
  for_each_range(run, rows, 16, [&](index_t begin, index_t end) {
    for (index_t i = begin * cols; i < end * cols; ++i) {
      values.data()[i] = static_cast<float>(normal_at(seed, i));
    }
  });
  return values;
}

/// W_ij = s_i (z_ij h_ij + sum over k < 32 of c_k u_ik v_kj): s log-normal, h = 1 / sqrt(uniform), c_k = 0.5
/// / sqrt(1 + k), everything else normal.
[[nodiscard]] inline matrix<float> make_weight_like(index_t rows, index_t cols, std::uint64_t seed,
                                                    const executor& run = {}) {
  constexpr index_t planted_rank = 32;
  const matrix<float> left = make_gaussian(rows, planted_rank, seed + 1);
  const matrix<float> right = make_gaussian(planted_rank, cols, seed + 2);
  matrix<float> values = make_gaussian(rows, cols, seed, run);
  for_each_range(run, rows, 16, [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) {
      float* row = values.view().row(i);
      for (index_t j = 0; j < cols; ++j) {
        const auto counter = static_cast<std::uint64_t>(i * cols + j);
        const double uniform = to_unit_interval(philox(seed + 3, counter)[0]);
        row[j] /= static_cast<float>(std::sqrt(0.2 + 1.6 * uniform));
      }
      for (index_t k = 0; k < planted_rank; ++k) {
        const float factor = 0.5F / std::sqrt(static_cast<float>(1 + k)) * left(i, k);
        for (index_t j = 0; j < cols; ++j) row[j] += factor * right(k, j);
      }
      const auto scale = static_cast<float>(0.02 * std::exp(0.5 * normal_at(seed + 4, i)));
      for (index_t j = 0; j < cols; ++j) row[j] *= scale;
    }
  });
  return values;
}

/// A matrix of the given kind.
[[nodiscard]] inline matrix<float> make_matrix(matrix_kind kind, index_t rows, index_t cols,
                                               const executor& run = {}, std::uint64_t seed = 2026) {
  return kind == matrix_kind::gaussian ? make_gaussian(rows, cols, seed, run)
                                       : make_weight_like(rows, cols, seed, run);
}

} // namespace qlr::bench
