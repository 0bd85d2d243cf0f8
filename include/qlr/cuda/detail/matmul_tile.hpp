// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/kernel_thread.hpp>
#include <qlr/cuda/detail/level_table.hpp>
#include <qlr/cuda/detail/matmul_arguments.hpp>

namespace qlr::cuda::detail {

// How a block's warps share a tile of Y, 128 rows of Q times `Tokens` tokens. A warp reads each operand
// register of Q once and uses it for all of its tokens, each of X once for all of its row tiles:
//
//   tokens    warps: rows x columns x tokens   row tiles of a warp   blocks at once   registers per thread
//   8, 16     4 x 2 x 1                        2                     2                at most 128
//   32, 64    4 x 1 x 1                        2                     2                at most 255
//   128       2 x 1 x 2                        4                     2                at most 255
//
// Shared memory serves one row of 128 bytes per clock. At one token and 4 bits, 1024 weights of a warp cost
// 16 look-ups, 4 rows of codes and 8 / 2 of X, since two row tiles share X: 24 clocks, 42 weights per clock,
// above the 31 that memory delivers. At 128 tokens a warp's 64 x 64 x 16 products cost 16 look-ups, 16 rows
// of X and 4 of codes, for 32 instructions of multiply_add: 4 warps take 144 clocks of shared memory in the
// 256 that tensor cores need at 1024 multiply-adds per clock.
template <int Tokens>
struct tile_shape {
  static_assert(Tokens == 8 || Tokens == 16 || Tokens == 32 || Tokens == 64 || Tokens == 128);
  static constexpr int rows = 128;
  static constexpr int tokens = Tokens;
  static constexpr int row_warps = Tokens == 128 ? 2 : 4;
  static constexpr int col_warps = Tokens <= 16 ? 2 : 1; ///< each takes another block of a stage
  static constexpr int token_warps = Tokens == 128 ? 2 : 1;
  static constexpr int warps = row_warps * col_warps * token_warps;
  static constexpr int threads = warp_size * warps;
  static constexpr int least_blocks = 2;
  static constexpr int row_tiles = rows / tile_rows;         ///< of the block
  static constexpr int warp_tiles = row_tiles / row_warps;   ///< of a warp
  static constexpr int fragments = Tokens / 8 / token_warps; ///< groups of 8 tokens of a warp
  static constexpr int stage_blocks = Tokens == 8    ? 4
                                      : Tokens == 16 ? 2
                                                     : 1;     ///< blocks of 64 columns in a stage
  static constexpr int partial_threads = threads / col_warps; ///< threads that hold sums at the end
  /// Up to 64 tokens the sums of a scale group are scaled, in fp32; at 128 they would cost 128 registers and
  /// more time than scaling the operands, which rounds once more.
  static constexpr bool scales_operands = Tokens == 128;
};

/// Bytes of a stage and of a block's shared memory: table, items, an answer, sums of the second half of the
/// columns, ring of stages.
template <int Bits, class Shape>
struct tile_memory {
  using shape = Shape;
  static constexpr int right_bytes = 4 * words_per_block(number_bits) * 4; ///< four tiles of R
  static constexpr int weight_bytes = shape::row_tiles * shape::stage_blocks * words_per_block(Bits) * 4;
  static constexpr int code_bytes = weight_bytes > right_bytes ? weight_bytes : right_bytes;
  static constexpr int x_bytes = shape::stage_blocks * shape::tokens * block_cols * 2;

  static constexpr int num_items = 16; ///< more than stages that are under way
  static constexpr int items_offset = table_bytes(Bits);
  static constexpr int answer_offset = items_offset + 32 * num_items;
  static constexpr int sums_offset = answer_offset + 128;
  static constexpr int ring_offset = sums_offset + (shape::col_warps - 1) * shape::rows * shape::tokens * 4;
};

/// Position of a thread's warp in the tile.
template <class Shape>
struct warp_place {
  int lane;
  int row_warp;
  int token_warp;
  int col_warp;

