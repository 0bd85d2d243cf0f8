// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/decompose/result.hpp>

#include <concepts>
#include <utility>
#include <vector>

namespace qlr::train::detail {

/// A copy in another type, rounded to nearest; any strides.
template <std::floating_point To, std::floating_point From>
[[nodiscard]] matrix<To> convert(matrix_view<const From> from) {
  matrix<To> out(from.rows(), from.cols());
  for (index_t i = 0; i < from.rows(); ++i) {
    for (index_t j = 0; j < from.cols(); ++j) out(i, j) = static_cast<To>(from(i, j));
  }
  return out;
}

/// Q + s L R to be saved, packed or merged.
///
/// @throws qlr::error non_finite: an entry of a factor;  unsupported: one beyond the range of fp16
template <std::floating_point T>
[[nodiscard]] decomposition make_decomposition(quantized_matrix q, const matrix<T>& left,
                                               const matrix<T>& right, float scale, factor_storage storage,
                                               std::vector<float> input_scales = {}) {
  require_finite(left.view(), "left");
  require_finite(right.view(), "right");
  matrix<float> columns = convert<float>(left.view().transposed()); // (r,m)
  round_factor(columns, storage);
  matrix<float> rows = convert<float>(right.view());
  round_factor(rows, storage);
  return {std::move(q),    convert<float>(std::as_const(columns).view().transposed()),
          std::move(rows), storage,
          scale,           std::move(input_scales)};
}

} // namespace qlr::train::detail
