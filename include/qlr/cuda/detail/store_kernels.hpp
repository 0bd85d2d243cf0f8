// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/block_reduction.hpp>
#include <qlr/cuda/detail/matrix_tiles.hpp>
#include <qlr/cuda/device_quantized_matrix.hpp>
#include <qlr/quant/quantizer.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace qlr::cuda::detail {

// Storing scales: one number for the tensor, one per block of scales where they are double-quantized, then
// the codes of the scales and of integer zero points.

/// The number that scales of a tensor are stored relative to.
enum class tensor_number {
  unit,    ///< tensor_scaled: from the largest magnitude of W
  minimum, ///< double_min: the smallest scale
  mean     ///< double_mean: the mean scale, summed in double in a fixed order that is not the CPU's
};

QLR_DEVICE inline double combine(tensor_number what, double a, double b) {
  if (what == tensor_number::unit) return std::max(a, b);
  return what == tensor_number::minimum ? std::min(a, b) : a + b;
}

/// What is combined: the magnitudes of W, or the scales that were found.
struct tensor_number_source {
  tensor_number what;
  device_view<const float> weight;
  const block_scale* found = nullptr;
  index_t num_scales = 0;

  [[nodiscard]] matrix_tiles tiles() const {
    return what == tensor_number::unit ? matrix_tiles(weight.rows(), weight.cols())
                                       : matrix_tiles(1, num_scales);
  }
  [[nodiscard]] QLR_DEVICE double neutral() const {
    return what == tensor_number::minimum ? static_cast<double>(std::numeric_limits<float>::infinity()) : 0.0;
  }
  [[nodiscard]] QLR_DEVICE double operator()(index_t row, index_t col) const {
    if (what != tensor_number::unit) return static_cast<double>(found[col].scale);
    return static_cast<double>(std::fabs(weight(row, col)));
  }
};

/// partial[block] = a block's share of the number.
struct combine_kernel {
  static constexpr std::string_view name = "combine_kernel";
  static constexpr int most_threads = matrix_tiles::threads;
  static constexpr int least_blocks = 8;
  static constexpr index_t most_blocks = 1024;

  tensor_number_source source;
  matrix_tiles tiles;
  double* partial;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    double value = source.neutral();
    for_each_element(thread, tiles, [&](index_t row, index_t col) {
      value = combine(source.what, value, source(row, col));
    });
    value = reduce_block(thread, value, thread.template shared<double>(0),
                         [&](double a, double b) { return combine(source.what, a, b); });
    if (thread.index() == 0) partial[thread.block()] = value;
  }
};

/// *base = the number, from all partial results; one thread block.
struct finish_kernel {
  static constexpr std::string_view name = "finish_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 1;

  tensor_number_source source;
  const double* partial;
  index_t num_partial;
  float absmax_level; // of the grid
  float* base;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    double value = source.neutral();
    for (index_t i = thread.index(); i < num_partial; i += thread.num_threads())
      value = combine(source.what, value, partial[i]);
    value = reduce_block(thread, value, thread.template shared<double>(0),
                         [&](double a, double b) { return combine(source.what, a, b); });
    if (thread.index() != 0) return;
    if (source.what == tensor_number::unit) {
      *base = ::qlr::detail::tensor_unit(static_cast<float>(value), absmax_level);
    } else if (source.num_scales == 0) {
      *base = 0.0F;
    } else {
      *base = static_cast<float>(
          source.what == tensor_number::minimum ? value : value / static_cast<double>(source.num_scales));
    }
  }
};

/// Where the parts of the stored scales of a matrix lie.
struct scale_target {
  scale_format format;
  index_t count = 0;
  std::uint8_t* codes = nullptr;
  std::uint8_t* supers = nullptr;
  const float* base = nullptr;
  std::uint64_t* failure = nullptr;

  [[nodiscard]] QLR_DEVICE scales_view view() const { return {format, count, codes, supers, *base}; }

  template <kernel_thread Thread>
  QLR_DEVICE void check(Thread& thread, float value, float stored, index_t index) const {
    if (!::qlr::detail::is_in_range(format.type, value, stored))
      thread.min_atomic(failure, failure_word(index, value));
  }
};

/// The one number per block of double-quantized scales; a warp for each block.
struct store_supers_kernel {
  static constexpr std::string_view name = "store_supers_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 4;

  const block_scale* found;
  scale_target target;

