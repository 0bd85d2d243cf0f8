// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/config.hpp>
#include <qlr/cuda/detail/level_table.hpp>
#include <qlr/cuda/detail/matmul_items.hpp>
#include <qlr/cuda/detail/matmul_tile.hpp>
#include <qlr/cuda/detail/warpgroup_thread.hpp>

#include <cstdint>

namespace qlr::cuda::detail {

// A tile of Y^T, 128 RowTiles rows of Q by 128 tokens, is computed by two warpgroups. Each holds half of the
// rows as RowTiles products of 64 rows, A from registers, and all read the same tile of X from shared memory.
//
// Clocks of a multiprocessor (sm_90: 2048 products of 16-bit numbers per clock, so m64n128k16 takes 64; 128
// bytes of shared memory per clock) per step of 16 columns:
//
//   RowTiles                             2: 256 x 128    1: 128 x 128
//   tensor cores: products of 64 clocks      256             128
//   shared memory: B, 4 KiB per product      128              64
//     look-ups, 128 bytes per 32 pairs        64              32
//     X written, 4 KiB                        32              32
//     sum                                    224 (87 %)      128 (100 %)
//   bytes of 4-bit codes and X per clock      24              40       from the second-level cache
//
// 128 x 256 by m64n256k16 would also take 224 of 256 clocks of shared memory, but 36 bytes per clock.
// 8-bit codes need two look-ups per pair: 288 of 256 clocks, so shared memory limits them to 89 %.
// Instructions of a warp per step, 256 clocks, two warps per scheduler: 8 pairs need two for the address, the
// look-up and the scale, 32, 40 with zero points; with products, copies, scales and loop about 80: 160 of 256
// slots.
// Registers of a thread, RowTiles = 2 and 4 bits: 128 sums, 16 fragments of two steps, 16 codes of two
// blocks, the rest for addresses, scales and zero points: 199 in all; the kernel around it uses all 255.
//
// Step j + 1 is looked up while step j is multiplied: when products j have been issued, the wait for products
// j - 1 frees their fragments; the look-ups take about 100 clocks of latency, products j take 128 alone and
// 256 when the other warpgroup's are between them.
//
// Ring of X: stage s + stages - 2 is asked for during stage s, into the slot of stage s - 2, whose products
// all warps have waited for when they met at the start of stage s; those of the last step of stage s - 1 are
// still under way then. Scales of stage s + 1 are read during stage s, so two stages have landed at its
// start.

/// How the warps of two warpgroups share a tile of Y; see tile_shape. Each warp has RowTiles blocks of 16
/// rows of Q: the same block of each warp of a group makes the 64 rows of a product.
template <int RowTiles>
struct group_shape {
  static constexpr int tokens = 128;
  static constexpr int row_warps = 8;
  static constexpr int col_warps = 1;
  static constexpr int token_warps = 1;
  static constexpr int warps = 8;
  static constexpr int threads = 2 * warpgroup_size;
  static constexpr int least_blocks = 1;
  static constexpr int warp_tiles = RowTiles;
  static constexpr int row_tiles = warps * RowTiles;
  static constexpr int rows = row_tiles * tile_rows;
  static constexpr int fragments = tokens / 8;
  static constexpr int stage_blocks = 1;
  static constexpr int partial_threads = threads;
  static constexpr int group_tiles = RowTiles;
};

template <class Shape>
inline constexpr bool is_group_shape = false;
template <int RowTiles>
inline constexpr bool is_group_shape<group_shape<RowTiles>> = true;

/// Whether X has to be arranged: products read it as it lies in shared memory.
[[nodiscard]] QLR_HOST_DEVICE constexpr bool needs_arranged_x(const packed_view& weights) {
  return weights.column_factors != nullptr || !weights.columns.is_identity();
}

/// Where things are in the shared memory of a block: table and control words, ring of X, ring of scales and
/// zero points.
struct group_memory {
  static constexpr int stages = 6;
  static constexpr int x_stage_bytes = 128 * 2 * block_cols; ///< 128 tokens, 64 columns
  int x = 0;
  int scales = 0;
  int zeros = 0; ///< in a stage of scales
  int scale_stage_bytes = 0;
  int bytes = 0;
  int stage_groups = 1; ///< groups of columns of a stage that have a scale of their own
};

template <int Bits, class Shape>
[[nodiscard]] QLR_HOST_DEVICE constexpr group_memory lay_out_group_memory(const packed_view& weights) {
  constexpr int alignment = 1024;
  group_memory out;
  out.stage_groups = weights.scale_steps == 4 ? 1 : weights.scale_steps == 2 ? 2 : 4;
  const int numbers = Shape::row_tiles * tile_rows * out.stage_groups;
  out.zeros = numbers * number_bytes(weights.scale_kind);
  out.scale_stage_bytes =
      out.zeros + (weights.zeros != nullptr ? numbers * number_bytes(weights.zero_kind) : 0);
  out.x = (tile_memory<Bits, Shape>::ring_offset + alignment - 1) / alignment * alignment;
  out.scales = out.x + group_memory::stages * group_memory::x_stage_bytes;
  out.bytes = out.scales + group_memory::stages * out.scale_stage_bytes;
  return out;
}

/// One thread's share of the scales or zero points of all stages: at most one chunk of 16 bytes of each.
class number_copy {
public:
  QLR_DEVICE number_copy(const packed_view& weights, const void* numbers, number_kind kind, int stage_groups,
                         index_t first_row_tile, int row_tiles, int first_block, int index)
      : step_(first_block * steps_per_block +
              index / number_bytes(kind) % stage_groups * weights.scale_steps),
        group_steps_(static_cast<int>(weights.columns.group_stride / step_cols)),
        groups_left_(static_cast<int>(weights.columns.num_groups - 1)), bytes_(16 * number_bytes(kind)) {
    const int row_tile = index / number_bytes(kind) / stage_groups;
    if (numbers == nullptr || row_tile >= row_tiles) return;
    const index_t tile = first_row_tile + row_tile;
    const index_t last = weights.row_tiles - 1;
    const int skipped = step_ / group_steps_ < groups_left_ ? step_ / group_steps_ : groups_left_;
    step_ -= skipped * group_steps_;
    groups_left_ -= skipped;
    from_ = static_cast<const unsigned char*>(numbers) +
            ((tile < last ? tile : last) * weights.columns.num_groups + skipped) * bytes_ +
            16 * (index % number_bytes(kind));
  }

