// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/matmul_items.hpp>
#include <qlr/cuda/detail/matmul_tile.hpp>

namespace qlr::cuda::detail {

/// What happens to the sums of a tile of Y after the last stage.
template <class T, class Shape, kernel_thread Thread>
class tile_output {
public:
  using shape = Shape;
  using tile_sums = float[shape::warp_tiles][shape::fragments][4];

  QLR_DEVICE tile_output(Thread& thread, const matmul_arguments& arguments, const warp_place<Shape>& place)
      : thread_(thread), arguments_(arguments), place_(place) {}

  /// Adds the sums of the warps that took the second half of the columns.
  ///
  /// @param shared  (128 tokens) floats
  QLR_DEVICE void add_column_halves(unsigned char* shared, tile_sums& sums) const {
    if constexpr (shape::col_warps == 1) return;
    auto* quads = reinterpret_cast<float_quad*>(shared);
    if (place_.col_warp == 1)
      for_each_quad(sums, [&](int index, float(&quad)[4]) {
        quads[index * shape::partial_threads + thread_.index() % shape::partial_threads] = {
            {quad[0], quad[1], quad[2], quad[3]}};
      });
    thread_.sync();
    if (place_.col_warp == 0)
      for_each_quad(sums, [&](int index, float(&quad)[4]) {
        const float_quad other = quads[index * shape::partial_threads + thread_.index()];
        QLR_DEVICE_UNROLL
        for (int j = 0; j < 4; ++j) quad[j] += other.values[j];
      });
  }

  /// Stores this slice's sums.
  QLR_DEVICE void store_partial(const work_item& item, tile_sums& sums) const {
    float_quad* out = partials(item, item.slice);
    for_each_quad(sums, [&](int index, float(&quad)[4]) {
      out[index * shape::partial_threads] = {{quad[0], quad[1], quad[2], quad[3]}};
    });
  }

  /// The sums of all slices, in their order.
  QLR_DEVICE void add_partials(const work_item& item, tile_sums& sums) const {
    for_each_quad(sums, [](int, float(&quad)[4]) {
      for (float& each : quad) each = 0;
    });
    for (int slice = 0; slice < arguments_.schedule.slices; ++slice) {
      const float_quad* in = partials(item, slice);
      for_each_quad(sums, [&](int index, float(&quad)[4]) {
        const float_quad part = in[index * shape::partial_threads];
        QLR_DEVICE_UNROLL
        for (int j = 0; j < 4; ++j) quad[j] += part.values[j];
      });
    }
  }

  /// sums = row factor * sums.
  QLR_DEVICE void apply_row_factors(const work_item& item, tile_sums& sums) const {
    QLR_DEVICE_UNROLL
    for (int i = 0; i < shape::warp_tiles; ++i) {
      const index_t tile = row_tile(item, i);
      if (tile >= arguments_.weights.row_tiles) continue;
      const float* factors = arguments_.weights.row_factors + tile * tile_rows + place_.lane / 4;
      const float factor[2] = {factors[0], factors[8]};
      QLR_DEVICE_UNROLL
      for (int f = 0; f < shape::fragments; ++f) {
        QLR_DEVICE_UNROLL
        for (int j = 0; j < 4; ++j) sums[i][f][j] *= factor[j / 2];
      }
    }
  }

  /// sums += L P for one rank group.
  QLR_DEVICE void add_low_rank(const work_item& item, int group_index, tile_sums& sums) const {
    const rank_group& group = arguments_.group(group_index);
    QLR_DEVICE_UNROLL
    for (int i = 0; i < shape::warp_tiles; ++i) {
      const index_t tile = row_tile(item, i);
      if (tile >= arguments_.weights.row_tiles) continue;
      quad left[steps_per_block]; // L, 16 rows, 16 ranks each
      QLR_DEVICE_UNROLL
      for (int k = 0; k < steps_per_block; ++k) {
        if (k < group.tiles)
          left[k] =
              reinterpret_cast<const quad*>(group.left)[(tile * group.tiles + k) * warp_size + place_.lane];
      }
      QLR_DEVICE_UNROLL
      for (int f = 0; f < shape::fragments; ++f)
        add_ranks(item, group_index, group.tiles, left, f, sums[i][f]);
    }
  }

