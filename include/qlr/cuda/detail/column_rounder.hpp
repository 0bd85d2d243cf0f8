// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/context.hpp>
#include <qlr/cuda/coupling.hpp>
#include <qlr/cuda/detail/dense.hpp>
#include <qlr/cuda/detail/map_elements.hpp>
#include <qlr/cuda/detail/round_columns_kernel.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/cuda/device_quantized_matrix.hpp>

#include <algorithm>
#include <utility>

namespace qlr::cuda::detail {

/// blocks_j = scale and zero point of block j of Q; over (1, number of blocks).
struct decode_blocks_body {
  static constexpr std::string_view name = "decode_blocks_kernel";
  device_quantized_view q;
  block_scale* blocks;

  QLR_DEVICE void operator()(index_t /*row*/, index_t j) const { blocks[j] = q.block(j); }
};

/// errors = W - Q with columns in visiting order; over the shape of W.
struct subtract_in_order_body {
  static constexpr std::string_view name = "subtract_in_order_kernel";
  device_quantized_view q;         // (m,n)
  device_view<const float> weight; // (m,n)
  const int* order;                // (n)
  device_view<float> errors;       // (m,n)

  QLR_DEVICE void operator()(index_t i, index_t j) const {
    const index_t col = order[j];
    errors(i, j) = weight(i, col) - q.element(i, col);
  }
};

/// Rounds W (m,n) column by column on given scales; work is enqueued on the context's stream.
///
/// Each pass takes the columns in blocks: what all columns outside of a block do to its targets is one matrix
/// product, and one kernel then rounds the block, see round_columns_kernel. By estimate, for 4096 x 4096 on
/// 132 multiprocessors: the 32 products of a pass of feedback are 69 GFLOP in float, 2 to 3 ms, those of a
/// pass of descent twice as much; each of the 32 kernels is a sequence of 128 roundings of 110 (integers) to
/// 250 (codebooks) cycles, 8 to 20 us, 0.3 to 0.6 ms together; W, errors and codes move 0.2 GB, 0.1 ms.
template <class Launcher, grid_policy Grid>
class column_rounder {
public:
  column_rounder(const context& on, const Grid& grid, device_view<const float> weight,
                 const quantized_layout& layout, const block_scale* blocks, const device_coupling& coupling)
      : on_(on), grid_(grid), weight_(weight), layout_(layout), coupling_(coupling),
        errors_(layout.rows, layout.cols, on.stream()), sums_(layout.rows, rounded_cols, on.stream()),
        codes_(layout.rows, layout.cols, on.stream()) {
    scales_.blocks = blocks;
    scales_.row_stride = layout.group_size == group_per_tensor ? 0 : layout.groups_per_row();
    scales_.group_cols = static_cast<int>(layout.group_cols());
  }

  /// Errors of what is there already: W - Q.
  void load_errors(const device_quantized_view& q) {
    map_elements_async<Launcher>(subtract_in_order_body{q, weight_, coupling_.order.data(), errors_.view()},
                                 layout_.rows, layout_.cols, on_.stream());
    has_errors_ = true;
  }

  void feed_back() { sweep(coupling_.feedback, true); }
  void descend() { sweep(coupling_.descent, false); }

  /// The codes (m,n); there are none before the first pass.
  [[nodiscard]] const device_matrix<code_t>& codes() const { return codes_; }

private:
  /// q_j = nearest(w_j + sum_l e_l C(l,j)), e_j = w_j - q_j for all columns j in turn.
  void sweep(const device_matrix<float>& coupling, bool is_upper) {
    const index_t n = layout_.cols;
    for (index_t begin = 0; begin < n; begin += rounded_cols) {
      const index_t count = std::min<index_t>(rounded_cols, n - begin);
      const index_t reach = is_upper ? begin : n; // later errors count for nothing, or are zero still
      if (reach > 0) {
        const device_view<const float> errors{errors_.data(), layout_.rows, reach, n};
        const device_view<const float> factors{coupling.data() + begin, reach, count, coupling.cols()};
        const device_view<float> sums{sums_.data(), layout_.rows, count, rounded_cols};
        multiply_async(on_, transpose::no, transpose::no, 1.0F, errors, factors, 0.0F, sums);
      }
      const round_columns_kernel<Grid> round{grid_,
                                             weight_,
                                             reach > 0 ? sums_.data() : nullptr,
                                             coupling.view(),
                                             coupling_.order.data(),
                                             scales_,
                                             errors_.view(),
                                             codes_.view(),
                                             begin,
                                             static_cast<int>(count),
                                             has_errors_};
      Launcher::launch(round, round.shape(), on_.stream());
    }
    has_errors_ = true;
  }

  const context& on_;
  const Grid& grid_;
  device_view<const float> weight_; // (m,n)
  const quantized_layout& layout_;
  const device_coupling& coupling_;
  scale_lookup scales_;
  device_matrix<float> errors_; // (m,n), visiting order
  device_matrix<float> sums_;   // (m,rounded_cols)
  device_matrix<code_t> codes_; // (m,n)
  bool has_errors_ = false;
};

} // namespace qlr::cuda::detail
