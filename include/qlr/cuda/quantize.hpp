// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/cuda/dequantize.hpp>
#include <qlr/cuda/detail/code_kernels.hpp>
#include <qlr/cuda/detail/scale_kernels.hpp>
#include <qlr/cuda/detail/store_kernels.hpp>
#include <qlr/cuda/device_quantized_matrix.hpp>
#include <qlr/cuda/quantizer_dispatch.hpp>

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace qlr::cuda {

// Quantizers on a device. Functions of a Launcher, which runs the kernels: detail::gpu_launcher on a real
// device (see quantize.cuh). The quantizer is an any_quantizer or a quantizer<Grid, Rule, Packing>, see
// visit_device_quantizer.
//
// Codes and scales are the CPU's, computed as the expressions are written, without fused multiply-add. Three
// sums are in another order than the CPU's and may differ in their last bits, which moves a scale by as much:
// those of rules and of the search for groups of more than detail::most_staged_group elements, and the mean
// of all scales (double_mean).

/// quantize_hints in device memory.
struct device_quantize_hints {
  const float* column_weights = nullptr;             ///< cols weights of squared errors for the scale search
  const device_quantized_matrix* previous = nullptr; ///< same layout: its scales are further starts
  scale_search_mode search = scale_search_mode::as_configured;
};

namespace detail {

template <class Launcher, class Kernel>
void launch(const Kernel& kernel, cudaStream_t stream) {
  Launcher::launch(kernel, kernel.shape(), stream);
}

[[nodiscard]] inline search_inputs make_search_inputs(const quantized_layout& layout, bool allow_negative,
                                                      const float* unit, const device_quantize_hints& hints) {
  search_inputs inputs{layout.scales, allow_negative, unit, hints.column_weights, {}};
  if (hints.previous == nullptr) return inputs;
  inputs.previous = hints.previous->view();
  require(inputs.previous.layout.num_scales() == layout.num_scales(), status_code::shape_mismatch,
          "hints.previous has ", inputs.previous.layout.num_scales(), " scales, the layout has ",
          layout.num_scales());
  return inputs;
}

/// The scales of all groups before they are stored.
template <class Launcher, class Grid, class Rule, class Packing>
[[nodiscard]] device_buffer<block_scale> find_scales(const quantizer<Grid, Rule, Packing>& quantizer,
                                                     device_view<const float> weight,
                                                     const quantized_layout& layout,
                                                     const device_quantize_hints& hints, const float* unit,
                                                     cudaStream_t stream) {
  device_buffer<block_scale> found(layout.num_scales(), stream);
  if (found.size() == 0) return found;
  const Grid& grid = quantizer.grid();
  const Rule& rule = quantizer.rule();
  const bool searches = quantizer.searches(hints.search);
  const search_inputs inputs = make_search_inputs(layout, quantizer.allows_negative_scales(), unit, hints);
  if (is_staged(layout)) {
    const group_stage stage(weight, layout);
    launch<Launcher>(find_scales_kernel<Grid, Rule>{stage, grid, rule, found.data()}, stream);
    if (searches) launch<Launcher>(search_scales_kernel<Grid>{stage, grid, inputs, found.data()}, stream);
  } else {
    launch<Launcher>(find_large_scales_kernel<Grid, Rule>{weight, layout, grid, rule, found.data()}, stream);
    if (searches)
      launch<Launcher>(search_large_scales_kernel<Grid>{weight, layout, grid, inputs, found.data()}, stream);
  }
  return found;
}

/// *base = what scales of the tensor are stored relative to.
template <class Launcher>
void compute_tensor_number(const tensor_number_source& source, float absmax_level, float* base,
                           cudaStream_t stream) {
  const matrix_tiles tiles = source.tiles();
  device_buffer<double> partial(tiles.num_blocks(combine_kernel::most_blocks), stream);
  Launcher::launch(combine_kernel{source, tiles, partial.data()},
                   {partial.size(), combine_kernel::most_threads, reduction_bytes}, stream);
  Launcher::launch(finish_kernel{source, partial.data(), partial.size(), absmax_level, base},
                   {1, finish_kernel::most_threads, reduction_bytes}, stream);
}

/// Scales, zero points and everything else about a matrix but its codes.
struct fitted_device_scales {
  device_scales stored;
  device_buffer<block_scale> exact; ///< before they were stored; empty unless asked for
};

/// Stores scales that were found; `stored.base` is there already where the format is tensor_scaled.
template <class Launcher>
void store_scales(fitted_device_scales& scales, device_buffer<block_scale> found,
                  const quantized_layout& layout, bool keep_exact, cudaStream_t stream) {
  device_scales& stored = scales.stored;
  const scale_format& format = layout.scales;
  const index_t count = layout.num_scales();
  if (format.is_double()) {
    const auto what =
        format.coding == scale_coding::double_min ? tensor_number::minimum : tensor_number::mean;
    compute_tensor_number<Launcher>({what, {}, found.data(), count}, 0.0F, stored.base.data(), stream);
  }
  const scale_target target{
      format, count, stored.codes.data(), stored.supers.data(), stored.base.data(), stored.failure.data()};
  if (format.is_double()) launch<Launcher>(store_supers_kernel{found.data(), target}, stream);
  if (keep_exact) stored.blocks = device_buffer<block_scale>(count, stream);
  block_scale* blocks = keep_exact ? stored.blocks.data() : found.data();
  launch<Launcher>(
      store_scales_kernel{found.data(), blocks, target, layout.zeros, layout.bits, stored.zeros.data()},
      stream);
  (keep_exact ? scales.exact : stored.blocks) = std::move(found);
}

template <class Launcher, class Grid, class Rule, class Packing>
[[nodiscard]] fitted_device_scales fit(const quantizer<Grid, Rule, Packing>& quantizer,
                                       device_view<const float> weight, const quantized_layout& layout,
                                       const device_quantize_hints& hints, bool keep_exact,
                                       cudaStream_t stream) {
  static_assert(std::is_trivially_copyable_v<Grid> && std::is_trivially_copyable_v<Rule>,
                "a device quantizer needs a grid and a rule that are trivially copyable");
  const index_t count = layout.num_scales();
  fitted_device_scales scales;
  device_scales& stored = scales.stored;
  stored.codes = device_buffer<std::uint8_t>(scale_code_bytes(layout.scales, count), stream);
  stored.supers = device_buffer<std::uint8_t>(scale_super_bytes(layout.scales, count), stream);
  stored.zeros = device_buffer<std::uint8_t>(layout.zero_bytes(), stream);
  stored.base = device_buffer<float>(1, stream);
  stored.failure = device_buffer<std::uint64_t>(1, stream);
  check(cudaMemsetAsync(stored.base.data(), 0, sizeof(float), stream), "quantize");
  check(cudaMemsetAsync(stored.failure.data(), 0xFF, sizeof(std::uint64_t), stream), "quantize");
  if (layout.scales.coding == scale_coding::tensor_scaled) {
    compute_tensor_number<Launcher>({tensor_number::unit, weight}, quantizer.grid().absmax_level(),
                                    stored.base.data(), stream);
  }
  store_scales<Launcher>(scales,
                         find_scales<Launcher>(quantizer, weight, layout, hints, stored.base.data(), stream),
                         layout, keep_exact, stream);
  return scales;
}

template <class Quantizer>
[[nodiscard]] device_quantized_matrix join(const Quantizer& quantizer, const quantized_layout& layout,
                                           device_scales scales, device_buffer<std::uint8_t> codes,
                                           cudaStream_t stream) {
  const std::vector<float> levels = quantizer.level_table();
  return {quantizer.name(),
          layout,
          to_device(std::span<const float>(levels), stream),
          std::move(codes),
          std::move(scales.codes),
          std::move(scales.supers),
          std::move(scales.base),
          std::move(scales.zeros),
          std::move(scales.failure)};
}

} // namespace detail

/// Enqueues the search for the scales that quantize() would store.
///
/// @param[in] weight  (rows, cols), any strides, finite; must outlive the kernels
/// @throws qlr::error invalid_argument: the group size does not suit the shape
/// @throws qlr::error unsupported: see visit_device_quantizer
/// @throws qlr::error shape_mismatch: hints.previous is of another shape
/// @sync only enqueues
template <class Launcher, class Quantizer>
[[nodiscard]] device_scales fit_scales(const Quantizer& quantizer, device_view<const float> weight,
                                       const device_quantize_hints& hints, cudaStream_t stream) {
  return visit_device_quantizer(quantizer, [&](const auto& concrete) {
    return detail::fit<Launcher>(concrete, weight, concrete.layout(weight.rows(), weight.cols()), hints,
                                 false, stream)
        .stored;
  });
}

/// Enqueues a copy of the scales that a matrix has, for other codes on the same scales.
///
/// @sync only enqueues
template <class Launcher>
[[nodiscard]] device_scales scales_of(const device_quantized_matrix& q, cudaStream_t stream) {
  const auto copy = [&]<class T>(const device_buffer<T>& from) {
    device_buffer<T> to(from.size(), stream);
    if (from.size() > 0) {
      detail::check(cudaMemcpyAsync(to.data(), from.data(), static_cast<std::size_t>(from.bytes()),
                                    cudaMemcpyDeviceToDevice, stream),
                    "scales_of");
    }
    return to;
  };
  device_scales scales{device_buffer<block_scale>(q.layout().num_scales(), stream),
                       copy(q.scale_codes()),
                       copy(q.scale_supers()),
                       copy(q.zeros()),
                       copy(q.scale_base()),
                       {}};
  detail::launch<Launcher>(detail::load_scales_kernel{q.view(), scales.blocks.data()}, stream);
  return scales;
}

/// Enqueues the packing of codes (rows, cols) that were rounded with these scales.
///
/// @pre the codes and scales are those of a matrix of this layout
/// @throws qlr::error shape_mismatch: the codes or the scales do not fit the layout
/// @sync only enqueues; the codes must outlive it
template <class Launcher, class Quantizer>
[[nodiscard]] device_quantized_matrix assemble(const Quantizer& quantizer, const quantized_layout& layout,
                                               device_scales scales, device_view<const code_t> codes,
                                               cudaStream_t stream) {
  require(codes.rows() == layout.rows && codes.cols() == layout.cols, status_code::shape_mismatch,
          "assemble: codes are ", codes.rows(), " x ", codes.cols(), ", the layout is ", layout.rows, " x ",
          layout.cols);
  device_buffer<std::uint8_t> packed(layout.code_bytes(), stream);
  const detail::pack_kernel kernel{codes, layout, detail::matrix_tiles(layout.rows, layout.cols),
                                   packed.data()};
  detail::launch<Launcher>(kernel, stream);
  return visit_device_quantizer(quantizer, [&](const auto& concrete) {
    return detail::join(concrete, layout, std::move(scales), std::move(packed), stream);
  });
}

/// Enqueues the quantization of W (rows, cols).
///
/// @param[in] weight  (rows, cols), any strides, finite; must outlive the kernels
/// @returns   the matrix; a scale beyond the range of its format is reported by its check()
/// @throws qlr::error invalid_argument: the group size does not suit the shape
/// @throws qlr::error unsupported: see visit_device_quantizer
/// @throws qlr::error shape_mismatch: hints.previous is of another shape
/// @sync only enqueues
/// @memory the result, 8 bytes per scale while it runs (16 where codes belong to exact scales)
/// @determinism the same bits in every run
template <class Launcher, class Quantizer>
[[nodiscard]] device_quantized_matrix quantize_async(const Quantizer& quantizer,
                                                     device_view<const float> weight,
                                                     const device_quantize_hints& hints,
                                                     cudaStream_t stream) {
  return visit_device_quantizer(quantizer, [&](const auto& concrete) {
    const quantized_layout layout = concrete.layout(weight.rows(), weight.cols());
    const bool is_exact = concrete.options().encode_with_exact_scale && !concrete.searches(hints.search);
    auto scales = detail::fit<Launcher>(concrete, weight, layout, hints, is_exact, stream);
    device_buffer<std::uint8_t> packed(layout.code_bytes(), stream);
    using grid_type = std::remove_cvref_t<decltype(concrete.grid())>;
    detail::launch<Launcher>(
        detail::encode_kernel<grid_type>{
            weight, layout, detail::matrix_tiles(layout.rows, layout.cols), concrete.grid(),
            is_exact ? scales.exact.data() : scales.stored.blocks.data(), packed.data()},
        stream);
    return detail::join(concrete, layout, std::move(scales.stored), std::move(packed), stream);
  });
}

/// Quantizes W (rows, cols) after checking that every element is finite.
///
/// @throws qlr::error non_finite: NaN or infinity, with its index
/// @throws qlr::error unsupported: a scale beyond the range of its format
/// @throws qlr::error otherwise as quantize_async()
/// @sync waits for the stream
template <class Launcher, class Quantizer>
[[nodiscard]] device_quantized_matrix quantize(const Quantizer& quantizer, device_view<const float> weight,
                                               const device_quantize_hints& hints, cudaStream_t stream) {
  (void)quantizer.layout(weight.rows(), weight.cols());
  require_finite<Launcher>(weight, "weight", stream);
  device_quantized_matrix q = quantize_async<Launcher>(quantizer, weight, hints, stream);
  q.check(stream);
  return q;
}

} // namespace qlr::cuda
