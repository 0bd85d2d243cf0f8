// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/train/concepts.hpp>
#include <qlr/train/detail/factor_rows.hpp>
#include <qlr/train/detail/frozen_matrix.hpp>
#include <qlr/train/detail/integer_grid.hpp>
#include <qlr/train/detail/kaiming.hpp>
#include <qlr/train/detail/weight_rows.hpp>
#include <qlr/train/frozen_storage.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace qlr::train {

/// How an lr_qat_layer is made.
struct lr_qat_options {
  index_t rank = 16; ///< 0 to min(m,n)
  double alpha = 1;  ///< the product of the factors is multiplied with alpha / rank
  frozen_storage start = frozen_storage::fixed8; ///< of W / s0
  double scale_learning_rate_factor = 0.01;      ///< times the learning rate
  std::uint64_t seed = 0;                        ///< of R
};

/// Quantization-aware training through a low-rank change of the integers (LR-QAT).
///
///     W_hat = s (clamp(round(Phi_0 + alpha / r L R)) - z),   Phi_0 = W / s0 + z, kept in low precision
///
/// s (m,groups) is trained and begins at s0 (at 1e-6 of the mean scale where that is larger), L (m,r) begins
/// at zero, R (r,n) at random; the paper's A and B. The result is plain codes and scales, see to_quantized:
/// no low-rank part is left.
/// @tparam Storage  of L and R; scales are kept in what is computed with
/// @memory Phi_0 in 1, 2 or 4 bytes per weight, the parameters and their gradients; W_hat exists a few rows
/// at a time only, so it costs no memory to recompute it in the backward pass
/// @see Bondarenko et al., Low-rank quantization-aware training for LLMs, arXiv 2406.06385, equations 5 and 6
template <storage_scalar Storage>
class lr_qat_layer {
public:
  using compute_type = compute_t<Storage>;

