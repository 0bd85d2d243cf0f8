// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/cuda/context.hpp>
#include <qlr/cuda/coupling.hpp>
#include <qlr/cuda/detail/column_rounder.hpp>
#include <qlr/cuda/device_quantized_matrix.hpp>
#include <qlr/cuda/quantize.hpp>

#include <type_traits>
#include <utility>

namespace qlr::cuda {

namespace detail {

/// A copy in device memory.
template <class T>
[[nodiscard]] device_buffer<T> duplicate_async(const device_buffer<T>& from, cudaStream_t stream) {
  device_buffer<T> copy(from.size(), stream);
  if (from.size() == 0) return copy;
  check(cudaMemcpyAsync(copy.data(), from.data(), static_cast<std::size_t>(from.bytes()),
                        cudaMemcpyDeviceToDevice, stream),
        "copy in device memory");
  return copy;
}

/// The scales of Q.
template <class Launcher>
[[nodiscard]] device_scales scales_of(const device_quantized_matrix& q, cudaStream_t stream) {
  device_scales scales;
  scales.blocks = device_buffer<block_scale>(q.layout().num_scales(), stream);
  map_elements_async<Launcher>(decode_blocks_body{q.view(), scales.blocks.data()}, 1, scales.blocks.size(),
                               stream);
  scales.codes = duplicate_async(q.scale_codes(), stream);
  scales.supers = duplicate_async(q.scale_supers(), stream);
  scales.zeros = duplicate_async(q.zeros(), stream);
  scales.base = duplicate_async(q.scale_base(), stream);
  return scales;
}

inline void require_coupling(const device_coupling& coupling, index_t cols, bool needs_feedback,
                             bool needs_descent) {
  require(coupling.order.size() == cols, status_code::shape_mismatch, "the coupling is of ",
          coupling.order.size(), " columns, the matrix has ", cols);
  require(!needs_feedback || coupling.feedback.rows() == cols, status_code::invalid_argument,
          "the coupling was made for descent, error feedback needs one for coupling_use::feedback");
  require(!needs_descent || coupling.descent.rows() == cols, status_code::invalid_argument,
          "the coupling was made without descent, which feedback_options::descents or coupling_use::descent "
          "asks for");
}

} // namespace detail

/// Q for X (m,n) by error feedback, then `descents` passes of coordinate descent on the same scales.
///
/// As host::round_with_feedback; codes may differ where two are equally good but for the rounding of sums.
/// @tparam Launcher   of kernels
/// @tparam Quantizer  any_quantizer or quantizer<Grid, Rule, Packing>
/// @param[in] x   rows contiguous, finite
/// @param  hints  of the scales, found before anything is rounded (GPTQ's static groups)
/// @throws qlr::error unsupported: the quantizer cannot be called step by step on a device, see
///         visit_device_quantizer
/// @throws qlr::error shape_mismatch, invalid_argument: the coupling has another number of columns, or was
///         made without a part that is needed
/// @sync   only enqueues, on the context's stream; inputs must outlive it
/// @memory 5 m n + 512 m bytes
/// @complexity O(m n^2), a product with the coupling per pass
template <class Launcher, class Quantizer>
[[nodiscard]] device_quantized_matrix round_with_feedback_async(const context& on, const Quantizer& quantizer,
                                                                device_view<const float> x,
                                                                const device_coupling& coupling,
                                                                const device_quantize_hints& hints,
                                                                int descents) {
  return visit_device_quantizer(quantizer, [&](const auto& concrete) {
    const quantized_layout layout = concrete.layout(x.rows(), x.cols());
    detail::require_coupling(coupling, x.cols(), true, descents > 0);
    device_scales scales = fit_scales<Launcher>(concrete, x, hints, on.stream());
    detail::column_rounder<Launcher, std::remove_cvref_t<decltype(concrete.grid())>> columns(
        on, concrete.grid(), x, layout, scales.blocks.data(), coupling);
    columns.feed_back();
    for (int pass = 0; pass < descents; ++pass) columns.descend();
    return assemble<Launcher>(concrete, layout, std::move(scales), columns.codes().view(), on.stream());
  });
}

/// Coordinate descent from Q for X (m,n) on Q's own scales; the error in the metric of the coupling never
/// rises.
///
/// As host::round_by_descent; see round_with_feedback_async for what it differs by, memory and complexity.
/// @param passes  1 and above
/// @throws qlr::error invalid_argument: passes below 1
/// @throws qlr::error shape_mismatch: Q has another shape than X
/// @throws qlr::error otherwise as round_with_feedback_async
/// @see Bid-Up of GPTQ-intrinsic low-rank adaptation, arXiv 2606.01412
template <class Launcher, class Quantizer>
[[nodiscard]] device_quantized_matrix round_by_descent_async(const context& on, const Quantizer& quantizer,
                                                             const device_quantized_matrix& q,
                                                             device_view<const float> x,
                                                             const device_coupling& coupling, int passes) {
  require(passes >= 1, status_code::invalid_argument, "descent: passes is ", passes,
          ", allowed are 1 and above");
  require(q.rows() == x.rows() && q.cols() == x.cols(), status_code::shape_mismatch, "descent: Q is ",
          q.rows(), " x ", q.cols(), ", X is ", x.rows(), " x ", x.cols());
  detail::require_coupling(coupling, x.cols(), false, true);
  return visit_device_quantizer(quantizer, [&](const auto& concrete) {
    device_scales scales = detail::scales_of<Launcher>(q, on.stream());
    detail::column_rounder<Launcher, std::remove_cvref_t<decltype(concrete.grid())>> columns(
        on, concrete.grid(), x, q.layout(), scales.blocks.data(), coupling);
    columns.load_errors(q.view());
    for (int pass = 0; pass < passes; ++pass) columns.descend();
    return assemble<Launcher>(concrete, q.layout(), std::move(scales), columns.codes().view(), on.stream());
  });
}

} // namespace qlr::cuda
