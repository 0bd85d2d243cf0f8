// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/decompose/concatenate.hpp>
#include <qlr/decompose/detail/nearest_codes.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/rebuild_quantizer.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr {

/// Which scales Q has after a merge.
enum class merge_scales {
  kept,     ///< those of Q: each code moves to the nearest, whatever made Q
  refitted, ///< those that the format finds for the sum
  best      ///< of both the one with the smaller relative_error; kept where Q's format cannot be refitted
};

[[nodiscard]] constexpr std::string_view to_string(merge_scales scales) {
  switch (scales) {
  case merge_scales::kept:
    return "kept";
  case merge_scales::refitted:
    return "refitted";
  case merge_scales::best:
    return "best";
  }
  return "";
}

/// How a merge is done, and what it may lose.
struct merge_options {
  merge_scales scales = merge_scales::best;
  double largest_error = 0.1; ///< of merge_report::relative_error, at least 0
  bool allow_loss = false;    ///< merge whatever the error is
};

/// What became of D = s' L' R' in the codes; with S the change of Q diag(1 / input_scales) that they hold.
struct merge_report {
  double relative_delta = 0;                ///< ||D|| / ||Q diag(1 / input_scales)||, infinite for Q = 0
  double survived_share = 1;                ///< <S, D> / <D, D>: 0 = lost, 1 = there in full; 1 for D = 0
  double relative_error = 0;                ///< ||S - D|| / ||D||: above 1, the merge is worse than none
  index_t changed_codes = 0;                ///< codes of Q that are not as before
  index_t num_codes = 0;                    ///< m n
  merge_scales scales = merge_scales::kept; ///< never best

  [[nodiscard]] bool is_within(double largest_error) const { return relative_error <= largest_error; }
  /// One sentence for people.
  [[nodiscard]] std::string verdict() const {
    return sentence("merging keeps ", 100 * survived_share, " % of the adapter with a relative error of ",
                    relative_error, " and changes ", changed_codes, " of ", num_codes, " codes");
  }
};

/// A decomposition with an adapter inside its codes.
struct merge_result {
  decomposition merged;
  merge_report report;
};

namespace detail {

/// s' L' R' (m,n), summed in double.
[[nodiscard]] inline matrix<float> adapter_product(matrix_view<const float> left,
                                                   matrix_view<const float> right, float scale,
                                                   const executor& run) {
  matrix<float> product(left.rows(), right.cols());
  for_each_range(run, product.rows(), rows_per_task(product.cols()), [&](index_t begin, index_t end) {
    std::vector<double> row(static_cast<std::size_t>(product.cols()));
    for (index_t i = begin; i < end; ++i) {
      std::ranges::fill(row, 0.0);
      for (index_t k = 0; k < left.cols(); ++k) {
        const double factor = static_cast<double>(scale) * static_cast<double>(left(i, k));
        for (std::size_t j = 0; j < row.size(); ++j)
          row[j] += factor * static_cast<double>(right(k, static_cast<index_t>(j)));
      }
      for (std::size_t j = 0; j < row.size(); ++j)
        product(i, static_cast<index_t>(j)) = static_cast<float>(row[j]);
    }
  });
  require_finite(std::as_const(product).view(), "adapter product", run);
  return product;
}

[[nodiscard]] inline double input_scale(const decomposition& base, index_t col) {
  return base.input_scales.empty() ? 1.0
                                   : static_cast<double>(base.input_scales[static_cast<std::size_t>(col)]);
}

/// Q + D diag(input_scales), each code moved to the nearest of its block.
[[nodiscard]] inline quantized_matrix move_codes(const decomposition& base, const matrix<float>& delta,
                                                 const executor& run) {
  const quantized_matrix_view q = base.quantized.view();
  const quantized_layout& layout = q.layout;
  const nearest_codes nearest(base.quantized.levels());
  std::vector<std::uint8_t> packed(base.quantized.codes().size());
  for_each_range(run, q.rows(), rows_per_task(q.cols()), [&](index_t begin, index_t end) {
    std::vector<code_t> codes(static_cast<std::size_t>(q.cols()));
    for (index_t i = begin; i < end; ++i) {
      unpack_codes(layout.order, q.codes + i * layout.row_bytes(), q.cols(), layout.bits, codes.data());
      block_scale block;
      for (index_t j = 0; j < q.cols(); ++j) {
        if (j % layout.group_cols() == 0) block = q.block(layout.scale_index(i, j / layout.group_cols()));
        if (delta(i, j) == 0.0F) continue;
        code_t& code = codes[static_cast<std::size_t>(j)];
        const double change = static_cast<double>(delta(i, j)) * input_scale(base, j);
        code = nearest.find(static_cast<double>(decode_value(q.levels[code], block)) + change, block, code);
      }
      pack_codes(layout.order, codes.data(), q.cols(), layout.bits, packed.data() + i * layout.row_bytes());
    }
  });
  return {base.quantized.format_name(), layout,
          base.quantized.levels(),      std::move(packed),
          base.quantized.scales(),      base.quantized.zeros()};
}

/// Q + D diag(input_scales), quantized anew.
[[nodiscard]] inline quantized_matrix refit_codes(const decomposition& base, const matrix<float>& delta,
                                                  const any_quantizer& quantizer, const executor& run) {
  matrix<float> sum(base.rows(), base.cols());
  for_each_decoded_row(base.quantized.view(), run, [&](index_t i, const float* row) {
    for (index_t j = 0; j < sum.cols(); ++j) {
      sum(i, j) = static_cast<float>(static_cast<double>(row[j]) +
                                     static_cast<double>(delta(i, j)) * input_scale(base, j));
    }
  });
  require_finite(std::as_const(sum).view(), "Q with the adapter", run);
  return quantizer.quantize(sum.view(), {}, run);
}

/// Sums over one row, or over all.
struct merge_sums {
  double base = 0;  ///< of squares of Q diag(1 / input_scales)
  double delta = 0; ///< of squares of D
  double cross = 0; ///< of S D
  double error = 0; ///< of squares of S - D
  index_t changed = 0;
};

[[nodiscard]] inline merge_report measure_merge(const decomposition& base, const quantized_matrix& merged,
                                                const matrix<float>& delta, merge_scales scales,
                                                const executor& run) {
  const quantized_matrix_view after = merged.view();
  std::vector<merge_sums> rows(static_cast<std::size_t>(base.rows()));
  for_each_range(run, base.rows(), rows_per_task(base.cols()), [&](index_t begin, index_t end) {
    row_decoder decode_before(base.quantized.view());
    row_decoder decode_after(after);
    std::vector<float> before(static_cast<std::size_t>(base.cols()));
    std::vector<float> moved(before.size());
    for (index_t i = begin; i < end; ++i) {
      decode_before(i, before.data());
      decode_after(i, moved.data());
      merge_sums& sums = rows[static_cast<std::size_t>(i)];
      for (index_t j = 0; j < base.cols(); ++j) {
        const auto at = static_cast<std::size_t>(j);
        const double smoothing = input_scale(base, j);
        const double old = static_cast<double>(before[at]) / smoothing;
        const double wanted = static_cast<double>(delta(i, j));
        const double survived = static_cast<double>(moved[at]) / smoothing - old;
        sums.base += old * old;
        sums.delta += wanted * wanted;
        sums.cross += survived * wanted;
        sums.error += (survived - wanted) * (survived - wanted);
        sums.changed += base.quantized.view().code(i, j) != after.code(i, j) ? 1 : 0;
      }
    }
  });
  merge_sums all;
  for (const merge_sums& row : rows) { // in order: the same bits on any number of threads
    all.base += row.base;
    all.delta += row.delta;
    all.cross += row.cross;
    all.error += row.error;
    all.changed += row.changed;
  }
  merge_report report;
  report.num_codes = base.rows() * base.cols();
  report.changed_codes = all.changed;
  report.scales = scales;
  if (all.delta == 0) return report;
  report.relative_delta = std::sqrt(all.delta / all.base);
  report.survived_share = all.cross / all.delta;
  report.relative_error = std::sqrt(all.error / all.delta);
  return report;
}

/// One way of merging, measured.
[[nodiscard]] inline merge_result make_merge(const decomposition& base, quantized_matrix&& merged,
                                             const matrix<float>& delta, merge_scales scales,
                                             const executor& run) {
  merge_result result{base, measure_merge(base, merged, delta, scales, run)};
  result.merged.quantized = std::move(merged);
  return result;
}

} // namespace detail

