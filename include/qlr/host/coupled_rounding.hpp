// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/parallel.hpp>
#include <qlr/host/coupling.hpp>
#include <qlr/host/eigen_maps.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/quantizer.hpp>

#include <algorithm>
#include <vector>

namespace qlr::host {

namespace detail {

/// Rounds some rows of W column by column; arrays hold one column after the other, in visiting order.
///
/// @tparam Quantizer  rounds values to the codes of given scales
template <stepwise_quantizer_policy Quantizer>
class row_rounder {
public:
  row_rounder(const Quantizer& quantizer, const quantized_layout& layout,
              const std::vector<block_scale>& scales, const column_coupling& coupling, index_t first_row,
              index_t num_rows)
      : quantizer_(quantizer), layout_(layout), scales_(scales), coupling_(coupling), first_row_(first_row),
        num_rows_(num_rows), weight_(layout.cols, num_rows), error_(layout.cols, num_rows, 0.0F),
        codes_(layout.cols, num_rows), row_scales_(static_cast<std::size_t>(num_rows)) {}

  void load(const matrix<float>& weight) {
    for (index_t j = 0; j < layout_.cols; ++j) {
      const index_t col = column(j);
      for (index_t i = 0; i < num_rows_; ++i) weight_(j, i) = weight(first_row_ + i, col);
    }
  }

  /// Errors of what is there already: W - Q.
  void load_errors(const float* decoded, index_t row) {
    for (index_t j = 0; j < layout_.cols; ++j) {
      error_(j, row - first_row_) = weight_(j, row - first_row_) - decoded[column(j)];
    }
  }

  void feed_back() { sweep(coupling_.feedback, true); }
  void descend() { sweep(coupling_.descent, false); }

  void store(matrix<code_t>& codes) const {
    for (index_t j = 0; j < layout_.cols; ++j) {
      const index_t col = column(j);
      for (index_t i = 0; i < num_rows_; ++i) codes(first_row_ + i, col) = codes_(j, i);
    }
  }

private:
  static constexpr index_t block_cols =
      64; // the coupling within a block, 16 KB, stays in the first-level cache

  [[nodiscard]] index_t column(index_t j) const { return coupling_.order[static_cast<std::size_t>(j)]; }

  /// q_j = nearest(w_j + sum_l e_l C(l,j)), e_j = w_j - q_j for all columns j in turn.
  void sweep(const matrix<float>& coupling, bool is_upper) {
    const index_t n = layout_.cols;
    for (index_t begin = 0; begin < n; begin += block_cols) {
      const index_t count = std::min(block_cols, n - begin);
      const index_t reach = is_upper ? begin : n; // later errors count for nothing, or are zero still
      row_major_matrix target = map(weight_).middleRows(begin, count);
      if (reach > 0) {
        target.noalias() += map(coupling).block(0, begin, reach, count).transpose() *
                            map(error_).topRows(reach); // (count,reach) (reach,rows)
      }
      for (index_t j = 0; j < count; ++j) {
        round_column(begin + j, target.row(j).data());
        // What changed moves the targets of the rest of the block.
        for (index_t k = j + 1; k < count; ++k) {
          const float factor = coupling(begin + j, begin + k);
          if (factor != 0.0F) target.row(k) += factor * change_;
        }
      }
    }
  }

  void round_column(index_t j, const float* target) {
    const index_t group = column(j) / layout_.group_cols();
    if (group != group_) {
      for (index_t i = 0; i < num_rows_; ++i) {
        row_scales_[static_cast<std::size_t>(i)] =
            scales_[static_cast<std::size_t>(layout_.scale_index(first_row_ + i, group))];
      }
      group_ = group;
    }
    rounded_.resize(1, num_rows_);
    quantizer_.round(target, row_scales_.data(), num_rows_, codes_.view().row(j), rounded_.data());
    const auto old = map(error_).row(j);
    rounded_ = map(weight_).row(j) - rounded_; // the new error
    change_ = rounded_ - old;
    map(error_).row(j) = rounded_;
  }

  using row_vector = Eigen::Matrix<float, 1, Eigen::Dynamic>;

  const Quantizer& quantizer_;
  const quantized_layout& layout_;
  const std::vector<block_scale>& scales_;
  const column_coupling& coupling_;
  index_t first_row_;
  index_t num_rows_;
  matrix<float> weight_; // (n,rows)
  matrix<float> error_;  // (n,rows)
  matrix<code_t> codes_; // (n,rows)
  std::vector<block_scale> row_scales_;
  index_t group_ = -1;
  row_vector rounded_;
  row_vector change_;
};

/// Rows that one task rounds: enough for matrix products, few enough for the second-level cache.
inline constexpr index_t rounded_rows = 64;

} // namespace detail

/// Q for X (m,n) by error feedback, then `descents` passes of coordinate descent on the same scales.
///
/// @param hints  of the scales, found before anything is rounded (GPTQ's static groups)
/// @memory m n bytes of codes; per thread 9 n 64 bytes
/// @complexity O(m n^2), a product with the coupling per pass
/// @determinism the same bits on any number of threads
template <stepwise_quantizer_policy Quantizer>
[[nodiscard]] quantized_matrix round_with_feedback(const Quantizer& quantizer, const matrix<float>& x,
                                                   const column_coupling& coupling,
                                                   const quantize_hints& hints, int descents,
                                                   const executor& run) {
  const quantized_layout layout = quantizer.layout(x.rows(), x.cols());
  const fitted_scales scales = quantizer.fit_scales(x.view(), hints, run);
  matrix<code_t> codes(x.rows(), x.cols());
  for_each_range(run, x.rows(), detail::rounded_rows, [&](index_t begin, index_t end) {
    detail::row_rounder<Quantizer> rows(quantizer, layout, scales.blocks, coupling, begin, end - begin);
    rows.load(x);
    rows.feed_back();
    for (int pass = 0; pass < descents; ++pass) rows.descend();
    rows.store(codes);
  });
  return quantizer.assemble(layout, scales, codes, run);
}

/// Coordinate descent from Q for X (m,n) on Q's own scales; the error in the metric of the coupling never
/// rises.
///
/// @see Bid-Up of GPTQ-intrinsic low-rank adaptation, arXiv 2606.01412
/// @memory, complexity and determinism as round_with_feedback
template <stepwise_quantizer_policy Quantizer>
[[nodiscard]] quantized_matrix round_by_descent(const Quantizer& quantizer, const quantized_matrix& q,
                                                const matrix<float>& x, const column_coupling& coupling,
                                                int passes, const executor& run) {
  const quantized_layout& layout = q.layout();
  const quantized_matrix_view view = q.view();
  fitted_scales scales{std::vector<block_scale>(static_cast<std::size_t>(layout.num_scales())), q.scales()};
  for (index_t i = 0; i < layout.num_scales(); ++i)
    scales.blocks[static_cast<std::size_t>(i)] = view.block(i);
  matrix<code_t> codes(x.rows(), x.cols());
  for_each_range(run, x.rows(), detail::rounded_rows, [&](index_t begin, index_t end) {
    detail::row_rounder<Quantizer> rows(quantizer, layout, scales.blocks, coupling, begin, end - begin);
    rows.load(x);
    row_decoder decode(view);
    std::vector<float> decoded(static_cast<std::size_t>(x.cols()));
    for (index_t i = begin; i < end; ++i) {
      decode(i, decoded.data());
      rows.load_errors(decoded.data(), i);
    }
    for (int pass = 0; pass < passes; ++pass) rows.descend();
    rows.store(codes);
  });
  return quantizer.assemble(layout, scales, codes, run);
}

} // namespace qlr::host