  /// @param weight  W (m,n), any strides; W with the changes of error feedback (GPTQ) starts from its result
  /// @param start   a matrix quantized to consecutive integers (int, uint): the first scales, and the zero
  /// points
  /// @throws qlr::error shape_mismatch: start has another shape;  non_finite: an element of W
  /// @throws qlr::error invalid_argument: an option out of range;  unsupported: another kind of quantizer
  lr_qat_layer(matrix_view<const float> weight, const quantized_matrix& start,
               const lr_qat_options& options = {})
      : grid_(start), factor_(static_cast<compute_type>(
                          options.alpha / static_cast<double>(std::max<index_t>(1, options.rank)))),
        start_(grid_.rows(), grid_.cols(), options.start, grid_.bits(), grid_.lowest()),
        scale_(grid_.rows(), grid_.groups(),
               {.learning_rate_factor = options.scale_learning_rate_factor, .has_weight_decay = false}),
        left_(grid_.rows(), detail::checked_rank(options.rank, grid_.rows(), grid_.cols())),
        right_(options.rank, grid_.cols()) {
    require(weight.rows() == grid_.rows() && weight.cols() == grid_.cols(), status_code::shape_mismatch,
            "W is ", weight.rows(), " x ", weight.cols(), ", its quantized start is ", grid_.rows(), " x ",
            grid_.cols());
    require(is_finite(options.alpha), status_code::invalid_argument, "alpha is ", options.alpha,
            ", it must be finite");
    require(is_finite(options.scale_learning_rate_factor) && options.scale_learning_rate_factor >= 0,
            status_code::invalid_argument, "scale_learning_rate_factor is ",
            options.scale_learning_rate_factor, ", allowed are 0 and finite numbers above");
    require_finite(weight, "W");
    load_start(weight);
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
    return {scale_.view(prefix + "scale"), left_.view(prefix + "left"), right_.view(prefix + "right")};
  }
  [[nodiscard]] index_t stored_bytes() const {
    return start_.size_bytes() + (left_.size() + right_.size()) * static_cast<index_t>(sizeof(Storage)) +
           scale_.size() * static_cast<index_t>(sizeof(compute_type)) + grid_.size_bytes();
  }
  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    archive.values(prefix + "scale", scale_.values());
    archive.values(prefix + "left", left_.values());
    archive.values(prefix + "right", right_.values());
  }

  /// @copydoc lrq_layer::to_quantized
  [[nodiscard]] quantized_matrix to_quantized(const scale_format& scales = {scale_coding::plain,
                                                                            scale_type::fp32}) const {
    return detail::assemble_rows(*this, grid_, scales);
  }

  /// See detail::row_weight.
  using tile = detail::rounded_rows<compute_type>;
  struct shared_sums {
    matrix<compute_type> right; ///< (r,n)
  };

  /// s, of the sign that it began with.
  [[nodiscard]] compute_type scale(index_t row, index_t group) const {
    return static_cast<compute_type>(grid_.sign(row, group)) * std::max(scale_(row, group), smallest_scale_);
  }

  void load(index_t first, tile& rows) const {
    const index_t count = rows.weight.rows();
    detail::multiply_factors(left_, right_, first, rows.weight.view());
    start_.load_rows(first, rows.level.view());
    const auto lowest = static_cast<compute_type>(grid_.lowest());
    const auto highest = static_cast<compute_type>(grid_.highest());
    for (index_t i = 0; i < count; ++i) {
      grid_.for_each_group([&](index_t g, index_t begin, index_t end) {
        const compute_type s = scale(first + i, g);
        const auto zero = static_cast<compute_type>(grid_.zero(first + i, g));
        for (index_t j = begin; j < end; ++j) {
          const compute_type value = rows.level(i, j) + factor_ * rows.weight(i, j);
          const auto rounded = detail::round_level(value, lowest, highest);
          rows.level(i, j) = rounded.level;
          rows.passes(i, j) = rounded.passes ? compute_type{1} : compute_type{0};
          rows.weight(i, j) = (rounded.level - zero) * s;
        }
      });
    }
  }

  [[nodiscard]] shared_sums sums() const { return {matrix<compute_type>(right_.rows(), cols(), 0)}; }

  void add_gradient(index_t first, const tile& rows, matrix_view<const compute_type> gradient,
                    shared_sums& sums) {
    const index_t count = gradient.rows();
    matrix<compute_type> by_level(count, cols()); // (tile,n)
    for (index_t i = 0; i < count; ++i) {
      grid_.for_each_group([&](index_t g, index_t begin, index_t end) {
        const compute_type s = scale(first + i, g);
        const auto zero = static_cast<compute_type>(grid_.zero(first + i, g));
        compute_type of_levels = 0;
        for (index_t j = begin; j < end; ++j) {
          by_level(i, j) = s * gradient(i, j) * rows.passes(i, j);
          of_levels += gradient(i, j) * (rows.level(i, j) - zero);
        }
        scale_.gradient()(first + i, g) += static_cast<compute_type>(grid_.sign(first + i, g)) * of_levels;
      });
    }
    detail::add_factor_gradients(left_, right_, first, by_level.view(), factor_, sums.right);
  }

  void add(const shared_sums& sums) { detail::add_to(right_.gradient(), sums.right); }

private:
  /// Phi_0 and s0.
  void load_start(matrix_view<const float> weight) {
    double mean = 0;
    for (index_t i = 0; i < rows(); ++i) {
      for (index_t g = 0; g < grid_.groups(); ++g) mean += std::fabs(static_cast<double>(grid_.scale(i, g)));
    }
    mean /= static_cast<double>(std::max<index_t>(1, scale_.size()));
    // Far below any useful scale, and what a block of zeros gets.
    smallest_scale_ = static_cast<compute_type>(std::max(1e-6 * mean, double{smallest_normal_float}));
    matrix<float> row(1, cols());
    for (index_t i = 0; i < rows(); ++i) {
      grid_.for_each_group([&](index_t g, index_t begin, index_t end) {
        const float s = std::max(std::fabs(grid_.scale(i, g)), static_cast<float>(smallest_scale_));
        scale_.set(i, g, static_cast<compute_type>(s));
        for (index_t j = begin; j < end; ++j)
          row(0, j) = grid_.sign(i, g) * weight(i, j) / s + grid_.zero(i, g);
      });
      start_.store_row(i, row.data());
    }
  }

  detail::integer_grid grid_;
  compute_type factor_;           ///< alpha / r
  detail::frozen_matrix start_;   ///< Phi_0 (m,n)
  parameter<compute_type> scale_; ///< s (m,groups)
  parameter<Storage> left_;       ///< L (m,r)
  parameter<Storage> right_;      ///< R (r,n)
  compute_type smallest_scale_ = 0;
};

static_assert(trainable_layer<lr_qat_layer<float>> && detail::row_weight<lr_qat_layer<float>>);

} // namespace qlr::train
