// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/train/concepts.hpp>
#include <qlr/train/detail/factor_rows.hpp>
#include <qlr/train/detail/integer_grid.hpp>
#include <qlr/train/detail/kaiming.hpp>
#include <qlr/train/detail/weight_rows.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace qlr::train {

/// How an lrq_layer is made.
struct lrq_options {
  index_t rank = 16;      ///< of L2 U2, 0 to min(m,n)
  std::uint64_t seed = 0; ///< of U2
};

/// Learned rounding with low-rank scales (LRQ): W is divided by a learned matrix before it is rounded.
///
///     W_hat = s1 (clamp(round(W / D) + z) - z),   D = s1 exp(L2 U2 + r2 + c2)
///
/// s1 (m,groups) is trained through its logarithm, L2 (m,r) begins at zero, U2 (r,n) at random, r2 (m,1) and
/// c2 (1,n) at zero; the zero points z stay. So training begins at rounding to nearest, and ends in plain
/// codes and scales, see to_quantized.
/// @tparam Storage  of W, L2 and U2; scales and biases are kept in what is computed with
/// @memory W, the parameters and their gradients; W_hat exists a few rows at a time only
/// @see Lee et al., LRQ, arXiv 2407.11534, equation 2, here with a scale per group instead of per row as an
/// option, and started from any integer quantizer instead of a search of its own
template <storage_scalar Storage>
class lrq_layer {
public:
  using compute_type = compute_t<Storage>;

  /// @param weight  W (m,n), any strides
  /// @param start   W quantized to consecutive integers (int, uint): its scales and zero points
  /// @throws qlr::error shape_mismatch: start has another shape;  non_finite: an element of W
  /// @throws qlr::error invalid_argument: rank out of range;  unsupported: another kind of quantizer
  lrq_layer(matrix_view<const float> weight, const quantized_matrix& start, const lrq_options& options = {})
      : grid_(start), weight_(weight.rows(), weight.cols()),
        log_scale_(grid_.rows(), grid_.groups(), undecayed),
        left_(grid_.rows(), detail::checked_rank(options.rank, grid_.rows(), grid_.cols())),
        right_(options.rank, grid_.cols()), row_bias_(grid_.rows(), 1, undecayed),
        column_bias_(1, grid_.cols(), undecayed) {
    require(weight.rows() == grid_.rows() && weight.cols() == grid_.cols(), status_code::shape_mismatch,
            "W is ", weight.rows(), " x ", weight.cols(), ", its quantized start is ", grid_.rows(), " x ",
            grid_.cols());
    require_finite(weight, "W");
    for (index_t i = 0; i < rows(); ++i) {
      for (index_t j = 0; j < cols(); ++j)
        weight_(i, j) = store<Storage>(static_cast<compute_type>(weight(i, j)));
      for (index_t g = 0; g < grid_.groups(); ++g) {
        const float scale = std::fabs(grid_.scale(i, g)); // of zeros it is zero, any other one does as well
        log_scale_.set(i, g,
                       std::log(static_cast<compute_type>(scale >= smallest_normal_float ? scale : 1.0F)));
      }
    }
    detail::fill_kaiming(right_, options.seed);
  }

  [[nodiscard]] index_t rows() const { return grid_.rows(); }
  [[nodiscard]] index_t cols() const { return grid_.cols(); }

  /// See trainable_layer.
  ///
  /// @throws qlr::error shape_mismatch, invalid_argument: X or Y does not fit
  void forward(matrix_view<const compute_type> x, matrix_view<compute_type> y,
               const executor& run = {}) const {
    detail::multiply_rows(*this, x, y, run);
  }
  /// @copydoc forward
  void backward(matrix_view<const compute_type> x, matrix_view<const compute_type> grad_y,
                matrix_view<compute_type> grad_x, const executor& run = {}) {
    detail::differentiate_rows(*this, x, grad_y, grad_x, run);
  }

