// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/coupling.hpp>
#include <qlr/cuda/detail/map_elements.hpp>
#include <qlr/cuda/detail/round_columns_kernel.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/cuda/device_quantized_matrix.hpp>

#include <algorithm>
#include <utility>

namespace qlr::cuda::detail {

/// blocks_j = scale and zero point of block j of Q; over (1, number of blocks).
struct decode_blocks {
  static constexpr std::string_view name = "decode_blocks_kernel";
  device_quantized_view q;
  block_scale* blocks;

  QLR_DEVICE void operator()(index_t /*row*/, index_t j) const { blocks[j] = q.block(j); }
};

/// errors = W - Q with columns in visiting order; over the shape of W.
struct subtract_in_order {
  static constexpr std::string_view name = "subtract_in_order_kernel";
  device_quantized_view q; // (rows, cols)
  const float* weight;     // (rows, cols)
  const int* order;        // (cols)
  float* errors;           // (rows, cols)

  QLR_DEVICE void operator()(index_t i, index_t j) const {
    const index_t cols = q.layout.cols;
    const index_t col = order[j];
    errors[i * cols + j] = weight[i * cols + col] - q.element(i, col);
  }
};

/// Rounds W (m,n) column by column on given scales; work is enqueued on the context's stream.
///
/// Each pass takes the columns in blocks: what all columns outside of a block do to its targets is one matrix
/// product, and one kernel then rounds the block, see round_columns_kernel. For 4096 x 4096 a pass of
/// feedback is 32 products of together 69 GFLOP (half of them zeros that are skipped), about 2 ms of an
/// H200's 67 TFLOP/s in float, and 32 kernels of 128 roundings in sequence, 15 us each or 0.5 ms together; a
/// pass of descent has twice the arithmetic. Memory traffic, 0.2 GB for W, errors and codes, is small beside
/// it.
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
    map_elements_async<Launcher>(subtract_in_order{q, weight_.data(), coupling_.order.data(), errors_.data()},
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
    using kernel = round_columns_kernel<Grid>;
    const index_t m = layout_.rows;
    const index_t n = layout_.cols;
    for (index_t begin = 0; begin < n; begin += rounded_cols) {
      const index_t count = std::min<index_t>(rounded_cols, n - begin);
      const index_t reach = is_upper ? begin : n; // later errors count for nothing, or are zero still
      if (reach > 0) {
        // (m,count) = (m,reach) (reach,count)
        on_.gemm(transpose::no, transpose::no, m, count, reach, 1.0F, errors_.data(), n,
                 coupling.data() + begin, coupling.cols(), 0.0F, sums_.data(), rounded_cols);
      }
      const kernel round{grid_,
                         weight_.data(),
                         reach > 0 ? sums_.data() : nullptr,
                         coupling.data(),
                         coupling.cols(),
                         coupling_.order.data(),
                         scales_,
                         errors_.data(),
                         codes_.data(),
                         m,
                         n,
                         begin,
                         static_cast<int>(count),
                         has_errors_};
      Launcher::launch(round,
                       {(m + kernel::rows_per_block - 1) / kernel::rows_per_block, kernel::most_threads,
                        kernel::shared_bytes},
                       on_.stream());
    }
    has_errors_ = true;
  }

  const context& on_;
  const Grid& grid_;
  device_view<const float> weight_; // (m,n), contiguous
  const quantized_layout& layout_;
  const device_coupling& coupling_;
  scale_lookup scales_;
  device_matrix<float> errors_; // (m,n), visiting order
  device_matrix<float> sums_;   // (m,rounded_cols)
  device_matrix<code_t> codes_; // (m,n)
  bool has_errors_ = false;
};

} // namespace qlr::cuda::detail