  /// To be called for each stage in turn.
  template <class Thread>
  QLR_DEVICE void start_next(Thread& thread, unsigned char* to) {
    if (from_ == nullptr) return;
    while (step_ >= group_steps_ && groups_left_ > 0) {
      step_ -= group_steps_;
      --groups_left_;
      from_ += bytes_;
    }
    thread.copy_async(to + 16 * thread.index(), from_, 16);
    step_ += steps_per_block;
  }

private:
  const unsigned char* from_ = nullptr; ///< null: nothing to copy
  int step_;                            ///< of the next stage, counted from the start of the group at from_
  int group_steps_;
  int groups_left_; ///< behind the one at from_
  int bytes_;       ///< of 16 rows of a group
};

/// One thread's share of the tiles of X of all stages: 4 chunks of 16 bytes of each, 8 threads for the 128
/// bytes of a token. Tokens that do not exist repeat the last one.
class x_copy {
public:
  QLR_DEVICE x_copy(const matmul_arguments& arguments, index_t first_token, int first_block, int index)
      : offset_(16 * swizzled_chunk(index / 8, index % 8)) {
    const int col = first_block * block_cols + 8 * (index % 8);
    const packed_view& weights = arguments.weights;
    const bool is_arranged = arguments.arranged != nullptr;
    const index_t cols = is_arranged ? weights.columns.num_blocks * block_cols : weights.columns.cols;
    const index_t stride = is_arranged ? cols : arguments.x_row_stride;
    left_ = static_cast<int>(cols) - col;
    QLR_DEVICE_UNROLL
    for (int i = 0; i < chunks; ++i) {
      const index_t token = first_token + index / 8 + tokens_between * i;
      const index_t last = arguments.tokens - 1;
      from_[i] =
          (is_arranged ? arguments.arranged : arguments.x) + (token < last ? token : last) * stride + col;
    }
  }

  /// To be called for each stage in turn.
  template <class Thread>
  QLR_DEVICE void start_next(Thread& thread, unsigned char* tile) {
    unsigned char* to = tile + offset_;
    if (left_ >= 8) {
      QLR_DEVICE_UNROLL
      for (int i = 0; i < chunks; ++i) thread.copy_async(to + i * bytes_between, from_[i], 16);
    } else {
      const int bytes = left_ > 0 ? 2 * left_ : 0;
      QLR_DEVICE_UNROLL
      for (int i = 0; i < chunks; ++i) thread.copy_async(to + i * bytes_between, from_[i], bytes);
    }
    QLR_DEVICE_UNROLL
    for (const std::uint16_t*& from : from_) from += block_cols;
    left_ -= block_cols;
  }

private:
  static constexpr int chunks = 4;
  static constexpr int tokens_between = group_shape<1>::tokens / chunks;
  static constexpr int bytes_between = tokens_between * 2 * block_cols;

