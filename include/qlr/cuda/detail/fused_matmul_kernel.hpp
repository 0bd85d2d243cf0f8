// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/matmul_block.hpp>

#include <string_view>

namespace qlr::cuda::detail {

/// Waits until at most `groups` groups of copies are under way; a number that is the same for all threads.
template <kernel_thread Thread>
QLR_DEVICE void wait_copies(Thread& thread, int groups) {
  switch (groups) {
  case 0:
    return thread.template wait_copies<0>();
  case 1:
    return thread.template wait_copies<1>();
  case 2:
    return thread.template wait_copies<2>();
  case 3:
    return thread.template wait_copies<3>();
  default:
    return thread.template wait_copies<4>();
  }
}
inline constexpr int most_stages = 6;

/// One block at work. It takes tickets one after the other; the ring of stages runs on from one item to the
/// next, so that copies for the next are under way while this one ends:
///
///   pass i:  wait for the copies of stage i - S + 1;  sync;  start those of stage i;  multiply stage i - S +
///   1
///
/// Tickets are given out in the order of items and a tile of Y waits only for projections, which come first
/// and wait for nothing: whatever blocks the device runs, in whatever order, the work goes on.
template <int Bits, class T, class Shape, kernel_thread Thread>
class fused_matmul_block : matmul_block<Bits, T, Shape, Thread> {
  using base = matmul_block<Bits, T, Shape, Thread>;
  using base::arguments_;
  using base::place_;
  using base::thread_;

public:
  using shape = Shape;
  using memory = tile_memory<Bits, Shape>;
  using typename base::tile_sums;

  QLR_DEVICE fused_matmul_block(Thread& thread, const matmul_arguments& arguments)
      : base(thread, arguments),
        multiply_(thread, arguments, place_, thread.template shared<const std::uint32_t>(0)) {}

  QLR_DEVICE void run() {
    std::uint32_t ticket = this->next_ticket();
    if (this->is_first_warp()) this->take_item(0, ticket);
    thread_.sync();
    ticket = this->next_ticket();
    const int stages = arguments_.schedule.stages;
    cursor loading;
    cursor computing{0, 1 - stages}; // negative while the ring is filled
    tile_sums sums = {};
    for (int load_slot = 0;; load_slot = load_slot + 1 == stages ? 0 : load_slot + 1) {
      wait_copies(thread_, stages - 2);
      thread_.sync();
      if (loading.stage == this->item_at(loading.sequence).num_stages) {
        loading = {loading.sequence + 1, 0};
        ticket = this->next_ticket();
      }
      if (!this->item_at(loading.sequence).is_none())
        this->load_(this->item_at(loading.sequence), loading.stage++, slot(load_slot));
      thread_.commit_copies();
      if (computing.stage < 0) {
        if (computing.stage == 1 - stages) // the first copies are under way meanwhile
          fill_table<Bits>(thread_, arguments_.weights.table, thread_.template shared<std::uint32_t>(0));
        ++computing.stage;
      } else {
        if (this->item_at(computing.sequence).is_none()) break;
        compute(computing, slot(load_slot + 1 == stages ? 0 : load_slot + 1), sums);
      }
      // Only now: the ticket has had a whole item's time to come.
      if (loading.stage == this->item_at(loading.sequence).num_stages && this->is_first_warp())
        this->take_item(loading.sequence + 1, ticket);
    }
    this->leave();
  }

private:
  struct cursor {
    int sequence = 0; ///< of this block's items
    int stage = 0;
  };

  [[nodiscard]] QLR_DEVICE unsigned char* slot(int index) const {
    return thread_.template shared<unsigned char>(memory::ring_offset +
                                                  index * arguments_.schedule.stage_bytes);
  }

  QLR_DEVICE void compute(cursor& computing, const unsigned char* stage, tile_sums& sums) {
    const work_item item = this->item_at(computing.sequence);
    if (item.is_projection()) {
      this->project_.multiply(item, stage, sums);
    } else {
      const int first = item.first_block + computing.stage * shape::stage_blocks;
      const int left = static_cast<int>(arguments_.weights.columns.num_blocks) - first;
      const int tile = item.row_tile * shape::row_tiles + place_.row_warp * shape::warp_tiles;
      if (tile < arguments_.weights.row_tiles) {
        QLR_DEVICE_NO_UNROLL
        for (int block = place_.col_warp; block < shape::stage_blocks; block += shape::col_warps) {
          if (block < left) multiply_(stage, block, sums);
        }
      }
    }
    if (++computing.stage < item.num_stages) return;
    if (item.is_projection()) {
      this->finish_projection(item, sums);
    } else {
      this->finish_tile(item, sums, [&] { this->output_.store(item, sums); });
    }
    this->clear(sums);
    computing = {computing.sequence + 1, 0};
  }

  tile_product<Bits, T, Shape, Thread> multiply_;
};

[[nodiscard]] constexpr std::string_view fused_kernel_name(int tokens) {
  switch (tokens) {
  case 8:
    return "fused_matmul_decode_8";
  case 16:
    return "fused_matmul_tokens_16";
  case 32:
    return "fused_matmul_tokens_32";
  case 64:
    return "fused_matmul_tokens_64";
  default:
    return "fused_matmul_prefill_128";
  }
}

/// Y = X Q^T + s (X R^T) L^T + bias for tiles of 128 rows of Q and `Tokens` tokens.
template <int Bits, class T, int Tokens>
struct fused_matmul_kernel {
  static constexpr std::string_view name = fused_kernel_name(Tokens);
  using shape = tile_shape<Tokens>;
  static constexpr int most_threads = shape::threads;
  static constexpr int least_blocks = shape::least_blocks;
  matmul_arguments arguments;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    fused_matmul_block<Bits, T, shape, Thread>(thread, arguments).run();
  }
};

} // namespace qlr::cuda::detail
