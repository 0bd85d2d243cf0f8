// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/host/backend.hpp>
#include <qlr/lowrank/randomized_svd.hpp>
#include <qlr/train/concepts.hpp>
#include <qlr/train/detail/compensation.hpp>
#include <qlr/train/detail/factors.hpp>
#include <qlr/train/detail/kaiming.hpp>
#include <qlr/train/detail/projection.hpp>
#include <qlr/train/detail/quantized_product.hpp>
#include <qlr/train/detail/quantized_state.hpp>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qlr::train {

/// How a LoQT layer is made.
struct loqt_options {
  index_t rank = 16;          ///< 0 to min(m,n)
  float scale = 0.5F;         ///< s, positive
  int compensation_steps = 5; ///< rounds of quantizing and fitting at a refresh; 0 = T starts at zero
  /// Stores P, groups along its long side; empty = P is stored as the trained factor is.
  std::optional<any_quantizer> projection_quantizer{};
  std::uint64_t seed = 0; ///< of the singular vectors of the gradient
};

/// A linear layer that is trained from quantized weights on (LoQT): W = Q + s L R, of whose factors one, T,
/// is trained and the other, P, holds singular vectors of a gradient of the dense weight.
///
/// R = P^T is frozen where n <= m, else L = P, so that P is the smaller one. At every refresh the low-rank
/// part is merged into the weight, which is quantized again, and the next P is taken from the next gradient:
///
///     layer.start_refresh();                        // not for a new layer, which begins there
///     layer.forward(...); layer.backward(...);      // any number of batches, no optimizer's step
///     layer.finish_refresh();
///
/// T keeps its place in memory and its shape, so an optimizer's state goes on.
/// @tparam Storage  of P and T
/// @memory packed Q, see packed_weights, P, T and its gradient; refresh_bytes() besides while it is refreshed
/// @see Loeschcke et al., LoQT, arXiv 2405.16528, algorithm 1
template <storage_scalar Storage>
class loqt_layer {
public:
  using compute_type = compute_t<Storage>;

  /// Begins in the middle of a refresh: Q is the quantized weight, and there is no low-rank part.
  ///
  /// @param weight  W (m,n), any strides
  /// @throws qlr::error invalid_argument: a rank outside 0 to min(m,n), a scale that is not positive,
  /// negative compensation_steps, a group size that does not suit the shape, or W is empty
  /// @throws qlr::error non_finite: NaN or infinity in W
  loqt_layer(matrix_view<const float> weight, any_quantizer quantizer, const loqt_options& options = {},
             const executor& run = {})
      : quantizer_(std::move(quantizer)), options_(checked(options, weight)),
        product_(qlr::quantize(weight, quantizer_, run)),
        factor_(trains_left() ? weight.rows() : options.rank, trains_left() ? options.rank : weight.cols()),
        projection_(options.rank, std::min(weight.rows(), weight.cols()), options.projection_quantizer),
        refresh_(refresh{detail::convert<float>(weight)}) {}

  [[nodiscard]] index_t rows() const { return product_.rows(); }
  [[nodiscard]] index_t cols() const { return product_.cols(); }
  [[nodiscard]] index_t rank() const { return options_.rank; }
  /// Whether L is the trained factor.
  [[nodiscard]] bool trains_left() const { return cols() <= rows(); }
  /// Whether a refresh has begun and not ended.
  [[nodiscard]] bool is_refreshing() const { return refresh_.has_value(); }

  /// See trainable_layer; X Q^T alone while the layer is refreshed.
  ///
  /// @throws qlr::error shape_mismatch, invalid_argument: X or Y does not fit, or they overlap
  /// @throws qlr::error non_finite: T is not finite
  void forward(matrix_view<const compute_type> x, matrix_view<compute_type> y,
               const executor& run = {}) const {
    const factors f = current_factors();
    product_.forward(x, f.view(options_.scale), y, run);
  }
  /// See trainable_layer; while the layer is refreshed, the gradient of the dense weight is added up instead
  /// of that of T.
  ///
  /// @throws qlr::error shape_mismatch, invalid_argument: X or a gradient does not fit
  void backward(matrix_view<const compute_type> x, matrix_view<const compute_type> grad_y,
                matrix_view<compute_type> grad_x, const executor& run = {}) {
    const factors f = current_factors();
    detail::product_gradients<compute_type> to;
    to.x = grad_x;
    if (refresh_) {
      if (refresh_->gradient.size() == 0) refresh_->gradient = matrix<compute_type>(rows(), cols(), 0);
      to.weight = refresh_->gradient.view();
    } else {
      (trains_left() ? to.left : to.right) = factor_.gradient().view();
    }
    product_.backward(x, grad_y, f.view(options_.scale), to, run);
  }