  const std::uint16_t* from_[chunks];
  int left_;   ///< columns from here to the last
  int offset_; ///< in a tile
};

/// One tile of Y^T: sums of Q X^T of the threads of two warpgroups.
template <class T, int Bits, int RowTiles, warpgroup_thread Thread>
class group_tile {
public:
  using shape = group_shape<RowTiles>;
  using tile_sums = float[RowTiles][shape::fragments][4];

  QLR_DEVICE group_tile(Thread& thread, const matmul_arguments& args, const work_item& item)
      : thread_(thread), args_(args), memory_(lay_out_group_memory<Bits, shape>(args.weights)),
        lookup_(thread.template shared<std::uint32_t>(0), thread.index() % warp_size),
        x_copy_(args, item.token_tile * index_t{shape::tokens}, item.first_block, thread.index()),
        scale_copy_(args.weights, args.weights.scales, args.weights.scale_kind, memory_.stage_groups,
                    item.row_tile * index_t{shape::row_tiles}, shape::row_tiles, item.first_block,
                    thread.index()),
        zero_copy_(args.weights, args.weights.zeros, args.weights.zero_kind, memory_.stage_groups,
                   item.row_tile * index_t{shape::row_tiles}, shape::row_tiles, item.first_block,
                   thread.index()),
        num_stages_(item.num_stages) {
    QLR_DEVICE_UNROLL
    for (int r = 0; r < RowTiles; ++r) {
      const index_t tile = item.row_tile * index_t{shape::row_tiles} + local_tile(r);
      const index_t last = args.weights.row_tiles - 1;
      codes_of_row_[r] = args.weights.codes +
                         ((tile < last ? tile : last) * args.weights.columns.num_blocks + item.first_block) *
                             words_per_block(Bits);
    }
  }

  /// sums += the tile's part of Q X^T, without row factors.
  QLR_DEVICE void multiply(tile_sums& sums) {
    for (int stage = 0; stage < group_memory::stages - 2; ++stage) start_stage(stage);
    lane_codes<Bits> codes[RowTiles];
    load_stage_codes(0, codes);
    thread_.template wait_copies<group_memory::stages - 3>(); // stage 0
    thread_.sync();
    std::uint32_t fragments[2][RowTiles][4];
    look_up(0, 0, codes, fragments[0]);
    for (int stage = 0; stage < num_stages_; ++stage) {
      thread_.template wait_copies<group_memory::stages - 4>(); // stages up to stage + 1
      thread_.fence_copies();
      thread_.sync();
      multiply_stage(stage, codes, fragments, sums);
    }
    thread_.take_products(flat_tiles(sums));
    thread_.template wait_copies<0>();
    thread_.sync();
  }

private:
  /// This warp's block of 16 rows in the tile, of product r.
  [[nodiscard]] QLR_DEVICE int local_tile(int r) const { return thread_.index() / warp_size * RowTiles + r; }

  /// Sums of a product as multiply_async takes them: those of 8 tokens after those of the 8 before.
  [[nodiscard]] QLR_DEVICE static float (&flat(float (&sums)[shape::fragments][4]))[4 * shape::fragments] {
    return reinterpret_cast<float(&)[4 * shape::fragments]>(sums);
  }
  [[nodiscard]] QLR_DEVICE static float (&flat_tiles(tile_sums& sums))[RowTiles][4 * shape::fragments] {
    return reinterpret_cast<float(&)[RowTiles][4 * shape::fragments]>(sums);
  }

  [[nodiscard]] QLR_DEVICE static int slot_of(int stage) { return stage % group_memory::stages; }
  [[nodiscard]] QLR_DEVICE unsigned char* x_of(int stage) const {
    return thread_.template shared<unsigned char>(memory_.x + slot_of(stage) * group_memory::x_stage_bytes);
  }
  [[nodiscard]] QLR_DEVICE unsigned char* scales_of(int stage) const {
    return thread_.template shared<unsigned char>(memory_.scales +
                                                  slot_of(stage) * memory_.scale_stage_bytes);
  }

  /// Starts the copies of a stage, or of nothing behind the last one; always closes a group of copies.
  QLR_DEVICE void start_stage(int stage) {
    if (stage < num_stages_) {
      x_copy_.start_next(thread_, x_of(stage));
      scale_copy_.start_next(thread_, scales_of(stage));
      zero_copy_.start_next(thread_, scales_of(stage) + memory_.zeros);
    }
    thread_.commit_copies();
  }

  QLR_DEVICE void load_stage_codes(int stage, lane_codes<Bits> (&codes)[RowTiles]) const {
    const int block = stage < num_stages_ ? stage : num_stages_ - 1;
    QLR_DEVICE_UNROLL
    for (int r = 0; r < RowTiles; ++r) {
      codes[r] =
          load_codes<Bits>(codes_of_row_[r] + block * words_per_block(Bits), thread_.index() % warp_size);
    }
  }