/// Puts a low-rank adapter into the codes: Q + s' L' R' diag(input_scales) is quantized again.
///
/// The correction s L R stays as it is. An adapter is often smaller than half a step of Q, and rounding then
/// takes it away; so a merge that loses more than options.largest_error is refused, and concatenate() keeps
/// everything.
/// @param left   L' (m,r'), any strides
/// @param right  R' (r',n), any strides
/// @param scale  s', such as lora_alpha / r
/// @returns what was merged, and how much of it is there; an adapter of zeros leaves the codes as they are
/// @throws qlr::error invalid_argument: largest_error is negative or NaN, or Q is empty
/// @throws qlr::error shape_mismatch: the factors do not fit Q or each other
/// @throws qlr::error non_finite: NaN or infinity in the adapter or its product
/// @throws qlr::error unsupported: the merge loses more than allowed, with the figures; or refitted scales
/// for a Q that rebuild_quantizer() does not know
/// @memory two matrices (m,n) of float beside two of codes
/// @complexity O(m n r')
/// @determinism the same bits on any number of threads
[[nodiscard]] inline merge_result merge(const decomposition& base, matrix_view<const float> left,
                                        matrix_view<const float> right, float scale,
                                        const merge_options& options = {}, const executor& run = {}) {
  require(options.largest_error >= 0, status_code::invalid_argument, "largest_error is ",
          options.largest_error, ", allowed are 0 and above");
  require(base.rows() > 0 && base.cols() > 0, status_code::invalid_argument, "Q is ", base.rows(), " x ",
          base.cols(), ", it must not be empty");
  detail::check_adapter(base, left, right, scale);
  const std::optional<any_quantizer> quantizer =
      options.scales == merge_scales::kept ? std::nullopt : rebuild_quantizer(base.quantized);
  require(options.scales != merge_scales::refitted || quantizer, status_code::unsupported,
          "Q has the format '", base.quantized.format_name(),
          "' with levels or a layout of its own, whose scales cannot be refitted; allowed are kept scales");
  const matrix<float> delta = detail::adapter_product(left, right, scale, run);
  const bool is_zero =
      std::all_of(delta.data(), delta.data() + delta.size(), [](float x) { return x == 0.0F; });
  std::optional<merge_result> result;
  if (options.scales != merge_scales::refitted || is_zero)
    result = detail::make_merge(base, detail::move_codes(base, delta, run), delta, merge_scales::kept, run);
  if (quantizer && !is_zero) {
    merge_result refitted = detail::make_merge(base, detail::refit_codes(base, delta, *quantizer, run), delta,
                                               merge_scales::refitted, run);
    if (!result || refitted.report.relative_error < result->report.relative_error)
      result = std::move(refitted);
  }
  require(options.allow_loss || result->report.is_within(options.largest_error), status_code::unsupported,
          result->report.verdict(), ", allowed is an error of at most ", options.largest_error,
          "; concatenate the adapter, or allow the loss");
  return std::move(*result);
}

} // namespace qlr
