// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/matmul_output.hpp>
#include <qlr/cuda/detail/matmul_projection.hpp>
#include <qlr/cuda/detail/matmul_stage.hpp>

namespace qlr::cuda::detail {

/// What the blocks of all kernels of the product do besides multiplying: they take tickets, and end items.
template <int Bits, class T, class Shape, kernel_thread Thread>
class matmul_block {
public:
  using shape = Shape;
  using memory = tile_memory<Bits, Shape>;
  using tile_sums = float[shape::warp_tiles][shape::fragments][4];

protected:
  QLR_DEVICE matmul_block(Thread& thread, const matmul_arguments& arguments)
      : thread_(thread), arguments_(arguments), place_(thread.index()), load_(thread, arguments),
        project_(thread, arguments), output_(thread, arguments, place_),
        items_(thread.template shared<work_item>(memory::items_offset)),
        answer_(thread.template shared<std::uint32_t>(memory::answer_offset)) {}

  [[nodiscard]] QLR_DEVICE bool is_first() const { return thread_.index() == 0; }
  [[nodiscard]] QLR_DEVICE bool is_first_warp() const { return thread_.index() < warp_size; }

  /// The first thread's next ticket. Tickets beyond the last item do no harm.
  [[nodiscard]] QLR_DEVICE std::uint32_t next_ticket() const {
    return is_first() ? thread_.add_atomic(&arguments_.counters->ticket, 1U) : 0U;
  }

  /// Writes the item of the first thread's ticket where all threads find it after the next sync().
  QLR_DEVICE void take_item(int sequence, std::uint32_t ticket) const {
    const work_item item = make_item(thread_, arguments_, thread_.shuffle(ticket, 0), shape::tokens);
    if (is_first()) items_[sequence % memory::num_items] = item;
  }

  [[nodiscard]] QLR_DEVICE const work_item& item_at(int sequence) const {
    return items_[sequence % memory::num_items];
  }

  QLR_DEVICE static void clear(tile_sums& sums) {
    QLR_DEVICE_UNROLL
    for (int i = 0; i < shape::warp_tiles; ++i) {
      QLR_DEVICE_UNROLL
      for (int f = 0; f < shape::fragments; ++f) {
        QLR_DEVICE_UNROLL
        for (int j = 0; j < 4; ++j) sums[i][f][j] = 0;
      }
    }
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

  /// @param store  stores sums that are complete but for the bias
  template <class Store>
  QLR_DEVICE void finish_tile(const work_item& item, tile_sums& sums, Store&& store) const {
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
      if (takes_part(thread_, arguments_, item.token_tile, shape::tokens, arguments_.group(group).adapter))
        output_.add_low_rank(item, group, sums);
    }
    store();
  }

  /// The last block leaves the counters as it found them.
  QLR_DEVICE void leave() const {
    if (!is_last(&arguments_.counters->exited, static_cast<int>(thread_.num_blocks()))) return;
    if (is_first()) arguments_.counters->ticket = 0U;
    for (index_t i = thread_.index(); i < arguments_.schedule.token_tiles; i += shape::threads)
      arguments_.counters->ready[i] = 0U;
  }

  Thread& thread_;
  const matmul_arguments& arguments_;
  warp_place<Shape> place_;
  stage_loader<Bits, Shape, Thread> load_;
  projection<Bits, T, Shape, Thread> project_;
  tile_output<T, Shape, Thread> output_;

private:
  /// True for all threads of the block that arrives last of `expected` at a counter, which is zero again
  /// then.
  [[nodiscard]] QLR_DEVICE bool is_last(std::uint32_t* counter, int expected) const {
    thread_.sync(); // everything is written
    if (is_first()) {
      const bool last = thread_.arrive(counter, 1U) + 1U == static_cast<std::uint32_t>(expected);
      if (last) *counter = 0U; // nobody looks before the next launch
      *answer_ = last ? 1U : 0U;
    }
    thread_.sync();
    return *answer_ != 0U;
  }

  work_item* items_;      ///< this block's items by sequence number modulo 16, shared memory
  std::uint32_t* answer_; ///< of the first thread to the others, shared memory
};

} // namespace qlr::cuda::detail
