// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/iterate_parts.hpp>
#include <qlr/decompose/presets.hpp>
#include <qlr/decompose/reconstruct.hpp>
#include <qlr/decompose/smoothing.hpp>
#include <qlr/decompose/validation.hpp>
#include <qlr/host/backend.hpp>
#include <qlr/host/eigen_maps.hpp>

#include <concepts>

namespace qlr {

static_assert(low_rank_solver_policy<truncated_svd, host::eigen_backend>);
static_assert(low_rank_solver_policy<randomized_svd<host::eigen_backend>, host::eigen_backend>);

/// Splits W (m,n) into a quantized part and a low-rank part on the CPU: W ~= Q + L R.
///
/// A schedule that smooths inputs does so with a covariance: W ~= Q diag(1 / input_scales) + L R.
///
/// @param[in] weight     (m,n) float or double, any strides; not modified, not copied
/// @param     quantizer  codes and scales of Q, see formats.hpp and quantizer.hpp
/// @param     options    rank, schedule (see presets.hpp), SVD, storage of the factors
/// @param     weights    norm of the error; the default is Frobenius
/// @param     run        threads
/// @returns the best iterate with its history; not reaching a tolerance is not an error
/// @throws qlr::error invalid_argument, shape_mismatch, non_finite: see validate(); before any work starts
/// @throws qlr::error unsupported: a scale or factor beyond the range of its storage
/// @memory one (m,n) float work matrix, the codes of two iterates and the factors; the exact SVD adds its own
/// @complexity per iteration O(m n (rank + oversampling)), or O(m n min(m,n)) with the exact SVD
/// @determinism the same bits for the same seed on any number of threads
template <weight_scalar T, quantizer_policy Quantizer>
[[nodiscard]] decompose_result decompose(matrix_view<const T> weight, const Quantizer& quantizer,
                                         const decompose_options& options, const metric& weights = {},
                                         const executor& run = {}) {
  validate(weight, quantizer, weights, options, run);
  const host::eigen_backend backend(run);
  return to_host(backend, search_decomposition(backend, weight, quantizer, weights, options),
                 options.factors);
}

/// @copydoc decompose
///
/// Takes any dense Eigen expression; one without memory of its own (a sum, a product) is evaluated first.
template <class Derived, quantizer_policy Quantizer>
  requires weight_scalar<typename Derived::Scalar>
[[nodiscard]] decompose_result decompose(const Eigen::DenseBase<Derived>& weight, const Quantizer& quantizer,
                                         const decompose_options& options, const metric& weights = {},
                                         const executor& run = {}) {
  if constexpr ((Derived::Flags & Eigen::DirectAccessBit) != 0) {
    return decompose(host::view_of(weight), quantizer, options, weights, run);
  } else {
    const typename Derived::PlainObject evaluated = weight.derived();
    return decompose(host::view_of(evaluated), quantizer, options, weights, run);
  }
}

} // namespace qlr
