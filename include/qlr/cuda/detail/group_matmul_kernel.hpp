// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/group_output.hpp>
#include <qlr/cuda/detail/matmul_block.hpp>
#include <qlr/cuda/detail/wgmma_tile.hpp>

#include <string_view>

namespace qlr::cuda::detail {

/// One block of two warpgroups at work: tickets as in fused_matmul_block, tiles of Y by asynchronous
/// products.
template <int Bits, class T, int RowTiles, warpgroup_thread Thread>
class group_matmul_block : matmul_block<Bits, T, group_shape<RowTiles>, Thread> {
  using shape = group_shape<RowTiles>;
  using base = matmul_block<Bits, T, shape, Thread>;
  using base::arguments_;
  using base::thread_;

public:
  using typename base::memory;
  using typename base::tile_sums;

  QLR_DEVICE group_matmul_block(Thread& thread, const matmul_arguments& arguments)
      : base(thread, arguments) {}

  QLR_DEVICE void run() {
    std::uint32_t ticket = this->next_ticket();
    if (this->is_first_warp()) this->take_item(0, ticket);
    fill_table<Bits>(thread_, arguments_.weights.table, thread_.template shared<std::uint32_t>(0));
    for (int sequence = 0;; ++sequence) {
      thread_.sync(); // the item is there, and the ring is free
      // In shared memory, so that it takes no registers during multiplication.
      const work_item& item = this->item_at(sequence);
      if (item.is_none()) break;
      ticket = this->next_ticket();
      tile_sums sums;
      this->clear(sums);
      if (item.is_projection()) {
        project(item, sums);
      } else {
        group_tile<T, Bits, RowTiles, Thread>(thread_, arguments_, item).multiply(sums);
      }
      // Only now: the answer has had a whole item's time to come.
      if (this->is_first_warp()) this->take_item(sequence + 1, ticket);
      if (item.is_projection()) {
        this->finish_projection(item, sums);
      } else {
        this->finish_tile(item, sums, [&] { store(item, sums); });
      }
    }
    this->leave();
  }

private:
  static constexpr int slots = 3;
  static constexpr int slot_bytes = memory::code_bytes + memory::x_bytes;
  static_assert(slots * slot_bytes <= group_memory::stages * group_memory::x_stage_bytes);

  [[nodiscard]] QLR_DEVICE unsigned char* ring() const {
    return thread_.template shared<unsigned char>(lay_out_group_memory<Bits, shape>(arguments_.weights).x);
  }

  QLR_DEVICE void store(const work_item& item, tile_sums& sums) const {
    using output = group_output<T, RowTiles>;
    static_assert(shape::warps * output::warp_bytes <= group_memory::stages * group_memory::x_stage_bytes);
    const int warp = thread_.index() / warp_size;
    const output rows(arguments_, item, warp);
    if (rows.fits()) {
      rows.store(thread_, ring() + warp * output::warp_bytes, sums);
    } else {
      this->output_.store(item, sums);
    }
  }

  /// sums = R X^T, with multiply_add: a tile of ranks is too small for a warpgroup.
  QLR_DEVICE void project(const work_item& item, tile_sums& sums) const {
    unsigned char* ring = this->ring();
    const auto start = [&](int stage) {
      if (stage < item.num_stages) this->load_(item, stage, ring + stage % slots * slot_bytes);
      thread_.commit_copies();
    };
    for (int stage = 0; stage < slots - 1; ++stage) start(stage);
    for (int stage = 0; stage < item.num_stages; ++stage) {
      thread_.template wait_copies<slots - 2>();
      thread_.sync();
      start(stage + slots - 1);
      this->project_.multiply(item, ring + stage % slots * slot_bytes, sums);
    }
  }
};

/// Y = X Q^T + s (X R^T) L^T + bias for tiles of 128 RowTiles rows of Q and 128 tokens; empty unless compiled
/// for warpgroups.
template <int Bits, class T, int RowTiles>
struct group_matmul_kernel {
  static constexpr std::string_view name = "group_matmul_kernel";
  using shape = group_shape<RowTiles>;
  static constexpr int most_threads = shape::threads;
  static constexpr int least_blocks = shape::least_blocks;
  matmul_arguments arguments;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    if constexpr (warpgroup_thread<Thread>)
      group_matmul_block<Bits, T, RowTiles, Thread>(thread, arguments).run();
  }
};

/// X for kernels of warpgroups where they cannot read it as it is: see matmul_arguments::arranged.
template <class T>
struct arrange_x_kernel {
  static constexpr std::string_view name = "arrange_x_kernel";
  static constexpr int most_threads = 256;
  static constexpr int least_blocks = 4;
  matmul_arguments arguments;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const index_t row_chunks = arguments.weights.columns.num_blocks * (block_cols / 8);
    const index_t chunks = arguments.tokens * row_chunks;
    for (index_t i = thread.block() * thread.num_threads() + thread.index(); i < chunks;
         i += thread.num_blocks() * thread.num_threads()) {
      reinterpret_cast<quad*>(arguments.arranged)[i] = arrange(i / row_chunks, i % row_chunks * 8);
    }
  }

  /// Eight packed columns of a token.
  [[nodiscard]] QLR_DEVICE quad arrange(index_t token, index_t first) const {
    const column_map& map = arguments.weights.columns;
    const float* factors = arguments.weights.column_factors;
    const index_t group = first / map.group_stride; // of all eight: strides are multiples of 16
    const index_t first_in_group = first % map.group_stride;
    quad out = {};
    QLR_DEVICE_UNROLL
    for (int i = 0; i < 8; ++i) {
      const index_t col = group * map.group_cols + first_in_group + i;
      if (first_in_group + i >= map.group_cols || col >= map.cols) continue;
      T value{arguments.x[token * arguments.x_row_stride + col * arguments.x_col_stride]};
      if (factors != nullptr) value = to_half<T>(half_to_float(value) * factors[first + i]);
      out.words[i / 2] |= static_cast<std::uint32_t>(value.bits) << (16 * (i % 2));
    }
    return out;
  }
};

} // namespace qlr::cuda::detail
