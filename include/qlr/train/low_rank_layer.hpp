// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/train/concepts.hpp>
#include <qlr/train/detail/factors.hpp>
#include <qlr/train/detail/kaiming.hpp>
#include <qlr/train/detail/quantized_product.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace qlr::train {

/// How a layer over a quantized matrix starts where no decomposition gives its factors.
struct low_rank_options {
  index_t rank = 8;       ///< 0 to min(m,n)
  float scale = 1;        ///< s = LoRA's alpha / r
  std::uint64_t seed = 0; ///< of R
};

/// A linear layer whose low-rank part is trained over a fixed Q: W = Q diag(1 / input_scales) + s L R
/// (QLoRA).
///
/// In float the forward product is the fused one, straight from packed codes; backward decodes a few rows of
/// Q at a time.
/// @tparam Storage  of L and R
/// @memory packed Q, see packed_weights, L and R with their gradients
/// @see Dettmers et al., QLoRA, arXiv 2305.14314
template <storage_scalar Storage>
class low_rank_layer {
public:
  using compute_type = compute_t<Storage>;

  /// Continues from a decomposition, such as one by LoftQ, LQ-LoRA or QERA.
  ///
  /// @throws qlr::error invalid_argument, shape_mismatch: as prepack;  non_finite: the scale
  explicit low_rank_layer(const decomposition& start)
      : low_rank_layer(start.quantized, start.input_scales, start.scale, start.rank()) {
    require(start.left.rows() == rows() && start.left.cols() == start.rank() && start.right.cols() == cols(),
            status_code::shape_mismatch, "L is ", start.left.rows(), " x ", start.left.cols(), " and R is ",
            start.right.rows(), " x ", start.right.cols(), ", Q is ", rows(), " x ", cols());
    left_.assign(start.left.view());
    right_.assign(start.right.view());
  }

  /// Starts as PEFT does: L = 0, R uniform within 1 / sqrt(n).
  ///
  /// @throws qlr::error invalid_argument: a rank outside 0 to min(m,n), or Q is empty;  non_finite: the scale
  explicit low_rank_layer(const quantized_matrix& q, const low_rank_options& options = {})
      : low_rank_layer(q, {}, options.scale, checked_rank(q, options.rank)) {
    detail::fill_kaiming(right_, options.seed);
  }

  [[nodiscard]] index_t rows() const { return product_.rows(); }
  [[nodiscard]] index_t cols() const { return product_.cols(); }
  [[nodiscard]] index_t rank() const { return right_.rows(); }
  [[nodiscard]] float scale() const { return scale_; }

  /// See trainable_layer.
  ///
  /// @throws qlr::error shape_mismatch, invalid_argument: X or Y does not fit, or they overlap
  /// @throws qlr::error non_finite: L or R is not finite
  void forward(matrix_view<const compute_type> x, matrix_view<compute_type> y,
               const executor& run = {}) const {
    const matrix<compute_type> left = left_.widened();
    const matrix<compute_type> right = right_.widened();
    product_.forward(x, {left.view(), right.view(), scale_}, y, run);
  }
  /// See trainable_layer.
  ///
  /// @throws qlr::error shape_mismatch, invalid_argument: X or a gradient does not fit
  void backward(matrix_view<const compute_type> x, matrix_view<const compute_type> grad_y,
                matrix_view<compute_type> grad_x, const executor& run = {}) {
    const matrix<compute_type> left = left_.widened();
    const matrix<compute_type> right = right_.widened();
    product_.backward(x, grad_y, {left.view(), right.view(), scale_},
                      {left_.gradient().view(), right_.gradient().view(), {}, grad_x}, run);
  }

  /// "left" (m,r) and "right" (r,n).
  [[nodiscard]] std::vector<parameter_view<compute_type>> parameters(const std::string& prefix = {}) {
    return {left_.view(prefix + "left"), right_.view(prefix + "right")};
  }
  /// Packed Q and the factors as they are stored.
  [[nodiscard]] index_t stored_bytes() const {
    return product_.stored_bytes() + (left_.size() + right_.size()) * static_cast<index_t>(sizeof(Storage));
  }
  /// See state.hpp; Q and s do not change and are not part of it.
  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    archive.values(prefix + "left", left_.values());
    archive.values(prefix + "right", right_.values());
  }

  /// Q and the factors of now, to be saved, packed or merged.
  ///
  /// @param storage  what L and R are rounded to
  /// @throws qlr::error non_finite: an entry of a factor;  unsupported: one beyond the range of fp16
  [[nodiscard]] decomposition to_decomposition(factor_storage storage = factor_storage::fp32) const {
    return detail::make_decomposition(product_.quantized(), left_.widened(), right_.widened(), scale_,
                                      storage, input_scales_);
  }

private:
  low_rank_layer(const quantized_matrix& q, const std::vector<float>& input_scales, float scale, index_t rank)
      : product_(q, input_scales), input_scales_(input_scales), scale_(scale), left_(q.rows(), rank),
        right_(rank, q.cols()) {
    require(is_finite(scale), status_code::non_finite, "scale is ", scale, ", it must be finite");
  }

  static index_t checked_rank(const quantized_matrix& q, index_t rank) {
    detail::check_rank(rank, q.rows(), q.cols());
    return rank;
  }

  detail::quantized_product<compute_type> product_;
  std::vector<float> input_scales_;
  float scale_ = 1;
  parameter<Storage> left_;
  parameter<Storage> right_;
};

static_assert(trainable_layer<low_rank_layer<float>> && trainable_layer<low_rank_layer<double>> &&
              trainable_layer<low_rank_layer<bfloat16>>);

} // namespace qlr::train