  QLR_DEVICE explicit warp_place(int thread_index) {
    using shape = Shape;
    const int warp = thread_index / warp_size;
    lane = thread_index % warp_size;
    row_warp = warp % shape::row_warps;
    token_warp = warp / shape::row_warps % shape::token_warps;
    col_warp = warp / (shape::row_warps * shape::token_warps);
  }
};

/// A scale or zero point of packed_view.
[[nodiscard]] QLR_DEVICE inline float load_number(number_kind kind, const unsigned char* numbers, int index) {
  if (kind == number_kind::fp32) return reinterpret_cast<const float*>(numbers)[index];
  const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(numbers)[index];
  return kind == number_kind::fp16 ? half_to_float(float16{bits}) : half_to_float(bfloat16{bits});
}

/// The same of several, with one look at the format, which is the same for all threads.
template <int Count>
QLR_DEVICE void load_numbers(number_kind kind, const unsigned char* numbers, const int (&indices)[Count],
                             float (&out)[Count]) {
  if (kind == number_kind::fp16) {
    QLR_DEVICE_UNROLL
    for (int i = 0; i < Count; ++i) out[i] = load_number(number_kind::fp16, numbers, indices[i]);
  } else if (kind == number_kind::bf16) {
    QLR_DEVICE_UNROLL
    for (int i = 0; i < Count; ++i) out[i] = load_number(number_kind::bf16, numbers, indices[i]);
  } else {
    QLR_DEVICE_UNROLL
    for (int i = 0; i < Count; ++i) out[i] = load_number(number_kind::fp32, numbers, indices[i]);
  }
}

/// Reads second operands of multiply_add from a swizzled tile of X, 64 columns.
///
/// As swizzling is an exclusive or with the token's number modulo 8, the lowest bits of a lane's row, the
/// address for a step differs by an exclusive or with 32 * step, and that for a fragment by a constant.
class fragment_reader {
public:
  /// @param fragments_at_once  1: two steps of a fragment; 2: one step of two fragments
  QLR_DEVICE fragment_reader(int lane, int fragments_at_once) {
    const int row = lane % 8;
    const int matrix = lane / 8;
    const int fragment = fragments_at_once == 2 ? matrix / 2 : 0;
    const int chunk = fragments_at_once == 2 ? matrix % 2 : matrix;
    row_ = 128 * (8 * fragment + row);
    chunk_ = 16 * (chunk ^ row);
  }

  /// out[0], out[1]: the two fragments, or the two steps, from `fragment` and `step` on.
  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread, const unsigned char* x, int fragment, int step,
                             std::uint32_t (&out)[2][2]) const {
    std::uint32_t words[4];
    thread.load_matrices(x + 1024 * fragment + (row_ + (chunk_ ^ (32 * step))), words);
    out[0][0] = words[0];
    out[0][1] = words[1];
    out[1][0] = words[2];
    out[1][1] = words[3];
  }

private:
  int row_;
  int chunk_;
};

/// One block of 64 columns for one warp: sums += Q X^T.
template <int Bits, class T, class Shape, kernel_thread Thread>
class tile_product {
public:
  using shape = Shape;
  using memory = tile_memory<Bits, Shape>;
  using tile_sums = float[shape::warp_tiles][shape::fragments][4];

  QLR_DEVICE tile_product(Thread& thread, const matmul_arguments& arguments, const warp_place<Shape>& place,
                          const std::uint32_t* table)
      : thread_(thread), arguments_(arguments), place_(place), look_up_(table, place.lane),
        read_(place.lane, shape::fragments == 1 ? 1 : 2) {}

  /// @param stage  codes, X, scales, zeros and column factors in shared memory
  /// @param block  of the stage
  QLR_DEVICE void operator()(const unsigned char* stage, int block, tile_sums& sums) const {
    const place_in_stage at{stage, block};
    if constexpr (shape::scales_operands) {
      multiply_scaled(at, sums);
    } else if (arguments_.weights.scale_steps == steps_per_block && arguments_.weights.zeros == nullptr) {
      multiply_levels<true>(at, sums);
    } else {
      multiply_levels<false>(at, sums);
    }
  }

private:
  using operands = std::uint32_t[shape::warp_tiles][4];
  static constexpr int num_scales = 2 * shape::warp_tiles; ///< rows g and g + 8 of each row tile

  struct place_in_stage {
    const unsigned char* stage;
    int block;
  };

  /// Number of a row tile's block in the stage.
  [[nodiscard]] QLR_DEVICE int block_of(const place_in_stage& at, int tile) const {
    return (place_.row_warp * shape::warp_tiles + tile) * shape::stage_blocks + at.block;
  }

  /// Levels of a row tile of this warp at one step; `codes` keeps those of later steps.
  QLR_DEVICE void look_up(const place_in_stage& at, int tile, int step, lane_codes<Bits>& codes,
                          std::uint32_t (&levels)[4]) const {
    if (step % steps_per_load(Bits) == 0) {
      const auto* blocks = reinterpret_cast<const std::uint32_t*>(at.stage);
      load_step_codes(blocks + block_of(at, tile) * words_per_block(Bits), place_.lane, step, codes);
    }
    look_up_(codes, step, levels);
  }

