// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/kernel_thread.hpp>
#include <qlr/cuda/detail/matmul_arguments.hpp>
#include <qlr/cuda/detail/matmul_tile.hpp>
#include <qlr/cuda/detail/wgmma_tile.hpp>
#include <qlr/cuda/device.hpp>

#include <algorithm>

namespace qlr::cuda::detail {

/// What the host must know of a kernel's tile.
struct tile_constants {
  index_t rows;
  index_t tokens;
  int threads;
  int least_blocks;
  int stage_blocks;
  int code_bytes; ///< of a stage
  int x_bytes;
  int ring_offset;
  /// Bytes of shared memory of kernels of warpgroups, whose rings have a layout of their own; null for
  /// others.
  int (*group_bytes)(const packed_view& weights);
};

template <int Bits, class Shape>
[[nodiscard]] constexpr tile_constants constants_of() {
  using memory = tile_memory<Bits, Shape>;
  tile_constants out{Shape::rows,         Shape::tokens,       Shape::threads,
                     Shape::least_blocks, Shape::stage_blocks, memory::code_bytes,
                     memory::x_bytes,     memory::ring_offset, nullptr};
  if constexpr (is_group_shape<Shape>) {
    out.group_bytes = [](const packed_view& weights) {
      return lay_out_group_memory<Bits, Shape>(weights).bytes;
    };
  }
  return out;
}

/// Bytes of the parts of a workspace, from its start; every part starts at a multiple of 256.
struct workspace_layout {
  index_t right_partials = 0;
  index_t tile_partials = 0;
  index_t projected = 0;
  index_t projected_scales = 0;
  index_t arranged = 0; ///< X for kernels of warpgroups
  index_t bytes = 0;
};

/// How one launch is cut into work.
struct matmul_plan {
  matmul_schedule schedule;
  workspace_layout workspace;
  launch_shape launch;
};

[[nodiscard]] constexpr index_t divide_up(index_t a, index_t b) {
  return (a + b - 1) / b;
}

/// Stages of the ring and blocks that run on a multiprocessor at once.
struct ring_shape {
  int stages = 0;
  int blocks = 0;
};

/// As many blocks as should fit, if their copies keep memory busy: Little's law asks for bandwidth times
/// latency, 4.8 TB/s * 800 ns / 132 = 29 KB under way per multiprocessor, and one stage of the ring is being
/// read. Otherwise fewer blocks with more stages.
[[nodiscard]] inline ring_shape fit_ring(const tile_constants& tile, index_t stage_bytes,
                                         const device_properties& device, int most) {
  constexpr index_t reserved = 1024; // of every block, by the device
  constexpr index_t least_under_way = 29 * 1024;
  for (int blocks = tile.least_blocks; blocks > 0; --blocks) {
    const index_t budget = (device.shared_bytes_per_block + reserved) / blocks - reserved;
    const index_t stages = std::min<index_t>((budget - tile.ring_offset) / stage_bytes, most);
    if (stages >= 2 && (blocks == 1 || blocks * (stages - 1) * stage_bytes >= least_under_way))
      return {static_cast<int>(stages), blocks};
  }
  return {};
}

/// Parts of a reduction of `stages` stages for each of `tiles` tiles on `blocks` blocks at once: the fewest
/// passes through the ring, a part having an overhead of `overhead` passes.
[[nodiscard]] inline index_t choose_slices(index_t tiles, index_t stages, index_t blocks, index_t overhead) {
  index_t best = 1;
  index_t best_cost = divide_up(tiles, blocks) * stages;
  for (index_t slices = 2; slices <= std::min<index_t>(stages, 64); ++slices) {
    const index_t cost = divide_up(tiles * slices, blocks) * (divide_up(stages, slices) + overhead);
    if (cost < best_cost) {
      best = slices;
      best_cost = cost;
    }
  }
  return best;
}

/// Cuts the product of up to 1024 tiles of tokens into items.
///
/// @param slices  of each tile's reduction; 0: chosen for the device
[[nodiscard]] inline matmul_plan make_plan(const packed_view& weights, const tile_constants& tile,
                                           bool gathers, index_t tokens, index_t num_groups, index_t slices,
                                           const device_properties& device, int longest_ring) {
  matmul_plan plan;
  matmul_schedule& schedule = plan.schedule;
  schedule.gathers = gathers;
  schedule.stage_blocks = tile.stage_blocks;
  schedule.token_tiles = divide_up(tokens, tile.tokens);
  schedule.row_tiles = divide_up(weights.rows, tile.rows);

  const index_t slots = tile.rows / tile_rows * tile.stage_blocks * (steps_per_block / weights.scale_steps);
  const auto numbers = [&](number_kind kind) {
    return static_cast<int>(slots * tile_rows) * number_bytes(kind);
  };
  schedule.scale_offset = tile.code_bytes + tile.x_bytes;
  schedule.zero_offset = schedule.scale_offset + numbers(weights.scale_kind);
  schedule.factor_offset = schedule.zero_offset + (weights.zeros != nullptr ? numbers(weights.zero_kind) : 0);
  const int end =
      schedule.factor_offset + (weights.column_factors != nullptr ? tile.stage_blocks * block_cols * 4 : 0);
  schedule.stage_bytes = static_cast<std::int32_t>(divide_up(end, 128) * 128);
  const bool is_group = tile.group_bytes != nullptr;
  const ring_shape ring = is_group ? ring_shape{group_memory::stages, 1}
                                   : fit_ring(tile, schedule.stage_bytes, device, longest_ring);
  schedule.stages = ring.stages;

  const index_t blocks = static_cast<index_t>(device.multiprocessors) * std::max(ring.blocks, 1);
  const index_t stages = divide_up(weights.columns.num_blocks, tile.stage_blocks);
  const index_t tiles = schedule.token_tiles * schedule.row_tiles;
  const index_t partial_bytes = tile.rows * tile.tokens * 4;
  if (slices == 0) // a part fills the ring and writes and reads its sums
    slices = choose_slices(tiles, stages, blocks, 2 + divide_up(2 * partial_bytes, schedule.stage_bytes));
  if (tiles > matmul_counters::most_split_tiles) slices = 1;
  schedule.slice_stages = divide_up(stages, std::min(slices, stages));
  schedule.slices = static_cast<std::int32_t>(divide_up(stages, schedule.slice_stages));

  // A projection should end before the first tile that needs it, so it is cut into parts that are not longer
  // than those of a tile; below 4 stages their overhead is too large.
  const index_t right_stages = divide_up(weights.columns.cols, block_cols);
  const index_t right_tiles = schedule.token_tiles * num_groups;
  schedule.right_slice_stages = right_tiles > matmul_counters::most_split_tiles
                                    ? right_stages
                                    : std::clamp<index_t>(schedule.slice_stages, 4, 16);
  schedule.right_slices = static_cast<std::int32_t>(divide_up(right_stages, schedule.right_slice_stages));

  index_t end_bytes = sizeof(matmul_counters);
  const auto take = [&](index_t bytes) {
    const index_t start = divide_up(end_bytes, 256) * 256;
    end_bytes = start + bytes;
    return start;
  };
  const index_t padded = schedule.token_tiles * tile.tokens;
  plan.workspace.right_partials = take(padded * num_groups * schedule.right_slices * ranks_per_group * 4);
  plan.workspace.tile_partials = take(schedule.slices > 1 ? tiles * schedule.slices * partial_bytes : 0);
  plan.workspace.projected = take(padded * num_groups * ranks_per_group * 2);
  plan.workspace.projected_scales = take(padded * num_groups * 4);
  if (is_group && needs_arranged_x(weights))
    plan.workspace.arranged = take(tokens * weights.columns.num_blocks * block_cols * 2);
  plan.workspace.bytes = end_bytes;

  const index_t items = right_tiles * schedule.right_slices + tiles * schedule.slices;
  plan.launch = {std::min(items, blocks), tile.threads,
                 is_group ? tile.group_bytes(weights)
                          : tile.ring_offset + static_cast<index_t>(schedule.stages) * schedule.stage_bytes};
  return plan;
}

} // namespace qlr::cuda::detail
