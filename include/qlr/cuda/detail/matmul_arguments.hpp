// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/packed_layout.hpp>

#include <cstdint>

namespace qlr::cuda::detail {

/// Number formats of packed scales.
enum class number_kind : std::int32_t { fp16, bf16, fp32 };

[[nodiscard]] QLR_HOST_DEVICE constexpr int number_bytes(number_kind kind) {
  return kind == number_kind::fp32 ? 4 : 2;
}

/// Ranks of a rank group: those of one block of L.
inline constexpr int ranks_per_group = 64;

/// At most 64 ranks of the base's low-rank part or of one adapter: s L R = sum over groups. L and R are
/// divided by powers of two, which `scale` holds.
struct rank_group {
  const std::uint32_t* right =
      nullptr; ///< blocks of R: (column blocks of n, tiles, 512 words), 16-bit numbers
  const std::uint32_t* left =
      nullptr;               ///< steps of L: (row tiles, tiles, 128 words), one step of a 16-bit block
  float scale = 1;           ///< what (R x) is multiplied with
  std::int32_t tiles = 0;    ///< tiles of 16 ranks, 1 to 4
  std::int32_t adapter = -1; ///< tokens that name this adapter take part; -1: all tokens
};

/// Q: row factor * (level - zero) * scale.
struct packed_view {
  const std::uint32_t* codes = nullptr; ///< (row tiles, column blocks, words_per_block(bits))
  /// 16-bit levels; bits <= 4: of all pairs (left in the low half), 4^bits words;  8: of all codes, in both
  /// halves
  const std::uint32_t* table = nullptr;
  const void* scales = nullptr; ///< (row tiles, groups, 16); each row's largest is in (0.5, 1]
  const void* zeros = nullptr;  ///< the same shape, null for none
  number_kind scale_kind = number_kind::fp32;
  number_kind zero_kind = number_kind::fp32;
  const float* row_factors = nullptr;    ///< (16 * row tiles) powers of two
  const float* column_factors = nullptr; ///< (64 * column blocks), what X is multiplied with; null for ones
  index_t rows = 0;                      ///< m
  index_t row_tiles = 0;
  column_map columns;
  std::int32_t scale_steps = 4; ///< steps_per_scale(columns)
};

/// Work of one launch, in the order of its tickets: projections (token tile, rank group, slice), then tiles
/// of Y (token tile, row tile, slice).
struct matmul_schedule {
  index_t token_tiles = 0;
  index_t row_tiles = 0;         ///< tiles of rows of Y, of the variant's height
  std::int32_t stage_blocks = 1; ///< blocks of 64 columns that a stage of a tile of Y holds
  std::int32_t slices = 1;       ///< parts of the reduction of a tile of Y
  index_t slice_stages = 1;      ///< stages of a slice, the last one has fewer
  std::int32_t right_slices = 1; ///< the same of a projection, whose stages are one block
  index_t right_slice_stages = 1;
  std::int32_t stages = 2;       ///< of the ring in shared memory
  std::int32_t stage_bytes = 0;  ///< codes, X, scales, zeros, column factors
  std::int32_t scale_offset = 0; ///< in a stage
  std::int32_t zero_offset = 0;
  std::int32_t factor_offset = 0;
  bool gathers = false; ///< X is read element by element
};

/// Words at the start of a workspace that are zero before and after every launch.
struct matmul_counters {
  static constexpr int most_token_tiles = 1024;
  static constexpr int most_split_tiles = 4096;
  std::uint32_t ticket;
  std::uint32_t exited;                           ///< blocks that are done
  std::uint32_t ready[most_token_tiles];          ///< rank groups that are projected
  std::uint32_t tile_arrivals[most_split_tiles];  ///< slices of a tile of Y that are summed
  std::uint32_t right_arrivals[most_split_tiles]; ///< slices of a projection that are summed; only where > 1
};

/// What every variant of the fused product gets.
struct matmul_arguments {
  packed_view weights;
  matmul_schedule schedule;

  const std::uint16_t* x = nullptr; ///< X (t,n)
  index_t x_row_stride = 0;
  index_t x_col_stride = 1;
  /// X times the column factors in the columns of blocks, (t, 64 * column blocks), zero where there is
  /// padding; only for kernels of warpgroups, null where they can read X itself.
  std::uint16_t* arranged = nullptr;
  void* y = nullptr; ///< Y (t,m), float or the type of X
  index_t y_row_stride = 0;
  index_t y_col_stride = 1;
  bool y_is_float = false;
  index_t tokens = 0;          ///< t
  const float* bias = nullptr; ///< (m) or null

  const rank_group* base_groups = nullptr;
  const rank_group* adapter_groups = nullptr;
  std::int32_t num_base_groups = 0;
  std::int32_t num_adapter_groups = 0;
  const std::int32_t* adapter_of_token = nullptr; ///< (t), -1: none; null without adapters

  matmul_counters* counters = nullptr;
  std::uint16_t* projected = nullptr; ///< scale * R x / its scale: (t rounded up to tiles, groups, 64)
  float* projected_scales = nullptr;  ///< (t rounded up, groups) powers of two
  float* right_partials = nullptr;    ///< (token tiles, groups, slices, tokens of a tile, 64)
  float* tile_partials = nullptr;     ///< (tiles of Y, slices, elements of a tile)

  [[nodiscard]] QLR_HOST_DEVICE int num_groups() const { return num_base_groups + num_adapter_groups; }
  [[nodiscard]] QLR_HOST_DEVICE const rank_group& group(int index) const {
    return index < num_base_groups ? base_groups[index] : adapter_groups[index - num_base_groups];
  }
  /// Blocks of 64 columns of R, which has no padding between groups of columns.
  [[nodiscard]] QLR_HOST_DEVICE index_t num_right_blocks() const {
    return (weights.columns.cols + block_cols - 1) / block_cols;
  }
  [[nodiscard]] QLR_HOST_DEVICE index_t num_right_items() const {
    return schedule.token_tiles * num_groups() * schedule.right_slices;
  }
  [[nodiscard]] QLR_HOST_DEVICE index_t num_items() const {
    return num_right_items() + schedule.token_tiles * schedule.row_tiles * schedule.slices;
  }
};

} // namespace qlr::cuda::detail