  [[nodiscard]] QLR_DEVICE const unsigned char* x_of(const place_in_stage& at) const {
    return at.stage + memory::code_bytes + at.block * shape::tokens * block_cols * 2;
  }

  [[nodiscard]] QLR_DEVICE bool ends_scale(int step) const {
    const int steps = arguments_.weights.scale_steps;
    return (step & (steps - 1)) == steps - 1;
  }
  [[nodiscard]] QLR_DEVICE bool starts_scale(int step) const {
    return (step & (arguments_.weights.scale_steps - 1)) == 0;
  }

  /// Indices of the scales of this thread's rows of a row tile: g, then g + 8.
  QLR_DEVICE void find_scales(const place_in_stage& at, int tile, int step, int* out) const {
    const int steps = arguments_.weights.scale_steps;
    const int block = block_of(at, tile);
    const int slot = steps == 4 ? block : steps == 2 ? 2 * block + step / 2 : 4 * block + step;
    out[0] = tile_rows * slot + place_.lane / 4;
    out[1] = out[0] + 8;
  }

  /// Scales or zero points of this thread's rows.
  QLR_DEVICE void load_row_numbers(const place_in_stage& at, int step, number_kind kind, int offset,
                                   float (&out)[num_scales]) const {
    int indices[num_scales];
    QLR_DEVICE_UNROLL
    for (int i = 0; i < shape::warp_tiles; ++i) find_scales(at, i, step, indices + 2 * i);
    load_numbers(kind, at.stage + offset, indices, out);
  }

