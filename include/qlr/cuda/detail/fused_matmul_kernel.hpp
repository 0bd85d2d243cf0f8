// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/matmul_output.hpp>
#include <qlr/cuda/detail/matmul_projection.hpp>
#include <qlr/cuda/detail/matmul_stage.hpp>

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
template <int Bits, class T, int Tokens, kernel_thread Thread>
class fused_matmul_block {
public:
  using shape = tile_shape<Tokens>;
  using memory = tile_memory<Bits, Tokens>;
  using tile_sums = float[shape::warp_tiles][shape::fragments][4];

  QLR_DEVICE fused_matmul_block(Thread& thread, const matmul_arguments& arguments)
      : thread_(thread), arguments_(arguments), place_(thread.index()),
        items_(thread.template shared<work_item>(memory::items_offset)),
        answer_(thread.template shared<std::uint32_t>(memory::answer_offset)), load_(thread, arguments),
        multiply_(thread, arguments, place_, thread.template shared<const std::uint32_t>(0)),
        project_(thread, arguments), output_(thread, arguments, place_) {}

  QLR_DEVICE void run() {
    std::uint32_t ticket = next_ticket();
    if (is_first_warp()) take_item(0, ticket);
    fill_table<Bits>(thread_, arguments_.weights.table, thread_.template shared<std::uint32_t>(0));
    thread_.sync();
    ticket = next_ticket();
    cursor loading;
    cursor computing;
    tile_sums sums = {};
    const int stages = arguments_.schedule.stages;
    int load_slot = 0;
    int compute_slot = 1 % stages;
    for (int pass = 0;; ++pass) {
      wait_copies(thread_, stages - 2);
      thread_.sync();
      if (loading.stage == item_of(loading).num_stages) {
        loading = {loading.sequence + 1, 0};
        ticket = next_ticket();
      }
      if (!item_of(loading).is_none()) load_(item_of(loading), loading.stage++, slot(load_slot));
      thread_.commit_copies();
      if (pass >= stages - 1) {
        if (item_of(computing).is_none()) break;
        compute(computing, slot(compute_slot), sums);
      }
      // Only now: the ticket has had a whole item's time to come.
      if (loading.stage == item_of(loading).num_stages && is_first_warp())
        take_item(loading.sequence + 1, ticket);
      load_slot = load_slot + 1 == stages ? 0 : load_slot + 1;
      compute_slot = compute_slot + 1 == stages ? 0 : compute_slot + 1;
    }
    leave();
  }

private:
  struct cursor {
    int sequence = 0; ///< of this block's items
    int stage = 0;
  };

  [[nodiscard]] QLR_DEVICE bool is_first() const { return thread_.index() == 0; }
  [[nodiscard]] QLR_DEVICE bool is_first_warp() const { return thread_.index() < warp_size; }

  /// The first thread's next ticket. Tickets beyond the last item do no harm.
  [[nodiscard]] QLR_DEVICE std::uint32_t next_ticket() const {
    return is_first() ? thread_.add_atomic(&arguments_.counters->ticket, 1U) : 0U;
  }

  /// Writes the item of the first thread's ticket where all threads find it after the next sync().
  QLR_DEVICE void take_item(int sequence, std::uint32_t ticket) const {
    const work_item item = make_item(thread_, arguments_, thread_.shuffle(ticket, 0), Tokens);
    if (is_first()) items_[sequence % memory::num_items] = item;
  }

  [[nodiscard]] QLR_DEVICE const work_item& item_of(const cursor& place) const {
    return items_[place.sequence % memory::num_items];
  }

  [[nodiscard]] QLR_DEVICE unsigned char* slot(int index) const {
    return thread_.template shared<unsigned char>(memory::ring_offset +
                                                  index * arguments_.schedule.stage_bytes);
  }

  QLR_DEVICE void compute(cursor& computing, const unsigned char* stage, tile_sums& sums) {
    const work_item item = item_of(computing);
    if (item.is_projection()) {
      project_.multiply(item, stage, sums);
    } else {
      const int block = item.first_block + computing.stage * shape::stage_blocks + place_.col_warp;
      const index_t tile =
          static_cast<index_t>(item.row_tile) * shape::row_tiles + place_.row_warp * shape::warp_tiles;
      if (block < arguments_.weights.columns.num_blocks && tile < arguments_.weights.row_tiles)
        multiply_(stage, sums);
    }
    if (++computing.stage < item.num_stages) return;
    if (item.is_projection()) {
      finish_projection(item, sums);
    } else {
      finish_tile(item, sums);
    }
    QLR_DEVICE_UNROLL
    for (int i = 0; i < shape::warp_tiles; ++i) {
      QLR_DEVICE_UNROLL
      for (int f = 0; f < shape::fragments; ++f) {
        QLR_DEVICE_UNROLL
        for (int j = 0; j < 4; ++j) sums[i][f][j] = 0;
      }
    }
    computing = {computing.sequence + 1, 0};
  }

