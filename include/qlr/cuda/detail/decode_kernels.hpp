// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/block_reduction.hpp>
#include <qlr/cuda/detail/code_kernels.hpp>
#include <qlr/cuda/detail/matrix_tiles.hpp>
#include <qlr/cuda/device_quantized_matrix.hpp>

#include <cstdint>
#include <string_view>

namespace qlr::cuda::detail {

/// Decodes the elements of a quantized matrix tile by tile, for kernels that use them at once.
///
/// Shared memory: 2^bits levels, 1024 block_scale.
struct tile_decoder {
  device_quantized_view q;
  matrix_tiles tiles;

  explicit tile_decoder(const device_quantized_view& matrix)
      : q(matrix), tiles(matrix.rows(), matrix.cols()) {}

  [[nodiscard]] QLR_HOST_DEVICE index_t levels_bytes() const {
    return index_t{4} << (q.layout.bits < 2 ? 2 : q.layout.bits);
  }
  [[nodiscard]] QLR_HOST_DEVICE index_t shared_bytes() const {
    return levels_bytes() + matrix_tiles::size * static_cast<index_t>(sizeof(block_scale));
  }
  [[nodiscard]] launch_shape shape(index_t most_blocks = most_tile_blocks) const {
    return {tiles.num_blocks(most_blocks), matrix_tiles::threads, shared_bytes()};
  }

  /// Calls body(row, col, value, operand) for this thread's share of the elements; operand is what
  /// load(row, col) has returned before.
  template <kernel_thread Thread, class Load, class Body>
  QLR_DEVICE void for_each(Thread& thread, Load&& load, Body&& body) const {
    const quantized_matrix_view matrix = q.loaded();
    const quantized_layout& layout = q.layout;
    const index_t row_bytes = layout.row_bytes();
    auto* levels = thread.template shared<float>(0);
    auto* scales = thread.template shared<block_scale>(levels_bytes());
    for (int code = thread.index(); code < 1 << layout.bits; code += thread.num_threads())
      levels[code] = q.levels[code];
    for (index_t index = thread.block(); index < tiles.count; index += thread.num_blocks()) {
      const matrix_tile tile(tiles, index);
      const tile_groups groups(tile, layout.group_cols());
      code_t codes[matrix_tiles::steps] = {};
      float operands[matrix_tiles::steps] = {};
      const std::uint8_t* corner = q.codes + tile.row * row_bytes + packed_bytes(tile.col, layout.bits);
      for_each_in_tile(thread, tiles, tile, [&](int step, int, int i, int j) {
        codes[step] = packed_code(layout.order, corner + i * row_bytes, tile.num_cols, layout.bits, j);
        operands[step] = load(tile.row + i, tile.col + j);
      });
      thread.sync(); // the scales of the tile before may still be read
      for_each_group_in_tile(thread, tiles, tile, groups, [&](int place, int i, int group) {
        scales[place] = matrix.block(layout.scale_index(tile.row + i, groups.first + group));
      });
      thread.sync();
      for_each_in_tile(thread, tiles, tile, [&](int step, int, int i, int j) {
        const block_scale scale = scales[(i << tiles.log2_cols) + groups(j)];
        body(tile.row + i, tile.col + j, decode_value(levels[codes[step]], scale), operands[step]);
      });
    }
  }
};

/// out = Q.
struct dequantize_kernel {
  static constexpr std::string_view name = "dequantize_kernel";
  static constexpr int most_threads = matrix_tiles::threads;
  static constexpr int least_blocks = 5; // 96 registers

  tile_decoder decoder;
  device_view<float> out;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    decoder.for_each(
        thread, [](index_t, index_t) { return 0.0F; },
        [&](index_t row, index_t col, float value, float) { out(row, col) = value; });
  }
};

/// X = W - Q.
template <weight_scalar T>
struct subtract_quantized_kernel {
  static constexpr std::string_view name = "subtract_quantized_kernel";
  static constexpr int most_threads = matrix_tiles::threads;
  static constexpr int least_blocks = 5; // 96 registers

  tile_decoder decoder;
  device_view<const T> weight;
  device_view<float> x;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    decoder.for_each(
        thread, [&](index_t row, index_t col) { return static_cast<float>(weight(row, col)); },
        [&](index_t row, index_t col, float value, float w) { x(row, col) = w - value; });
  }
};

/// X = Q + factor (X - Q).
struct extrapolate_kernel {
  static constexpr std::string_view name = "extrapolate_kernel";
  static constexpr int most_threads = matrix_tiles::threads;
  static constexpr int least_blocks = 5; // 96 registers