  /// Merges W = Q + s L R, which is kept in fp32, and quantizes it; T and its gradient become zero.
  ///
  /// @throws qlr::error invalid_argument: the layer is being refreshed;  non_finite: the merged weight
  /// @throws qlr::error unsupported: a scale beyond the range of its format; nothing has changed then
  void start_refresh(const executor& run = {}) {
    require(!is_refreshing(), status_code::invalid_argument,
            "the layer is being refreshed; finish_refresh() comes before the next start_refresh()");
    refresh next{merged(run)};
    product_ = product_type(qlr::quantize(std::as_const(next.weight).view(), quantizer_, run));
    refresh_ = std::move(next);
    clear_factor();
  }

  /// Takes P from the gradient since start_refresh(), or, where that is zero, from W - Q; then finds Q and T
  /// by compensation, and frees W and the gradient.
  ///
  /// P holds the leading right singular vectors where L is trained, else the left ones. Of Q = the quantized
  /// W with T = 0 and the pairs (Q, T) of the rounds, the one nearest to W is kept. After an
  /// error the layer is still being refreshed, and its gradient is zero again.
  /// @throws qlr::error invalid_argument: the layer is not being refreshed;  non_finite: the gradient
  /// @throws qlr::error unsupported: a scale beyond the range of its format
  /// @throws qlr::error numerical_failure: no singular vectors
  void finish_refresh(const executor& run = {}) {
    require(is_refreshing(), status_code::invalid_argument,
            "the layer is not being refreshed; start_refresh() comes before finish_refresh()");
    matrix<float> gradient = take_gradient();
    require_finite(std::as_const(gradient).view(), "gradient", run);
    finish_from(gradient, run);
    refresh_.reset();
  }

  /// T alone, "left" (m,r) or "right" (r,n); zero with a gradient of zero while the layer is refreshed.
  [[nodiscard]] std::vector<parameter_view<compute_type>> parameters(const std::string& prefix = {}) {
    return {factor_.view(prefix + factor_name())};
  }
  /// Packed Q, and P and T as they are stored.
  [[nodiscard]] index_t stored_bytes() const {
    return product_.stored_bytes() + projection_.stored_bytes() +
           factor_.size() * static_cast<index_t>(sizeof(Storage));
  }
  /// What a refresh takes besides: W and the gradient, and at its end two quantized matrices and the vectors
  /// of the randomized SVD.
  [[nodiscard]] index_t refresh_bytes() const {
    const index_t size = rows() * cols();
    const auto gradient = static_cast<index_t>(sizeof(compute_type)) * size;
    const index_t narrowed = std::same_as<compute_type, float> ? 0 : 4 * size;
    const randomized_svd_options svd = svd_options();
    const index_t vectors = std::min(svd.cold_blocks * (rank() + svd.oversampling), std::min(rows(), cols()));
    return 4 * size + gradient + narrowed + 2 * quantizer_.layout(rows(), cols()).storage_bytes() +
           4 * vectors * (rows() + cols());
  }

  /// See state.hpp. A state can be loaded at any time, which ends a refresh.
  ///
  /// @throws qlr::error invalid_argument: a layer that is being refreshed is to be saved
  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    require(!archive.is_saving() || !is_refreshing(), status_code::invalid_argument, "layer ", prefix,
            " is being refreshed; its state can be saved after finish_refresh()");
    quantized_matrix q = product_.quantized();
    detail::visit_quantized(archive, prefix + "quantized.", q);
    projection_.visit_state(archive, prefix + "projection");
    archive.values(prefix + factor_name(), factor_.values());
    if (!archive.is_loading()) return;
    product_ = product_type(q);
    refresh_.reset();
    factor_.gradient().fill(0);
  }

  /// Q and the factors of now, to be saved, packed or merged; of rank 0 while the layer is refreshed.
  ///
  /// @param storage  what L and R are rounded to
  /// @throws qlr::error non_finite: an entry of a factor;  unsupported: one beyond the range of fp16
  [[nodiscard]] decomposition to_decomposition(factor_storage storage = factor_storage::fp32) const {
    const factors f = current_factors();
    return detail::make_decomposition(product_.quantized(), f.left, f.right, options_.scale, storage);
  }