  [[nodiscard]] launch_shape shape() const {
    constexpr index_t warps = most_threads / warp_size;
    const index_t num_supers = (target.count + target.format.block - 1) / target.format.block;
    return {(num_supers + warps - 1) / warps, most_threads, 0};
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const index_t index = (thread.block() * thread.num_threads() + thread.index()) / warp_size;
    const index_t first = index * target.format.block;
    if (first >= target.count) return;
    const index_t last = std::min(first + target.format.block, target.count);
    const float base = *target.base;
    const bool is_min = target.format.coding == scale_coding::double_min;
    float largest = is_min ? -std::numeric_limits<float>::infinity() : 0.0F;
    for (index_t i = first + thread.index() % warp_size; i < last; i += warp_size)
      largest = std::max(largest, is_min ? found[i].scale : std::fabs(found[i].scale - base));
    for (int mask = warp_size / 2; mask > 0; mask /= 2)
      largest = std::max(largest, thread.shuffle_xor(largest, mask));
    if (thread.index() % warp_size != 0) return;
    if (is_min) largest -= base;
    const float super = ::qlr::detail::store_scale(target.format.type, largest, target.supers, index);
    target.check(thread, largest, super, index);
  }
};

/// blocks[i] = scale and zero point of block i as they are stored.
struct load_scales_kernel {
  static constexpr std::string_view name = "load_scales_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 4;

  device_quantized_view q;
  block_scale* blocks;

  [[nodiscard]] launch_shape shape() const {
    return {(q.layout.num_scales() + most_threads - 1) / most_threads, most_threads, 0};
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const index_t index = thread.block() * thread.num_threads() + thread.index();
    if (index < q.layout.num_scales()) blocks[index] = q.block(index);
  }
};

/// Codes of eight scales and zero points per thread, and what they decode to.
struct store_scales_kernel {
  static constexpr std::string_view name = "store_scales_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 4;

  const block_scale* found;
  block_scale* stored; // may be what was found
  scale_target target;
  zero_point zeros_kind;
  int bits; // of an integer zero point
  std::uint8_t* zeros;

  [[nodiscard]] launch_shape shape() const {
    return {(target.count + 8 * most_threads - 1) / (8 * most_threads), most_threads, 0};
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const index_t first = 8 * (thread.block() * thread.num_threads() + thread.index());
    if (first >= target.count) return;
    const auto number = static_cast<int>(std::min<index_t>(8, target.count - first));
    if (target.format.is_double()) {
      store_double(first, number);
    } else {
      store_plain(thread, first, number);
    }
    store_zeros(first, number);
    const scales_view view = target.view();
    for (int i = 0; i < number; ++i)
      stored[first + i] = {decode_scale(view, first + i), found[first + i].zero};
  }

private:
  template <kernel_thread Thread>
  QLR_DEVICE void store_plain(Thread& thread, index_t first, int number) const {
    const float base = target.format.coding == scale_coding::tensor_scaled ? *target.base : 0.0F;
    const float unit = base > 0.0F ? base : 1.0F;
    for (index_t i = first; i < first + number; ++i) {
      const float value = found[i].scale / unit;
      target.check(thread, value, ::qlr::detail::store_scale(target.format.type, value, target.codes, i), i);
    }
  }

  QLR_DEVICE void store_double(index_t first, int number) const {
    const scale_format& format = target.format;
    const float base = *target.base;
    const auto top = static_cast<float>((1 << format.bits) - 1);
    code_t codes[8];
    for (int i = 0; i < number; ++i) {
      const float super = ::qlr::detail::load_scale(format.type, target.supers, (first + i) / format.block);
      const float scale = found[first + i].scale;
      codes[i] = format.coding == scale_coding::double_min
                     ? ::qlr::detail::encode_above_min(scale, base, super, top)
                     : ::qlr::detail::encode_around_mean(scale, base, super);
    }
    store_octet(codes, number, format.bits, target.codes, first);
  }

  QLR_DEVICE void store_zeros(index_t first, int number) const {
    if (zeros_kind == zero_point::real) {
      for (index_t i = first; i < first + number; ++i) std::memcpy(zeros + 4 * i, &found[i].zero, 4);
    } else if (zeros_kind == zero_point::integer) {
      code_t codes[8];
      for (int i = 0; i < number; ++i) codes[i] = static_cast<code_t>(found[first + i].zero);
      store_octet(codes, number, bits, zeros, first);
    }
  }

  /// Eight codes start on a byte.
  QLR_DEVICE static void store_octet(const code_t* codes, int number, int bits, std::uint8_t* bytes,
                                     index_t first) {
    std::uint8_t* target = bytes + packed_bytes(first, bits);
    const auto num_bytes = static_cast<int>(packed_bytes(number, bits));
    for (int i = 0; i < num_bytes; ++i)
      target[i] = packed_byte(code_order::lsb_first, codes, number, bits, i);
  }
};

} // namespace qlr::cuda::detail
