// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/kernel_thread.hpp>
#include <qlr/cuda/detail/matmul_arguments.hpp>

namespace qlr::cuda::detail {

/// True when a token of the tile takes part in a rank group; all lanes of the warp call it.
template <kernel_thread Thread>
[[nodiscard]] QLR_DEVICE bool takes_part(Thread& thread, const matmul_arguments& arguments, int token_tile,
                                         int tile_tokens, std::int32_t adapter) {
  if (adapter < 0) return true;
  const index_t first = static_cast<index_t>(token_tile) * tile_tokens;
  int found = 0;
  for (int i = thread.index() % warp_size; i < tile_tokens; i += warp_size) {
    if (first + i < arguments.tokens && arguments.adapter_of_token[first + i] == adapter) found = 1;
  }
  QLR_DEVICE_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) found |= thread.shuffle_xor(found, mask);
  return found != 0;
}

enum class item_kind : std::int32_t {
  tile,       ///< a slice of a tile of Y
  projection, ///< a slice of R x
  skipped,    ///< a projection that no token of the tile takes part in
  none        ///< all tickets are given out
};

/// One ticket's work.
struct work_item {
  item_kind kind = item_kind::tile;
  std::int32_t token_tile = 0;
  std::int32_t row_tile = 0; ///< tile of Y
  std::int32_t group = 0;    ///< projection: rank group
  std::int32_t slice = 0;
  std::int32_t first_block = 0; ///< block of 64 columns
  std::int32_t num_stages = 1;

  [[nodiscard]] QLR_DEVICE bool is_none() const { return kind == item_kind::none; }
  [[nodiscard]] QLR_DEVICE bool is_projection() const {
    return kind == item_kind::projection || kind == item_kind::skipped;
  }
};

/// Tiles of Y come in bands of so many token tiles, row tile by row tile, so that those under way at one time
/// share both operands: 132 tiles of 256 x 128 read 17 row tiles of Q and 8 token tiles of X, which is 33 MiB
/// at n = 8192 and 4 bits, instead of up to 132 row tiles.
inline constexpr std::uint32_t band_token_tiles = 8;

/// The item of a ticket; all lanes of a warp call it and get the same.
template <kernel_thread Thread>
[[nodiscard]] QLR_DEVICE work_item make_item(Thread& thread, const matmul_arguments& arguments,
                                             std::uint32_t ticket, int tile_tokens) {
  const matmul_schedule& schedule = arguments.schedule;
  const auto clip = [](index_t stages, index_t total, index_t first) {
    return static_cast<std::int32_t>(stages < total - first ? stages : total - first);
  };
  work_item item;
  const auto right_items = static_cast<std::uint32_t>(arguments.num_right_items());
  if (ticket < right_items) {
    const auto slices = static_cast<std::uint32_t>(schedule.right_slices);
    const auto groups = static_cast<std::uint32_t>(arguments.num_groups());
    item.slice = static_cast<std::int32_t>(ticket % slices);
    item.group = static_cast<std::int32_t>(ticket / slices % groups);
    item.token_tile = static_cast<std::int32_t>(ticket / slices / groups);
    const std::int32_t adapter = arguments.group(item.group).adapter;
    item.kind = takes_part(thread, arguments, item.token_tile, tile_tokens, adapter) ? item_kind::projection
                                                                                     : item_kind::skipped;
    const index_t first = item.slice * schedule.right_slice_stages;
    item.first_block = static_cast<std::int32_t>(first);
    item.num_stages = item.kind == item_kind::skipped
                          ? 1
                          : clip(schedule.right_slice_stages, arguments.num_right_blocks(), first);
    return item;
  }
  ticket -= right_items;
  const auto slices = static_cast<std::uint32_t>(schedule.slices);
  const auto rows = static_cast<std::uint32_t>(schedule.row_tiles);
  item.slice = static_cast<std::int32_t>(ticket % slices);
  const auto token_tiles = static_cast<std::uint32_t>(schedule.token_tiles);
  const std::uint32_t tile = ticket / slices;
  if (tile >= token_tiles * rows) {
    item.kind = item_kind::none;
    return item;
  }
  const std::uint32_t first_of_band = tile / (rows * band_token_tiles) * band_token_tiles;
  const std::uint32_t width =
      token_tiles - first_of_band < band_token_tiles ? token_tiles - first_of_band : band_token_tiles;
  const std::uint32_t in_band = tile - first_of_band * rows;
  item.row_tile = static_cast<std::int32_t>(in_band / width);
  item.token_tile = static_cast<std::int32_t>(first_of_band + in_band % width);
  const index_t first = item.slice * schedule.slice_stages;
  item.first_block = static_cast<std::int32_t>(first * schedule.stage_blocks);
  const index_t stages =
      (arguments.weights.columns.num_blocks + schedule.stage_blocks - 1) / schedule.stage_blocks;
  item.num_stages = clip(schedule.slice_stages, stages, first);
  return item;
}

} // namespace qlr::cuda::detail