private:
  using product_type = detail::quantized_product<compute_type>;

  /// What is kept during a refresh.
  struct refresh {
    matrix<float> weight;
    matrix<compute_type> gradient{}; ///< empty until there is one
  };

  struct factors {
    matrix<compute_type> left;
    matrix<compute_type> right;
    [[nodiscard]] detail::low_rank_view<compute_type> view(float scale) const {
      return {left.view(), right.view(), static_cast<compute_type>(scale)};
    }
  };

  static const loqt_options& checked(const loqt_options& options, matrix_view<const float> weight) {
    detail::check_rank(options.rank, weight.rows(), weight.cols());
    require(is_finite(options.scale) && options.scale > 0, status_code::invalid_argument, "scale is ",
            options.scale, ", it must be positive");
    require(options.compensation_steps >= 0, status_code::invalid_argument, "compensation_steps is ",
            options.compensation_steps, ", allowed are 0 and above");
    return options;
  }

  [[nodiscard]] const char* factor_name() const { return trains_left() ? "left" : "right"; }
  [[nodiscard]] randomized_svd_options svd_options() const { return {.seed = options_.seed}; }

  [[nodiscard]] factors current_factors() const {
    if (refresh_) return {matrix<compute_type>(rows(), 0), matrix<compute_type>(0, cols())};
    const matrix<float> vectors = projection_.vectors();
    if (trains_left()) return {factor_.widened(), detail::convert<compute_type>(vectors.view())};
    return {detail::convert<compute_type>(vectors.view().transposed()), factor_.widened()};
  }

  void clear_factor() {
    factor_.values().fill(Storage{});
    factor_.gradient().fill(0);
  }

  /// Q + s L R.
  [[nodiscard]] matrix<float> merged(const executor& run) const {
    const factors f = current_factors();
    matrix<float> out(rows(), cols());
    for_each_range(run, rows(), detail::tile_rows, [&](index_t begin, index_t end) {
      detail::row_major<compute_type> weight(end - begin, cols());
      product_.load(begin, detail::view(weight));
      if (rank() > 0) {
        weight += static_cast<compute_type>(options_.scale) *
                  detail::product(f.left.view().middle_rows(begin, end - begin), f.right.view());
      }
      detail::map(out.view().middle_rows(begin, end - begin)) = weight.template cast<float>();
    });
    return out;
  }

  /// The gradient of the dense weight, which is gone then; zeros where there is none.
  [[nodiscard]] matrix<float> take_gradient() {
    matrix<compute_type> gradient = std::exchange(refresh_->gradient, {});
    if (gradient.size() == 0) return {rows(), cols(), 0.0F};
    if constexpr (std::same_as<compute_type, float>) {
      return gradient;
    } else {
      return detail::convert<float>(std::as_const(gradient).view());
    }
  }

  /// @param gradient  of the dense weight; overwritten
  void finish_from(matrix<float>& gradient, const executor& run) {
    if (std::all_of(gradient.data(), gradient.data() + gradient.size(), [](float g) { return g == 0.0F; }))
      subtract_quantized(gradient, run);
    detail::projection<Storage> next = projection_;
    next.assign(leading_vectors(gradient, run), run);
    if (options_.compensation_steps == 0 || rank() == 0) {
      clear_factor();
    } else {
      const matrix<float>& weight = refresh_->weight;
      const detail::compensation<Storage> fit(weight, next.vectors(), trains_left(), options_.scale, run);
      const auto best = fit.best_of(options_.compensation_steps, product_.quantized(), quantizer_, gradient);
      product_ = product_type(best.quantized);
      factor_.assign(best.factor.view());
    }
    projection_ = std::move(next);
  }

  /// W - Q.
  void subtract_quantized(matrix<float>& out, const executor& run) const {
    const quantized_matrix quantized = product_.quantized();
    for_each_decoded_row(quantized.view(), run, [&](index_t i, const float* q) {
      for (index_t j = 0; j < cols(); ++j) out(i, j) = refresh_->weight(i, j) - q[j];
    });
  }

  /// P transposed (r, min(m,n)).
  [[nodiscard]] matrix<float> leading_vectors(const matrix<float>& gradient, const executor& run) const {
    const host::eigen_backend backend(run);
    randomized_svd<host::eigen_backend> svd(svd_options());
    singular_triplets<matrix<float>> found = svd.solve(backend, gradient, rank());
    return trains_left() ? std::move(found.right) : std::move(found.left);
  }

  any_quantizer quantizer_;
  loqt_options options_;
  product_type product_;
  parameter<Storage> factor_;
  detail::projection<Storage> projection_;
  std::optional<refresh> refresh_;
};

static_assert(trainable_layer<loqt_layer<float>> && trainable_layer<loqt_layer<double>> &&
              trainable_layer<loqt_layer<bfloat16>>);

} // namespace qlr::train