  /// True for all threads of the block that arrives last of `expected` at a counter, which is zero again
  /// then.
  [[nodiscard]] QLR_DEVICE bool is_last(std::uint32_t* counter, int expected) const {
    thread_.sync(); // everything is written
    if (is_first()) {
      const bool last = thread_.arrive(counter, 1U) + 1U == static_cast<std::uint32_t>(expected);
      if (last) thread_.publish(counter, 0U);
      *answer_ = last ? 1U : 0U;
    }
    thread_.sync();
    return *answer_ != 0U;
  }

  QLR_DEVICE void finish_projection(const work_item& item, tile_sums& sums) const {
    const matmul_schedule& schedule = arguments_.schedule;
    if (item.kind == item_kind::projection) {
      project_.store(item, sums);
      const index_t place = static_cast<index_t>(item.token_tile) * arguments_.num_groups() + item.group;
      if (schedule.right_slices > 1) {
        if (!is_last(arguments_.counters->right_arrivals + place, schedule.right_slices)) return;
      } else {
        thread_.sync();
      }
      project_.finish(item);
      thread_.sync();
    } else if (item.slice != 0) {
      return;
    }
    if (is_first()) (void)thread_.arrive(arguments_.counters->ready + item.token_tile, 1U);
  }

  QLR_DEVICE void finish_tile(const work_item& item, tile_sums& sums) const {
    const matmul_schedule& schedule = arguments_.schedule;
    output_.add_column_halves(thread_.template shared<unsigned char>(memory::sums_offset), sums);
    const bool holds_sums = place_.col_warp == 0;
    if (schedule.slices > 1) {
      if (holds_sums) output_.store_partial(item, sums);
      const index_t tile = item.token_tile * schedule.row_tiles + item.row_tile;
      if (!is_last(arguments_.counters->tile_arrivals + tile, schedule.slices)) return;
      if (holds_sums) output_.add_partials(item, sums);
    }
    const int groups = arguments_.num_groups();
    if (groups > 0) {
      if (is_first()) {
        const std::uint32_t* ready = arguments_.counters->ready + item.token_tile;
        while (thread_.observe(ready) != static_cast<std::uint32_t>(groups)) thread_.pause();
      }
      thread_.sync();
    }
    if (!holds_sums) return;
    output_.apply_row_factors(item, sums);
    for (int group = 0; group < groups; ++group) {
      if (takes_part(thread_, arguments_, item.token_tile, Tokens, arguments_.group(group).adapter))
        output_.add_low_rank(item, group, sums);
    }
    output_.store(item, sums);
  }

  /// The last block leaves the counters as it found them.
  QLR_DEVICE void leave() const {
    if (!is_last(&arguments_.counters->exited, static_cast<int>(thread_.num_blocks()))) return;
    if (is_first()) thread_.publish(&arguments_.counters->ticket, 0U);
    for (index_t i = thread_.index(); i < arguments_.schedule.token_tiles; i += shape::threads)
      arguments_.counters->ready[i] = 0U;
  }

  Thread& thread_;
  const matmul_arguments& arguments_;
  warp_place<Tokens> place_;
  work_item* items_;      ///< this block's items by sequence number modulo 16, shared memory
  std::uint32_t* answer_; ///< of the first thread to the others, shared memory
  stage_loader<Bits, Tokens, Thread> load_;
  tile_product<Bits, T, Tokens, Thread> multiply_;
  projection<Bits, T, Tokens, Thread> project_;
  tile_output<T, Tokens, Thread> output_;
};

/// Y = X Q^T + s (X R^T) L^T + bias for tiles of 128 rows of Q and `Tokens` tokens.
template <int Bits, class T, int Tokens>
struct fused_matmul_kernel {
  static constexpr std::string_view name = "fused_matmul_kernel";
  static constexpr int most_threads = tile_shape<Tokens>::threads;
  static constexpr int least_blocks = tile_shape<Tokens>::least_blocks;
  matmul_arguments arguments;

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    fused_matmul_block<Bits, T, Tokens, Thread>(thread, arguments).run();
  }
};

} // namespace qlr::cuda::detail
