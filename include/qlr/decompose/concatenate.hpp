// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/decompose/factor_storage.hpp>
#include <qlr/decompose/result.hpp>

#include <algorithm>
#include <optional>
#include <utility>

namespace qlr {

namespace detail {

/// Refuses L' (m,r') and R' (r',n) of an adapter that do not fit a decomposition, and NaN and infinity.
inline void check_adapter(const decomposition& base, matrix_view<const float> left,
                          matrix_view<const float> right, float scale) {
  require(left.rows() == base.rows() && right.cols() == base.cols() && left.cols() == right.rows(),
          status_code::shape_mismatch, "adapter L is ", left.rows(), " x ", left.cols(), " and R is ",
          right.rows(), " x ", right.cols(), ", Q is ", base.rows(), " x ", base.cols());
  require(is_finite(scale), status_code::non_finite, "adapter scale is ", scale, ", it must be finite");
  require_finite(left, "adapter L");
  require_finite(right, "adapter R");
}

/// Whether a factor's vectors (r,length) are what its storage decodes to.
[[nodiscard]] inline bool is_stored_exactly(const matrix<float>& vectors, factor_storage storage) {
  if (storage == factor_storage::fp16) {
    return std::all_of(vectors.data(), vectors.data() + vectors.size(),
                       [](float x) { return to_float(to_float16(x)) == x; });
  }
  matrix<float> stored = vectors;
  round_factor(stored, storage);
  return std::equal(vectors.data(), vectors.data() + vectors.size(), stored.data());
}

/// The base's storage, fp16 or fp32: the first that changes no entry.
[[nodiscard]] inline factor_storage find_exact_storage(factor_storage preferred, const matrix<float>& left,
                                                       const matrix<float>& right) {
  for (const factor_storage storage : {preferred, factor_storage::fp16}) {
    if (is_stored_exactly(left, storage) && is_stored_exactly(right, storage)) return storage;
  }
  return factor_storage::fp32;
}

/// (from / to) L' transposed, of its first `rank` columns.
[[nodiscard]] inline matrix<float> rescale_left(matrix_view<const float> left, index_t rank, float from,
                                                float to) {
  matrix<float> scaled(rank, left.rows());
  const double ratio = rank == 0 ? 1.0 : static_cast<double>(from) / static_cast<double>(to);
  for (index_t k = 0; k < rank; ++k) {
    for (index_t i = 0; i < left.rows(); ++i) {
      scaled(k, i) = static_cast<float>(ratio * static_cast<double>(left(i, k)));
      require(is_finite(scaled(k, i)), status_code::non_finite, "adapter L(", i, ", ", k, ") is ", left(i, k),
              ", times the adapter's scale ", from, " over the base's ", to, " it must be finite in float");
    }
  }
  return scaled;
}

/// Rows of `below` after those of `above`, each a vector of a factor.
[[nodiscard]] inline matrix<float> stack(matrix_view<const float> above, matrix_view<const float> below,
                                         index_t length) {
  matrix<float> all(above.rows() + below.rows(), length);
  for (index_t i = 0; i < all.rows(); ++i) {
    const bool is_above = i < above.rows();
    for (index_t j = 0; j < length; ++j) all(i, j) = is_above ? above(i, j) : below(i - above.rows(), j);
  }
  return all;
}

} // namespace detail

/// Adds a low-rank adapter to the correction of a decomposition: W_hat + s' L' R', with Q untouched.
///
/// The factors become [L, (s' / s) L'] and [R; R'] with the scale s of the base, so that the base's factors
/// keep their bits. s' / s times an entry is rounded to float, which changes nothing where the quotient is a
/// power of two, as for equal scales. A side whose rank or scale is 0 is left out, and the other's scale
/// kept. Factors act on the inputs of the layer, as an adapter does, so input scales play no part.
/// @param left     L' (m,r'), any strides
/// @param right    R' (r',n), any strides
/// @param scale    s', such as lora_alpha / r
/// @param storage  of all factors, rounding them; without it the base's, otherwise fp16, otherwise fp32: the
/// first that holds every entry as it is
/// @throws qlr::error shape_mismatch: the factors do not fit Q or each other
/// @throws qlr::error non_finite: NaN or infinity in the adapter, or an entry of (s' / s) L' beyond float
/// @throws qlr::error unsupported: an entry beyond the range of the storage asked for
[[nodiscard]] inline decomposition concatenate(const decomposition& base, matrix_view<const float> left,
                                               matrix_view<const float> right, float scale,
                                               std::optional<factor_storage> storage = std::nullopt) {
  detail::check_adapter(base, left, right, scale);
  const bool has_base = base.rank() > 0 && base.scale != 0.0F;
  const bool has_adapter = left.cols() > 0 && scale != 0.0F;
  decomposition result = base;
  if (!has_base && has_adapter) result.scale = scale;
  const index_t base_rank = has_base || !has_adapter ? base.rank() : 0;
  const index_t rank = has_adapter ? left.cols() : 0;
  const matrix<float> scaled = detail::rescale_left(left, rank, scale, result.scale); // (r',m)
  matrix<float> left_vectors =
      detail::stack(base.left.view().transposed().middle_rows(0, base_rank), scaled.view(), base.rows());
  matrix<float> right_vectors =
      detail::stack(base.right.view().middle_rows(0, base_rank), right.middle_rows(0, rank), base.cols());
  result.factors = storage ? *storage : detail::find_exact_storage(base.factors, left_vectors, right_vectors);
  round_factor(left_vectors, result.factors);
  round_factor(right_vectors, result.factors);
  result.left = to_row_major(std::as_const(left_vectors).view().transposed());
  result.right = std::move(right_vectors);
  return result;
}

} // namespace qlr