  tile_decoder decoder;
  float factor;
  device_view<float> x;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    decoder.for_each(
        thread, [&](index_t row, index_t col) { return x(row, col); },
        [&](index_t row, index_t col, float value, float old) {
          x(row, col) = value + rounded_product(factor, old - value);
        });
  }
};

/// Weights of squared errors in device memory; see metric.
struct error_weights {
  const float* rows = nullptr;       // (m) or null
  const float* cols = nullptr;       // (n) or null
  device_view<const float> elements; // (m,n) or empty

  [[nodiscard]] QLR_DEVICE double operator()(index_t row, index_t col) const {
    if (elements.data() != nullptr) return static_cast<double>(elements(row, col));
    const double d = rows == nullptr ? 1.0 : static_cast<double>(rows[row]);
    const double s = cols == nullptr ? 1.0 : static_cast<double>(cols[col]);
    return d * d * (s * s);
  }
};

/// Sums of squares of one thread, plain and weighted.
struct energy_sums {
  double frobenius = 0;
  double weighted = 0;

  QLR_DEVICE void add(float error, double weight) {
    const double square = static_cast<double>(error) * static_cast<double>(error);
    frobenius += square;
    weighted += weight * square;
  }

  /// partial[0], partial[1] = the sums of the block.
  template <kernel_thread Thread>
  QLR_DEVICE void store(Thread& thread, double* scratch, double* partial) const {
    const double plain = sum_block(thread, frobenius, scratch);
    const double full = sum_block(thread, weighted, scratch);
    if (thread.index() != 0) return;
    partial[0] = plain;
    partial[1] = full;
  }
};

/// Most partial sums: the order of additions depends on the shape alone.
inline constexpr index_t most_energy_blocks = 1024;

/// Per thread block, the squared norms of X - Q.
struct residual_energies_kernel {
  static constexpr std::string_view name = "residual_energies_kernel";
  static constexpr int most_threads = matrix_tiles::threads;
  static constexpr int least_blocks = 5; // 96 registers

  tile_decoder decoder;
  device_view<const float> x;
  error_weights weights;
  double* partial; // (blocks,2)

  [[nodiscard]] launch_shape shape() const {
    launch_shape result = decoder.shape(most_energy_blocks);
    result.shared_bytes += reduction_bytes;
    return result;
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    energy_sums sums;
    decoder.for_each(
        thread, [&](index_t row, index_t col) { return x(row, col); },
        [&](index_t row, index_t col, float value, float own) { sums.add(own - value, weights(row, col)); });
    sums.store(thread, thread.template shared<double>(decoder.shared_bytes()), partial + 2 * thread.block());
  }
};

/// Per thread block, the squared norms of W.
template <weight_scalar T>
struct weight_energies_kernel {
  static constexpr std::string_view name = "weight_energies_kernel";
  static constexpr int most_threads = matrix_tiles::threads;
  static constexpr int least_blocks = 8;

  device_view<const T> weight;
  matrix_tiles tiles;
  error_weights weights;
  double* partial; // (blocks,2)

  [[nodiscard]] launch_shape shape() const {
    return {tiles.num_blocks(most_energy_blocks), most_threads, reduction_bytes};
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    energy_sums sums;
    for_each_element(thread, tiles, [&](index_t row, index_t col) {
      sums.add(static_cast<float>(weight(row, col)), weights(row, col));
    });
    sums.store(thread, thread.template shared<double>(0), partial + 2 * thread.block());
  }
};

/// out[0], out[1] = the sums of all partial results; one thread block.
struct sum_energies_kernel {
  static constexpr std::string_view name = "sum_energies_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 1;

  const double* partial; // (count,2)
  index_t count;
  double* out;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    energy_sums sums;
    for (index_t i = thread.index(); i < count; i += thread.num_threads()) {
      sums.frobenius += partial[2 * i];
      sums.weighted += partial[2 * i + 1];
    }
    sums.store(thread, thread.template shared<double>(0), out);
  }
};

/// *first = the smallest index, row by row, of an element that is not finite in float.
template <weight_scalar T>
struct find_non_finite_kernel {
  static constexpr std::string_view name = "find_non_finite_kernel";
  static constexpr int most_threads = matrix_tiles::threads;
  static constexpr int least_blocks = 8;

  device_view<const T> values;
  matrix_tiles tiles;
  std::uint64_t* first;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    for_each_element(thread, tiles, [&](index_t row, index_t col) {
      if (!is_finite(static_cast<float>(values(row, col))))
        thread.min_atomic(first, static_cast<std::uint64_t>(row * values.cols() + col));
    });
  }
};

} // namespace qlr::cuda::detail
