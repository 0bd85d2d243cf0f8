// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/device_buffer.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace qlr::cuda {

/// A quantized matrix in device memory, for kernels: element = (level - zero) * scale.
///
/// The parts are those of quantized_matrix_view, but the tensor's number (scales_view::base) is in device
/// memory as well.
struct device_quantized_view {
  quantized_layout layout;
  const std::uint8_t* codes = nullptr;
  const float* levels = nullptr;
  const std::uint8_t* scale_codes = nullptr;
  const std::uint8_t* scale_supers = nullptr;
  const float* scale_base = nullptr; ///< one number
  const std::uint8_t* zeros = nullptr;

  [[nodiscard]] QLR_HOST_DEVICE index_t rows() const { return layout.rows; }
  [[nodiscard]] QLR_HOST_DEVICE index_t cols() const { return layout.cols; }

  /// The same parts with the tensor's number loaded, for a thread that decodes many elements.
  [[nodiscard]] QLR_DEVICE quantized_matrix_view loaded() const {
    return {layout,
            codes,
            levels,
            {layout.scales, layout.num_scales(), scale_codes, scale_supers, *scale_base},
            zeros};
  }

  /// Scale and zero point of block `index`.
  [[nodiscard]] QLR_DEVICE block_scale block(index_t index) const { return loaded().block(index); }
  [[nodiscard]] QLR_DEVICE code_t code(index_t row, index_t col) const { return loaded().code(row, col); }
  /// One element before scaling.
  [[nodiscard]] QLR_DEVICE float level(index_t row, index_t col) const { return loaded().level(row, col); }
  [[nodiscard]] QLR_DEVICE float element(index_t row, index_t col) const {
    return loaded().element(row, col);
  }
};

namespace detail {

/// The first of the failures that threads report, in one word of device memory: index << 32 | float bits;
/// all ones while there is none.
inline constexpr std::uint64_t no_failure = ~std::uint64_t{0};

[[nodiscard]] QLR_HOST_DEVICE inline std::uint64_t failure_word(index_t index, float value) {
  constexpr index_t most = 0xFFFFFFFE;
  return (static_cast<std::uint64_t>(index < most ? index : most) << 32U) |
         std::bit_cast<std::uint32_t>(value);
}

} // namespace detail

/// Scales and zero points of all blocks in device memory, as they are stored.
struct device_scales {
  device_buffer<block_scale> blocks;    ///< num_scales() of them, row by row: what encoding and decoding use
  device_buffer<std::uint8_t> codes;    ///< see scales_view
  device_buffer<std::uint8_t> supers;   ///< see scales_view
  device_buffer<std::uint8_t> zeros;    ///< see quantized_matrix_view
  device_buffer<float> base;            ///< one number
  device_buffer<std::uint64_t> failure; ///< one word: the first scale beyond its format's range
};

/// Owner of a quantized matrix in device memory.
///
/// @memory layout().storage_bytes(), the level table and 12 bytes, in the order of one stream; see
/// device_buffer
class device_quantized_matrix {
public:
  device_quantized_matrix() = default;

  /// Takes the parts; sizes must match the layout.
  ///
  /// @throws qlr::error shape_mismatch: a part whose size is not what the layout says
  device_quantized_matrix(std::string format_name, const quantized_layout& layout,
                          device_buffer<float> levels, device_buffer<std::uint8_t> codes,
                          device_buffer<std::uint8_t> scale_codes, device_buffer<std::uint8_t> scale_supers,
                          device_buffer<float> scale_base, device_buffer<std::uint8_t> zeros,
                          device_buffer<std::uint64_t> failure = {})
      : format_name_(std::move(format_name)), layout_(layout), levels_(std::move(levels)),
        codes_(std::move(codes)), scale_codes_(std::move(scale_codes)),
        scale_supers_(std::move(scale_supers)), scale_base_(std::move(scale_base)), zeros_(std::move(zeros)),
        failure_(std::move(failure)) {
    require_size("levels", levels_.size(), index_t{1} << layout.bits);
    require_size("codes", codes_.size(), layout.code_bytes());
    require_size("scales.codes", scale_codes_.size(), scale_code_bytes(layout.scales, layout.num_scales()));
    require_size("scales.supers", scale_supers_.size(),
                 scale_super_bytes(layout.scales, layout.num_scales()));
    require_size("scales.base", scale_base_.size(), 1);
    require_size("zeros", zeros_.size(), layout.zero_bytes());
  }

  [[nodiscard]] const std::string& format_name() const { return format_name_; }
  [[nodiscard]] const quantized_layout& layout() const { return layout_; }
  [[nodiscard]] index_t rows() const { return layout_.rows; }
  [[nodiscard]] index_t cols() const { return layout_.cols; }
  [[nodiscard]] const device_buffer<float>& levels() const { return levels_; }
  [[nodiscard]] const device_buffer<std::uint8_t>& codes() const { return codes_; }
  [[nodiscard]] const device_buffer<std::uint8_t>& scale_codes() const { return scale_codes_; }
  [[nodiscard]] const device_buffer<std::uint8_t>& scale_supers() const { return scale_supers_; }
  [[nodiscard]] const device_buffer<float>& scale_base() const { return scale_base_; }
  [[nodiscard]] const device_buffer<std::uint8_t>& zeros() const { return zeros_; }