  /// Y = sums + bias.
  QLR_DEVICE void store(const work_item& item, tile_sums& sums) const {
    QLR_DEVICE_UNROLL
    for (int i = 0; i < shape::warp_tiles; ++i) {
      QLR_DEVICE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const index_t row = row_tile(item, i) * tile_rows + place_.lane / 4 + 8 * half;
        if (row >= arguments_.weights.rows) continue;
        const float bias = arguments_.bias != nullptr ? arguments_.bias[row] : 0.0F;
        QLR_DEVICE_UNROLL
        for (int f = 0; f < shape::fragments; ++f) {
          QLR_DEVICE_UNROLL
          for (int j = 0; j < 2; ++j) {
            const index_t token = first_token(item, f) + 2 * (place_.lane % 4) + j;
            if (token < arguments_.tokens) store(token, row, sums[i][f][2 * half + j] + bias);
          }
        }
      }
    }
  }

private:
  /// Calls body(index, sums) for the accumulators of every tile product.
  template <class Body>
  QLR_DEVICE static void for_each_quad(tile_sums& sums, Body&& body) {
    QLR_DEVICE_UNROLL
    for (int i = 0; i < shape::warp_tiles; ++i) {
      QLR_DEVICE_UNROLL
      for (int f = 0; f < shape::fragments; ++f) body(i * shape::fragments + f, sums[i][f]);
    }
  }

  [[nodiscard]] QLR_DEVICE index_t row_tile(const work_item& item, int index) const {
    return static_cast<index_t>(item.row_tile) * shape::row_tiles + place_.row_warp * shape::warp_tiles +
           index;
  }
  [[nodiscard]] QLR_DEVICE index_t first_token(const work_item& item, int fragment) const {
    return static_cast<index_t>(item.token_tile) * shape::tokens +
           8 * (place_.token_warp * shape::fragments + fragment);
  }

  /// This thread's part of a slice: (tile products of a warp, threads, 4).
  [[nodiscard]] QLR_DEVICE float_quad* partials(const work_item& item, int slice) const {
    const index_t tile = item.token_tile * arguments_.schedule.row_tiles + item.row_tile;
    float* first = arguments_.tile_partials +
                   (tile * arguments_.schedule.slices + slice) * (shape::rows * shape::tokens);
    return reinterpret_cast<float_quad*>(first) + thread_.index() % shape::partial_threads;
  }

  /// sums += scale of P * (L P) for 8 tokens.
  QLR_DEVICE void add_ranks(const work_item& item, int group_index, int tiles,
                            const quad (&left)[steps_per_block], int fragment, float (&sums)[4]) const {
    const index_t groups = arguments_.num_groups();
    const index_t first = first_token(item, fragment);
    const auto* projected = reinterpret_cast<const std::uint32_t*>(arguments_.projected) +
                            ((first + place_.lane / 4) * groups + group_index) * (ranks_per_group / 2) +
                            place_.lane % 4;
    float products[4] = {};
    QLR_DEVICE_UNROLL
    for (int k = 0; k < steps_per_block; ++k) {
      if (k >= tiles) continue;
      const std::uint32_t ranks[2] = {projected[8 * k], projected[8 * k + 4]};
      thread_.template multiply_add<T>(products, left[k].words, ranks);
    }
    const float* scales =
        arguments_.projected_scales + (first + 2 * (place_.lane % 4)) * groups + group_index;
    const float scale[2] = {scales[0], scales[groups]};
    QLR_DEVICE_UNROLL
    for (int j = 0; j < 4; ++j) sums[j] += scale[j % 2] * products[j];
  }

  QLR_DEVICE void store(index_t token, index_t row, float value) const {
    const index_t place = token * arguments_.y_row_stride + row * arguments_.y_col_stride;
    if (arguments_.y_is_float) {
      static_cast<float*>(arguments_.y)[place] = value;
    } else {
      static_cast<std::uint16_t*>(arguments_.y)[place] = to_half<T>(value).bits;
    }
  }

  Thread& thread_;
  const matmul_arguments& arguments_;
  warp_place<Shape> place_;
};

} // namespace qlr::cuda::detail
