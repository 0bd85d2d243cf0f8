// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/kernel_thread.hpp>
#include <qlr/cuda/detail/matrix_tiles.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/quant/concepts.hpp>
#include <qlr/quant/scale_fit.hpp>

#include <string_view>

namespace qlr::cuda::detail {

/// Columns that are rounded between two products with the coupling; their part of it, 64 KB, is in shared
/// memory.
inline constexpr int rounded_cols = 128;

/// Scale and zero point of element (row, col): blocks[row * row_stride + col / group_cols].
struct scale_lookup {
  const block_scale* blocks = nullptr;
  index_t row_stride = 0; ///< scales per row; 0: one for the tensor
  int group_cols = 1;

  [[nodiscard]] QLR_HOST_DEVICE block_scale operator()(index_t row, index_t col) const {
    return blocks[row * row_stride + static_cast<int>(col) / group_cols];
  }
};

/// Rounds `count` columns in visiting order, from the begin-th on, each for what the columns before it left.
///
/// Target of column j: w_j + sums_j + sum over l of this block with l < j of (e_l - old e_l) C(l,j).
/// Eight lanes share a row. Lane p holds the columns p, p + 8, ... of the block in registers; in each step
/// all lanes round the column that they hold next, the one whose turn it is tells the others by how much its
/// error changed, and each adds that to its later targets. The way from one column to the next, one rounding,
/// one shuffle and one multiply-add, is what the kernel's time consists of; the other lanes' work hides
/// behind it.
template <grid_policy Grid>
struct round_columns_kernel {
  static constexpr std::string_view name = "round_columns_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 3; // as many as 227 KB of shared memory hold
  static constexpr int lanes = 8;        // of a row
  static constexpr int slots = rounded_cols / lanes;
  static constexpr index_t rows_per_block = most_threads / lanes;

  // Shared memory: the part of the coupling, the grid.
  static constexpr index_t grid_offset = rounded_cols * rounded_cols * static_cast<index_t>(sizeof(float));

  Grid grid;
  device_view<const float> weight;   // W (m,n), by column
  const float* sums;                 // (m,rounded_cols), of this block; null: zeros
  device_view<const float> coupling; // (n,stride), visiting order; the stride is a multiple of 4
  const int* order;                  // (n): the column that is visited j-th
  scale_lookup scales;
  device_view<float> errors; // (m,n), visiting order: W - Q; written for this block
  device_view<code_t> codes; // (m,n), by column; written for this block
  index_t begin;
  int count;
  bool has_errors; // false: the old errors of this block are zero, whatever `errors` holds

  [[nodiscard]] launch_shape shape() const {
    return {(weight.rows() + rows_per_block - 1) / rows_per_block, most_threads,
            grid_offset + shared_grid_bytes<Grid>};
  }

  /// What a lane knows of its columns.
  struct columns {
    float weight[slots];
    float target[slots];
    float old_error[slots];
    block_scale scale[slots];
    int col[slots];
  };

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const float* const tile = load_coupling(thread); // (rounded_cols,rounded_cols)
    const Grid& fast_grid = share_grid(thread, grid, grid_offset);
    const int lane = thread.index() % lanes;
    const index_t own_row = thread.block() * rows_per_block + thread.index() / lanes;
    const bool is_inside = own_row < weight.rows();
    const index_t row = is_inside ? own_row : weight.rows() - 1; // shuffles need every lane
    columns own;
    load(row, lane, own);
    thread.template wait_copies<0>();
    thread.sync();

    QLR_UNROLL
    for (int slot = 0; slot < slots; ++slot) {
      const int left = count - slot * lanes;
      if (left <= 0) break;
      const scale_normaliser normalise(own.scale[slot].scale);
      code_t code = 0;
      float error = 0;
      const int turns = left < lanes ? left : lanes;
      QLR_DEVICE_NO_UNROLL
      for (int turn = 0; turn < turns; ++turn) {
        // A lane's target is final from its turn on, so the last pass leaves every lane's own result.
        code = encode_value(fast_grid, normalise, own.scale[slot].zero, own.target[slot]);
        error = own.weight[slot] - decode_value(fast_grid.decode(code), own.scale[slot]);
        const int source = thread.index() % warp_size - lane + turn;
        const float change = thread.shuffle(error - own.old_error[slot], source);
        // (1,rounded_cols): the row of C of the column whose turn it is
        const float* const factors = tile + (slot * lanes + turn) * rounded_cols + lane;
        if (lane > turn) own.target[slot] += factors[slot * lanes] * change;
        QLR_UNROLL
        for (int later = slot + 1; later < slots; ++later)
          own.target[later] += factors[later * lanes] * change;
      }
      if (is_inside && lane < turns) {
        errors(row, begin + slot * lanes + lane) = error;
        codes(row, own.col[slot]) = code;
      }
    }
  }

private:
  /// Starts to copy C(begin ... begin + count, the same), but for what lies below its diagonal.
  template <kernel_thread Thread>
  QLR_DEVICE const float* load_coupling(Thread& thread) const {
    constexpr int pieces = rounded_cols / 4; // of 16 bytes, in a row
    auto* const tile = thread.template shared<float>(0);
    for (int i = thread.index(); i < count * pieces; i += thread.num_threads()) {
      const int l = i / pieces;
      const int j = i % pieces * 4;
      if (j + 3 <= l) continue;
      const bool is_inside = j < count; // behind the block are zeros, as in the padding of its rows
      const float* const from = coupling.row(begin + l) + begin + (is_inside ? j : 0);
      thread.copy_async(tile + l * rounded_cols + j, from, is_inside ? 16 : 0);
    }
    thread.commit_copies();
    return tile;
  }

  QLR_DEVICE void load(index_t row, int lane, columns& own) const {
    QLR_UNROLL
    for (int slot = 0; slot < slots; ++slot) {
      const int j = slot * lanes + lane;
      const bool is_inside = j < count;
      const int col = order[begin + (is_inside ? j : 0)];
      own.col[slot] = col;
      own.scale[slot] = scales(row, col);
      own.weight[slot] = weight(row, col);
      own.target[slot] = own.weight[slot];
      if (sums != nullptr) own.target[slot] += is_inside ? sums[row * rounded_cols + j] : 0.0F;
      own.old_error[slot] = has_errors && is_inside ? errors(row, begin + j) : 0.0F;
    }
  }
};

} // namespace qlr::cuda::detail