  [[nodiscard]] std::vector<parameter_view<compute_type>> parameters(const std::string& prefix = {}) {
    return {log_scale_.view(prefix + "log_scale"), left_.view(prefix + "left"), right_.view(prefix + "right"),
            row_bias_.view(prefix + "row_bias"), column_bias_.view(prefix + "column_bias")};
  }
  [[nodiscard]] index_t stored_bytes() const {
    const index_t numbers = weight_.size() + left_.size() + right_.size();
    const index_t exact = log_scale_.size() + row_bias_.size() + column_bias_.size();
    return numbers * static_cast<index_t>(sizeof(Storage)) +
           exact * static_cast<index_t>(sizeof(compute_type)) + grid_.size_bytes();
  }
  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    archive.values(prefix + "log_scale", log_scale_.values());
    archive.values(prefix + "left", left_.values());
    archive.values(prefix + "right", right_.values());
    archive.values(prefix + "row_bias", row_bias_.values());
    archive.values(prefix + "column_bias", column_bias_.values());
  }

  /// W_hat as plain codes and scales, without anything learned left.
  ///
  /// @param scales  their storage; with fp32 it decodes to what forward of a float layer multiplies with, bit
  /// for bit
  /// @throws qlr::error unsupported: a scale beyond the range of its storage
  [[nodiscard]] quantized_matrix to_quantized(const scale_format& scales = {scale_coding::plain,
                                                                            scale_type::fp32}) const {
    return detail::assemble_rows(*this, grid_, scales);
  }

  /// See detail::row_weight.
  using tile = detail::quotient_rows<compute_type>;
  struct shared_sums {
    matrix<compute_type> right;       ///< (r,n)
    matrix<compute_type> column_bias; ///< (1,n)
  };

  [[nodiscard]] compute_type scale(index_t row, index_t group) const {
    return static_cast<compute_type>(grid_.sign(row, group)) * std::exp(log_scale_(row, group));
  }

  void load(index_t first, tile& rows) const {
    const index_t count = rows.weight.rows();
    const detail::row_major<compute_type> factors = load_factors(first, count);
    const auto lowest = static_cast<compute_type>(grid_.lowest());
    const auto highest = static_cast<compute_type>(grid_.highest());
    for (index_t i = 0; i < count; ++i) {
      const Storage* from = weight_.view().row(first + i);
      compute_type* quotient = rows.quotient.view().row(i);
      grid_.for_each_group([&](index_t g, index_t begin, index_t end) {
        const compute_type s = scale(first + i, g);
        const auto sign = static_cast<compute_type>(grid_.sign(first + i, g));
        const compute_type inverse = sign * std::exp(-log_scale_(first + i, g));
        const auto zero = static_cast<compute_type>(grid_.zero(first + i, g));
        for (index_t j = begin; j < end; ++j) {
          quotient[j] = factors(i, j) * (inverse * load_value(from[j]));
          const auto rounded = detail::round_level(quotient[j] + zero, lowest, highest);
          rows.level(i, j) = rounded.level;
          rows.passes(i, j) = rounded.passes ? compute_type{1} : compute_type{0};
          if (!rounded.passes) quotient[j] = 0; // it may be infinite
          rows.weight(i, j) = (rounded.level - zero) * s;
        }
      });
    }
  }

  [[nodiscard]] shared_sums sums() const {
    return {matrix<compute_type>(right_.rows(), cols(), 0), matrix<compute_type>(1, cols(), 0)};
  }

  void add_gradient(index_t first, const tile& rows, matrix_view<const compute_type> gradient,
                    shared_sums& sums) {
    const index_t count = gradient.rows();
    matrix<compute_type> by_exponent(count, cols()); // (tile,n)
    for (index_t i = 0; i < count; ++i) {
      compute_type sum = 0;
      grid_.for_each_group([&](index_t g, index_t begin, index_t end) {
        const compute_type s = scale(first + i, g);
        const auto zero = static_cast<compute_type>(grid_.zero(first + i, g));
        compute_type of_group = 0;
        compute_type of_levels = 0;
        for (index_t j = begin; j < end; ++j) {
          const compute_type scaled = s * gradient(i, j);
          by_exponent(i, j) = -scaled * rows.quotient(i, j) * rows.passes(i, j);
          of_group += by_exponent(i, j);
          of_levels += scaled * (rows.level(i, j) - zero);
        }
        log_scale_.gradient()(first + i, g) += of_levels + of_group;
        sum += of_group;
      });
      row_bias_.gradient()(first + i, 0) += sum;
    }
    for (index_t i = 0; i < count; ++i) { // in this order, whatever the addresses are
      for (index_t j = 0; j < cols(); ++j) sums.column_bias(0, j) += by_exponent(i, j);
    }
    detail::add_factor_gradients(left_, right_, first, by_exponent.view(), compute_type{1}, sums.right);
  }

  void add(const shared_sums& sums) {
    detail::add_to(right_.gradient(), sums.right);
    detail::add_to(column_bias_.gradient(), sums.column_bias);
  }

private:
  static constexpr parameter_options undecayed{.has_weight_decay = false};

  [[nodiscard]] static compute_type load_value(Storage stored) { return train::load(stored); }

  /// exp(-(L2 U2 + r2 + c2)): (tile,n)
  ///
  /// In Eigen's own memory, which is aligned: it computes some elements one by one, with another exp, and
  /// elsewhere the address would decide which.
  [[nodiscard]] detail::row_major<compute_type> load_factors(index_t first, index_t count) const {
    detail::row_major<compute_type> out(count, cols());
    detail::multiply_factors(left_, right_, first, {out.data(), count, cols()});
    for (index_t i = 0; i < count; ++i) {
      for (index_t j = 0; j < cols(); ++j)
        out(i, j) = -(out(i, j) + row_bias_(first + i, 0) + column_bias_(0, j));
    }
    out.array() = out.array().exp();
    return out;
  }

  detail::integer_grid grid_;
  matrix<Storage> weight_;              ///< (m,n)
  parameter<compute_type> log_scale_;   ///< (m,groups)
  parameter<Storage> left_;             ///< L2 (m,r)
  parameter<Storage> right_;            ///< U2 (r,n)
  parameter<compute_type> row_bias_;    ///< r2 (m,1)
  parameter<compute_type> column_bias_; ///< c2 (1,n)
};

static_assert(trainable_layer<lrq_layer<float>> && detail::row_weight<lrq_layer<float>>);

} // namespace qlr::train