  QLR_DEVICE void multiply_stage(int stage, lane_codes<Bits> (&codes)[RowTiles],
                                 std::uint32_t (&fragments)[2][RowTiles][4], tile_sums& sums) {
    const std::uint32_t tile = thread_.shared_address(x_of(stage));
    lane_codes<Bits> next[RowTiles];
    QLR_DEVICE_UNROLL
    for (int step = 0; step < steps_per_block; ++step) {
      thread_.fence_products();
      QLR_DEVICE_UNROLL
      for (int r = 0; r < RowTiles; ++r) {
        thread_.template multiply_async<T, shape::tokens>(flat(sums[r]), fragments[step % 2][r],
                                                          swizzled_descriptor(tile, step));
      }
      thread_.commit_products();
      // The other steps have more to do besides: sync() before step 0, scales before step 0 or 1.
      if (step == 0) load_stage_codes(stage + 1, next);
      if (step == 2) start_stage(stage + group_memory::stages - 2);
      thread_.template wait_products<1>();
      if (step + 1 < steps_per_block) {
        look_up(stage, step + 1, codes, fragments[(step + 1) % 2]);
      } else {
        look_up(stage + 1, 0, next, fragments[0]);
      }
    }
    QLR_DEVICE_UNROLL
    for (int r = 0; r < RowTiles; ++r) codes[r] = next[r];
  }

  /// The fragments of a step: (level - zero) * scale.
  QLR_DEVICE void look_up(int stage, int step, const lane_codes<Bits> (&codes)[RowTiles],
                          std::uint32_t (&fragments)[RowTiles][4]) {
    const int steps = args_.weights.scale_steps; // 1, 2 or 4
    if ((step & (steps - 1)) == 0) load_scales(stage, steps == 2 ? step / 2 : step & (4 - steps));
    QLR_DEVICE_UNROLL
    for (int r = 0; r < RowTiles; ++r) lookup_(codes[r], step, fragments[r]);
    if (args_.weights.zeros != nullptr) {
      QLR_DEVICE_UNROLL
      for (int r = 0; r < RowTiles; ++r) {
        QLR_DEVICE_UNROLL
        for (int i = 0; i < 4; ++i) fragments[r][i] = subtract_pairs<T>(fragments[r][i], zeros_[r][i % 2]);
      }
    }
    QLR_DEVICE_UNROLL
    for (int r = 0; r < RowTiles; ++r) {
      QLR_DEVICE_UNROLL
      for (int i = 0; i < 4; ++i) fragments[r][i] = multiply_pairs<T>(fragments[r][i], scales_[r][i % 2]);
    }
  }

  /// Scales and zero points of rows g and g + 8 of each product.
  QLR_DEVICE void load_scales(int stage, int group) {
    const unsigned char* numbers = scales_of(stage);
    load_pairs(args_.weights.scale_kind, numbers, group, scales_);
    if (args_.weights.zeros != nullptr)
      load_pairs(args_.weights.zero_kind, numbers + memory_.zeros, group, zeros_);
  }
  QLR_DEVICE void load_pairs(number_kind kind, const unsigned char* numbers, int group,
                             std::uint32_t (&pairs)[RowTiles][2]) const {
    // One branch for all numbers: each call sees a constant.
    if (kind == number_kind::fp16) return load_pairs_of<number_kind::fp16>(numbers, group, pairs);
    if (kind == number_kind::bf16) return load_pairs_of<number_kind::bf16>(numbers, group, pairs);
    load_pairs_of<number_kind::fp32>(numbers, group, pairs);
  }
  template <number_kind Kind>
  QLR_DEVICE void load_pairs_of(const unsigned char* numbers, int group,
                                std::uint32_t (&pairs)[RowTiles][2]) const {
    QLR_DEVICE_UNROLL
    for (int r = 0; r < RowTiles; ++r) {
      const int first =
          (local_tile(r) * memory_.stage_groups + group) * tile_rows + thread_.index() % warp_size / 4;
      QLR_DEVICE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float value = load_number(Kind, numbers, first + 8 * half);
        pairs[r][half] = to_pair<T>(value, value);
      }
    }
  }

  Thread& thread_;
  const matmul_arguments& args_;
  group_memory memory_;
  level_lookup<Bits> lookup_;
  x_copy x_copy_;
  number_copy scale_copy_;
  number_copy zero_copy_;
  int num_stages_;
  const std::uint32_t* codes_of_row_[RowTiles]; ///< this warp's
  std::uint32_t scales_[RowTiles][2] = {};      ///< of rows g and g + 8, in both halves
  std::uint32_t zeros_[RowTiles][2] = {};
};

} // namespace qlr::cuda::detail