  /// X times the column factors, rounded to T.
  QLR_DEVICE void apply_factors(const place_in_stage& at, int step, std::uint32_t (&x)[2]) const {
    if (arguments_.weights.column_factors == nullptr) return;
    const auto* factors = reinterpret_cast<const float*>(at.stage + arguments_.schedule.factor_offset) +
                          at.block * block_cols + step_cols * step + 2 * (place_.lane % 4);
    QLR_DEVICE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float_pair pair = *reinterpret_cast<const float_pair*>(factors + 8 * half);
      x[half] = scale_pair<T>(x[half], pair.values[0], pair.values[1]);
    }
  }

  /// Calls body(fragment, operand) for the fragments of this warp at one step. `pending` holds the next
  /// step's operand where one fragment is loaded for two steps at once.
  template <class Body>
  QLR_DEVICE void for_each_fragment(const place_in_stage& at, int step, std::uint32_t (&pending)[2][2],
                                    Body&& body) const {
    if constexpr (shape::fragments == 1) {
      if (step % 2 == 0) read_(thread_, x_of(at), 0, step, pending);
      std::uint32_t x[2] = {pending[step % 2][0], pending[step % 2][1]};
      apply_factors(at, step, x);
      body(0, x);
    } else {
      QLR_DEVICE_UNROLL
      for (int f = 0; f < shape::fragments; f += 2) {
        read_(thread_, x_of(at), place_.token_warp * shape::fragments + f, step, pending);
        QLR_DEVICE_UNROLL
        for (int i = 0; i < 2; ++i) {
          apply_factors(at, step, pending[i]);
          body(f + i, pending[i]);
        }
      }
    }
  }

  /// Levels times X; the sums of each scale group are scaled: sums += scale * (partial - zero * sum of x).
  ///
  /// @tparam IsPlain  no zero points, and one scale for a row of a block
  template <bool IsPlain>
  QLR_DEVICE void multiply_levels(const place_in_stage& at, tile_sums& sums) const {
    const bool has_zeros = !IsPlain && arguments_.weights.zeros != nullptr;
    tile_sums partial = {};
    float x_sums[shape::fragments][4] = {};
    lane_codes<Bits> codes[shape::warp_tiles];
    std::uint32_t pending[2][2];
    QLR_DEVICE_UNROLL
    for (int step = 0; step < steps_per_block; ++step) {
      operands levels;
      QLR_DEVICE_UNROLL
      for (int i = 0; i < shape::warp_tiles; ++i) look_up(at, i, step, codes[i], levels[i]);
      for_each_fragment(at, step, pending, [&](int f, const std::uint32_t(&x)[2]) {
        QLR_DEVICE_UNROLL
        for (int i = 0; i < shape::warp_tiles; ++i)
          thread_.template multiply_add<T>(partial[i][f], levels[i], x);
        if (has_zeros) {
          constexpr std::uint32_t one = pair_of_ones<T>();
          const std::uint32_t ones[4] = {one, one, one, one};
          thread_.template multiply_add<T>(x_sums[f], ones, x);
        }
      });
      if (IsPlain ? step + 1 < steps_per_block : !ends_scale(step)) continue;
      if (has_zeros) subtract_zeros(at, step, x_sums, partial);
      add_scaled(at, step, partial, sums);
    }
  }

  /// partial -= zero * sum of x.
  QLR_DEVICE void subtract_zeros(const place_in_stage& at, int step, float (&x_sums)[shape::fragments][4],
                                 tile_sums& partial) const {
    float zeros[num_scales];
    load_row_numbers(at, step, arguments_.weights.zero_kind, arguments_.schedule.zero_offset, zeros);
    QLR_DEVICE_UNROLL
    for (int f = 0; f < shape::fragments; ++f) {
      QLR_DEVICE_UNROLL
      for (int j = 0; j < 4; ++j) {
        QLR_DEVICE_UNROLL
        for (int i = 0; i < shape::warp_tiles; ++i) partial[i][f][j] -= zeros[2 * i + j / 2] * x_sums[f][j];
        x_sums[f][j] = 0;
      }
    }
  }

  /// sums += scale * partial, partial = 0.
  QLR_DEVICE void add_scaled(const place_in_stage& at, int step, tile_sums& partial, tile_sums& sums) const {
    float scales[num_scales];
    load_row_numbers(at, step, arguments_.weights.scale_kind, arguments_.schedule.scale_offset, scales);
    QLR_DEVICE_UNROLL
    for (int i = 0; i < shape::warp_tiles; ++i) {
      QLR_DEVICE_UNROLL
      for (int f = 0; f < shape::fragments; ++f) {
        QLR_DEVICE_UNROLL
        for (int j = 0; j < 4; ++j) {
          sums[i][f][j] += scales[2 * i + j / 2] * partial[i][f][j];
          partial[i][f][j] = 0;
        }
      }
    }
  }

  /// (level - zero) * scale in T, times X.
  QLR_DEVICE void multiply_scaled(const place_in_stage& at, tile_sums& sums) const {
    const packed_view& weights = arguments_.weights;
    std::uint32_t scales[shape::warp_tiles][2]; // rows g and g + 8, twice each
    lane_codes<Bits> codes[shape::warp_tiles];
    std::uint32_t pending[2][2];
    QLR_DEVICE_UNROLL
    for (int step = 0; step < steps_per_block; ++step) {
      operands levels;
      QLR_DEVICE_UNROLL
      for (int i = 0; i < shape::warp_tiles; ++i) {
        look_up(at, i, step, codes[i], levels[i]);
        if (weights.zeros != nullptr) {
          std::uint32_t zeros[2]; // not kept between steps: their registers are worth more than these loads
          load_twice(at, weights.zero_kind, arguments_.schedule.zero_offset, i, step, zeros);
          QLR_DEVICE_UNROLL
          for (int j = 0; j < 4; ++j) levels[i][j] = subtract_pairs<T>(levels[i][j], zeros[j % 2]);
        }
        if (starts_scale(step))
          load_twice(at, weights.scale_kind, arguments_.schedule.scale_offset, i, step, scales[i]);
        QLR_DEVICE_UNROLL
        for (int j = 0; j < 4; ++j) levels[i][j] = multiply_pairs<T>(levels[i][j], scales[i][j % 2]);
      }
      for_each_fragment(at, step, pending, [&](int f, const std::uint32_t(&x)[2]) {
        QLR_DEVICE_UNROLL
        for (int i = 0; i < shape::warp_tiles; ++i)
          thread_.template multiply_add<T>(sums[i][f], levels[i], x);
      });
    }
  }

  /// Numbers of rows g and g + 8 of a row tile of this warp, rounded to T, in both halves.
  QLR_DEVICE void load_twice(const place_in_stage& at, number_kind kind, int offset, int tile, int step,
                             std::uint32_t (&out)[2]) const {
    int indices[2];
    float numbers[2];
    find_scales(at, tile, step, indices);
    load_numbers(kind, at.stage + offset, indices, numbers);
    QLR_DEVICE_UNROLL
    for (int half = 0; half < 2; ++half)
      out[half] = static_cast<std::uint32_t>(to_half<T>(numbers[half]).bits) * 0x10001U;
  }

  Thread& thread_;
  const matmul_arguments& arguments_;
  warp_place<Shape> place_; ///< a copy: a reference into the owner would keep it out of registers
  level_lookup<Bits> look_up_;
  fragment_reader read_;
};

} // namespace qlr::cuda::detail