  [[nodiscard]] device_quantized_view view() const {
    return {layout_,
            codes_.data(),
            levels_.data(),
            scale_codes_.data(),
            scale_supers_.data(),
            scale_base_.data(),
            zeros_.data()};
  }

  /// Reports a scale that its format could not hold, once the kernels that made the matrix have run.
  ///
  /// @throws qlr::error unsupported: a scale beyond the range of the format; names its block and value
  /// @sync waits for the stream
  void check(cudaStream_t stream = nullptr) const {
    const std::uint64_t word = failure_word(stream);
    if (word == detail::no_failure) return;
    qlr::detail::fail_on_range(layout_.scales.type, std::bit_cast<float>(static_cast<std::uint32_t>(word)),
                               static_cast<index_t>(word >> 32U));
  }

  /// Whether check() would throw.
  ///
  /// @sync waits for the stream
  [[nodiscard]] bool has_failed(cudaStream_t stream = nullptr) const {
    return failure_word(stream) != detail::no_failure;
  }

private:
  /// Block and value of the first scale that did not fit.
  [[nodiscard]] std::uint64_t failure_word(cudaStream_t stream) const {
    std::uint64_t word = detail::no_failure;
    copy_to_host(failure_.data(), std::span<std::uint64_t>(&word, failure_.size() == 0 ? 0 : 1), stream);
    return word;
  }

  static void require_size(std::string_view part, index_t size, index_t expected) {
    require(size == expected, status_code::shape_mismatch, "device_quantized_matrix: ", part, " has ", size,
            " entries, the layout needs ", expected);
  }

  std::string format_name_;
  quantized_layout layout_;
  device_buffer<float> levels_;
  device_buffer<std::uint8_t> codes_;
  device_buffer<std::uint8_t> scale_codes_;
  device_buffer<std::uint8_t> scale_supers_;
  device_buffer<float> scale_base_;
  device_buffer<std::uint8_t> zeros_;
  device_buffer<std::uint64_t> failure_; // one word, or none where the scales came from the host
};

namespace detail {
template <class T>
[[nodiscard]] device_buffer<T> copy_of(const T* from, index_t count, cudaStream_t stream) {
  return to_device(std::span<const T>(from, static_cast<std::size_t>(count)), stream);
}
template <class T>
[[nodiscard]] std::vector<T> host_copy_of(const device_buffer<T>& from, cudaStream_t stream) {
  std::vector<T> out(static_cast<std::size_t>(from.size()));
  copy_to_host(from.data(), std::span<T>(out), stream);
  return out;
}
} // namespace detail

/// A device copy of a quantized matrix; the copies have been enqueued.
///
/// @throws qlr::error out_of_memory, device_failure: the device refuses
[[nodiscard]] inline device_quantized_matrix to_device(std::string format_name,
                                                       const quantized_matrix_view& from,
                                                       cudaStream_t stream = nullptr) {
  const quantized_layout& layout = from.layout;
  const index_t num_scales = layout.num_scales();
  return {std::move(format_name),
          layout,
          detail::copy_of(from.levels, index_t{1} << layout.bits, stream),
          detail::copy_of(from.codes, layout.code_bytes(), stream),
          detail::copy_of(from.scales.codes, scale_code_bytes(layout.scales, num_scales), stream),
          detail::copy_of(from.scales.supers, scale_super_bytes(layout.scales, num_scales), stream),
          detail::copy_of(&from.scales.base, 1, stream),
          detail::copy_of(from.zeros, layout.zero_bytes(), stream)};
}

/// @copydoc to_device(std::string, const quantized_matrix_view&, cudaStream_t)
[[nodiscard]] inline device_quantized_matrix to_device(const quantized_matrix& from,
                                                       cudaStream_t stream = nullptr) {
  return to_device(from.format_name(), from.view(), stream);
}

/// A host copy of a quantized matrix.
///
/// @throws qlr::error unsupported: a scale was beyond the range of its format, see
/// device_quantized_matrix::check
/// @sync waits for the stream
[[nodiscard]] inline quantized_matrix to_host(const device_quantized_matrix& from,
                                              cudaStream_t stream = nullptr) {
  from.check(stream);
  const quantized_layout& layout = from.layout();
  const std::vector<float> base = detail::host_copy_of(from.scale_base(), stream);
  stored_scales scales{layout.scales, layout.num_scales(), detail::host_copy_of(from.scale_codes(), stream),
                       detail::host_copy_of(from.scale_supers(), stream), base[0]};
  return {from.format_name(),
          layout,
          detail::host_copy_of(from.levels(), stream),
          detail::host_copy_of(from.codes(), stream),
          std::move(scales),
          detail::host_copy_of(from.zeros(), stream)};
}

} // namespace qlr::cuda
