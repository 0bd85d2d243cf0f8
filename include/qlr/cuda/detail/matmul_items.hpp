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
  QLR_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) found |= thread.shuffle_xor(found, mask);
  return found != 0;
}

/// One ticket's work: a slice of a projection R x, or of a tile of Y.
struct work_item {
  bool is_none = false; ///< all tickets are given out
  bool is_projection = false;
  bool is_skipped = false; ///< a projection that no token of the tile takes part in
  std::int32_t token_tile = 0;
  std::int32_t row_tile = 0; ///< tile of Y
  std::int32_t group = 0;    ///< projection: rank group
  std::int32_t slice = 0;
  std::int32_t first_block = 0; ///< block of 64 columns
  std::int32_t num_stages = 1;
};

/// The item of a ticket; all threads call it and get the same.
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
    item.is_projection = true;
    item.slice = static_cast<std::int32_t>(ticket % slices);
    item.group = static_cast<std::int32_t>(ticket / slices % groups);
    item.token_tile = static_cast<std::int32_t>(ticket / slices / groups);
    item.is_skipped =
        !takes_part(thread, arguments, item.token_tile, tile_tokens, arguments.group(item.group).adapter);
    const index_t first = item.slice * schedule.right_slice_stages;
    item.first_block = static_cast<std::int32_t>(first);
    item.num_stages =
        item.is_skipped ? 1 : clip(schedule.right_slice_stages, arguments.num_right_blocks(), first);
    return item;
  }
  ticket -= right_items;
  const auto slices = static_cast<std::uint32_t>(schedule.slices);
  const auto rows = static_cast<std::uint32_t>(schedule.row_tiles);
  item.slice = static_cast<std::int32_t>(ticket % slices);
  item.row_tile = static_cast<std::int32_t>(ticket / slices % rows);
  item.token_tile = static_cast<std::int32_t>(ticket / slices / rows);
  item.is_none = item.token_tile >= schedule.token_tiles;
  const index_t first = item.slice * schedule.slice_stages;
  item.first_block = static_cast<std::int32_t>(first * schedule.stage_blocks);
  const index_t stages =
      (arguments.weights.columns.num_blocks + schedule.stage_blocks - 1) / schedule.stage_blocks;
  item.num_stages = clip(schedule.slice_stages, stages, first);
  return item;
}

} // namespace qlr::cuda::detail
