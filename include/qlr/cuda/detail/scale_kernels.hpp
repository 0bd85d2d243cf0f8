// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/cooperative_block.hpp>
#include <qlr/cuda/detail/matrix_tiles.hpp>
#include <qlr/cuda/device_quantized_matrix.hpp>
#include <qlr/quant/quantizer.hpp>
#include <qlr/quant/scale_search.hpp>

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace qlr::cuda::detail {

// Scales of all groups, found by a rule and improved by the search. Groups of up to most_staged_group
// elements are one thread's work, which repeats the CPU's arithmetic in the CPU's order; larger ones are a
// thread block's.

/// Largest group that one thread takes: 32 of them fit the 48 KB of shared memory that every device grants.
inline constexpr index_t most_staged_group = 320;

[[nodiscard]] inline bool is_staged(const quantized_layout& layout) {
  return layout.group_size != group_per_tensor && layout.group_cols() <= most_staged_group;
}

/// Elements of one group, in a matrix that may have any strides.
[[nodiscard]] QLR_HOST_DEVICE inline device_view<const float> group_of(device_view<const float> weight,
                                                                       const quantized_layout& layout,
                                                                       index_t index) {
  if (layout.group_size == group_per_tensor) return weight;
  const index_t first = index % layout.groups_per_row() * layout.group_cols();
  const index_t row = index / layout.groups_per_row();
  return {weight.row(row) + first * weight.col_stride(), 1,
          std::min(layout.group_cols(), layout.cols - first), weight.row_stride(), weight.col_stride()};
}

/// Columns before the first one of a group: where its column weights start.
[[nodiscard]] QLR_HOST_DEVICE inline index_t first_col_of(const quantized_layout& layout, index_t index) {
  return layout.group_size == group_per_tensor ? 0 : index % layout.groups_per_row() * layout.group_cols();
}

/// Consecutive groups of a matrix in shared memory, one per thread of a block.
///
///   places   threads x {offset of the first element, number of elements}
///   values   threads x stride floats; the stride is odd, so that threads read different banks
struct group_stage {
  struct place {
    index_t offset;
    index_t count;
  };

  device_view<const float> weight;
  quantized_layout layout;
  int threads = 128;
  int width = 0;                // elements of a full group
  std::uint32_t reciprocal = 0; // 2^31 / width, rounded up

  /// @pre the matrix is not empty
  group_stage(device_view<const float> matrix, const quantized_layout& shape)
      : weight(matrix), layout(shape), width(static_cast<int>(shape.group_cols())) {
    while (threads > warp_size && shared_bytes() > 48 * 1024) threads /= 2;
    reciprocal = (0x80000000U + static_cast<unsigned>(width) - 1U) / static_cast<unsigned>(width);
  }

  [[nodiscard]] QLR_HOST_DEVICE int stride() const { return width | 1; }
  [[nodiscard]] QLR_HOST_DEVICE index_t shared_bytes() const {
    return threads * (static_cast<index_t>(sizeof(place)) + 4 * stride());
  }
  [[nodiscard]] index_t num_blocks() const { return (layout.num_scales() + threads - 1) / threads; }

  /// The group of this thread; empty where there is none. Waits for the other threads.
  ///
  /// @param offset  of the stage in shared memory, a multiple of 16
  template <kernel_thread Thread>
  QLR_DEVICE matrix_view<const float> load(Thread& thread, index_t offset) const {
    auto* places = thread.template shared<place>(offset);
    auto* values = thread.template shared<float>(offset + threads * static_cast<index_t>(sizeof(place)));
    const index_t index = thread.block() * threads + thread.index();
    index_t own = 0;
    if (index < layout.num_scales()) {
      const device_view<const float> group = group_of(weight, layout, index);
      own = group.cols();
      places[thread.index()] = {group.data() - weight.data(), own};
    } else {
      places[thread.index()] = {0, 0};
    }
    thread.sync();
    for (int i = thread.index(); i < threads * width; i += unroll * threads) load_some(places, values, i);
    thread.sync();
    return {values + thread.index() * stride(), own == 0 ? 0 : 1, own};
  }

private:
  static constexpr int unroll = 8; // loads under way before the first is waited for

  /// Elements i, i + threads ... of the stage.
  QLR_DEVICE void load_some(const place* places, float* values, int i) const {
    float x[unroll] = {};
    int target[unroll] = {};
    QLR_DEVICE_UNROLL
    for (int step = 0; step < unroll; ++step, i += threads) {
      // Exact: width * reciprocal exceeds 2^31 by less than width, and i * width is below 2^25.
      const auto group = static_cast<int>((static_cast<std::uint64_t>(i) * reciprocal) >> 31U);
      const int j = i - group * width;
      target[step] = -1;
      if (group >= threads || j >= places[group].count) continue;
      target[step] = group * stride() + j;
      x[step] = weight.data()[places[group].offset + j * weight.col_stride()];
    }
    QLR_DEVICE_UNROLL
    for (int step = 0; step < unroll; ++step) {
      if (target[step] >= 0) values[target[step]] = x[step];
    }
  }
};

/// found[s] = what the rule finds for group s.
template <grid_policy Grid, class Rule>
struct find_scales_kernel {
  static constexpr std::string_view name = "find_scales_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 4;

  group_stage stage;
  Grid grid;
  Rule rule;
  block_scale* found;

  [[nodiscard]] launch_shape shape() const {
    return {stage.num_blocks(), stage.threads, shared_grid_bytes<Grid> + stage.shared_bytes()};
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const Grid& fast_grid = share_grid(thread, grid, 0);
    const matrix_view<const float> block = stage.load(thread, shared_grid_bytes<Grid>);
    if (block.is_empty()) return;
    found[thread.block() * stage.threads + thread.index()] =
        ::qlr::detail::find_rule_scale(rule, block, fast_grid);
  }
};

/// What the search of one matrix starts from and may do.
struct search_inputs {
  scale_format format;
  bool allow_negative = false;
  const float* unit = nullptr;           // one number: the tensor's scale
  const float* column_weights = nullptr; // (cols) or null
  device_quantized_view previous;        // with codes = null there is none

  [[nodiscard]] QLR_DEVICE scale_search_context context() const {
    return {format, format.coding == scale_coding::tensor_scaled ? *unit : 1.0F, allow_negative};
  }
  [[nodiscard]] QLR_DEVICE const float* weights_of(const quantized_layout& layout, index_t index) const {
    return column_weights == nullptr ? nullptr : column_weights + first_col_of(layout, index);
  }
  [[nodiscard]] QLR_DEVICE float previous_scale(index_t index) const {
    return previous.codes == nullptr ? 0.0F : decode_scale(previous.loaded().scales, index);
  }
};

/// scales[s] = the searched scale of group s, starting from scales[s].
template <grid_policy Grid>
struct search_scales_kernel {
  static constexpr std::string_view name = "search_scales_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 4;

  group_stage stage;
  Grid grid;
  search_inputs inputs;
  block_scale* scales;

  [[nodiscard]] launch_shape shape() const {
    return {stage.num_blocks(), stage.threads, shared_grid_bytes<Grid> + stage.shared_bytes()};
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const Grid& fast_grid = share_grid(thread, grid, 0);
    const matrix_view<const float> block = stage.load(thread, shared_grid_bytes<Grid>);
    const index_t index = thread.block() * stage.threads + thread.index();
    if (block.is_empty() || scales[index].scale == 0.0F) return;
    scales[index] = search_scale(fast_grid, block, inputs.weights_of(stage.layout, index), scales[index],
                                 inputs.previous_scale(index), inputs.context());
  }
};

/// Threads of a block for one group of many elements.
[[nodiscard]] inline int cooperative_threads(const quantized_layout& layout) {
  return layout.group_size == group_per_tensor || layout.group_cols() > 8192 ? 512 : 128;
}

/// As find_scales_kernel, a thread block for each group.
template <grid_policy Grid, class Rule>
struct find_large_scales_kernel {
  static constexpr std::string_view name = "find_large_scales_kernel";
  static constexpr int most_threads = 512;
  static constexpr int least_blocks = 1;

  device_view<const float> weight;
  quantized_layout layout;
  Grid grid;
  Rule rule;
  block_scale* found;

  [[nodiscard]] launch_shape shape() const {
    return {layout.num_scales(), cooperative_threads(layout), shared_grid_bytes<Grid> + reduction_bytes};
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const Grid& fast_grid = share_grid(thread, grid, 0);
    thread.sync();
    const cooperative_block<Thread> block(thread, group_of(weight, layout, thread.block()),
                                          thread.template shared<unsigned char>(shared_grid_bytes<Grid>));
    const block_scale scale = ::qlr::detail::find_rule_scale(rule, block, fast_grid);
    if (thread.index() == 0) found[thread.block()] = scale;
  }
};

/// As search_scales_kernel, a thread block for each group.
template <grid_policy Grid>
struct search_large_scales_kernel {
  static constexpr std::string_view name = "search_large_scales_kernel";
  static constexpr int most_threads = 512;
  static constexpr int least_blocks = 1;

  device_view<const float> weight;
  quantized_layout layout;
  Grid grid;
  search_inputs inputs;
  block_scale* scales;

  [[nodiscard]] launch_shape shape() const {
    return {layout.num_scales(), cooperative_threads(layout), shared_grid_bytes<Grid> + reduction_bytes};
  }

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    const index_t index = thread.block();
    const Grid& fast_grid = share_grid(thread, grid, 0);
    const block_scale start = scales[index];
    thread.sync(); // nobody writes before all have read
    if (start.scale == 0.0F) return;
    const cooperative_block<Thread> block(thread, group_of(weight, layout, index),
                                          thread.template shared<unsigned char>(shared_grid_bytes<Grid>));
    const block_scale found = search_scale(fast_grid, block, inputs.weights_of(layout, index), start,
                                           inputs.previous_scale(index), inputs.context());
    if (thread.index() == 0) scales[index] = found;
  }
};

} // namespace qlr::cuda::detail
