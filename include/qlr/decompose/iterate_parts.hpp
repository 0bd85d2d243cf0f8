// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/decompose/backend.hpp>
#include <qlr/decompose/low_rank_step.hpp>
#include <qlr/decompose/result.hpp>

#include <utility>
#include <vector>

namespace qlr {

/// The parts of an iterate in its backend's memory; see decomposition.
template <decompose_backend_policy Backend>
struct iterate_parts {
  typename Backend::quantized_type quantized;         ///< Q (m,n)
  factor_pair<typename Backend::matrix_type> factors; ///< L transposed (r,m), R (r,n)
  std::vector<float> input_scales{};                  ///< (n), or empty
};

/// What a search found: the history, whose `best` is empty, and the parts that belong there.
template <decompose_backend_policy Backend>
struct search_result {
  decompose_result summary;
  iterate_parts<Backend> best;
};

/// Brings what a search found to the host.
///
/// @param factors  how the factors were stored
template <decompose_backend_policy Backend>
[[nodiscard]] decompose_result to_host(const Backend& backend, search_result<Backend> found,
                                       factor_storage factors) {
  decomposition& best = found.summary.best;
  best.quantized = backend.to_host(std::move(found.best.quantized));
  const matrix<float> left = backend.to_host(std::move(found.best.factors.left)); // (r,m)
  best.left = to_row_major(left.view().transposed());                             // (m,r)
  best.right = backend.to_host(std::move(found.best.factors.right));
  best.factors = factors;
  best.input_scales = std::move(found.best.input_scales);
  return std::move(found.summary);
}

} // namespace qlr
