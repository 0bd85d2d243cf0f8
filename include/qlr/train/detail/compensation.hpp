// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/host/backend.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/train/detail/products.hpp>
#include <qlr/train/detail/weight_rows.hpp>
#include <qlr/train/storage.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace qlr::train::detail {

/// Q and the factor T that was fitted to what it leaves of W.
template <std::floating_point T>
struct compensated_start {
  quantized_matrix quantized;
  matrix<T> factor; ///< L (m,r) or R (r,n)
  double error = 0; ///< ||W - Q - s L R||_F^2
};

/// Fits the trained factor of s L R to W - Q where the vectors of the other are given.
template <storage_scalar Storage>
class compensation {
public:
  using compute_type = compute_t<Storage>;

  /// @param weight   W (m,n), finite; must outlive this
  /// @param vectors  R (r,n) where L is fitted, L transposed (r,m) where R is; r >= 1
  compensation(const matrix<float>& weight, const matrix<float>& vectors, bool fits_left, float scale,
               const executor& run)
      : weight_(weight), fits_left_(fits_left), scale_(static_cast<double>(scale)),
        vectors_(host::map(vectors).template cast<double>()), run_(run) {
    matrix<float> dual(vectors); // (V V^T)^+ V, so that dual^T V is a projection
    host::eigen_backend(run).solve_gram(vectors, dual);
    dual_ = host::map(std::as_const(dual)).template cast<double>();
  }

  /// The best pair of `steps` rounds in which Q is made from what s L R leaves of W, and T from what Q
  /// leaves; Q = `plain` with T = 0 where none is better.
  ///
  /// @param plain  the quantized W
  /// @param rest   (m,n), overwritten
  [[nodiscard]] compensated_start<compute_type> best_of(int steps, quantized_matrix plain,
                                                        const any_quantizer& quantizer,
                                                        matrix<float>& rest) const {
    const index_t rank = vectors_.rows();
    compensated_start<compute_type> best{std::move(plain),
                                         fits_left_ ? matrix<compute_type>(weight_.rows(), rank, 0)
                                                    : matrix<compute_type>(rank, weight_.cols(), 0)};
    best.error = subtract(best.quantized, best.factor, rest);
    quantized_matrix q = best.quantized;
    for (int step = 0; step < steps; ++step) {
      if (step > 0) q = quantizer.quantize(std::as_const(rest).view(), {}, run_);
      matrix<compute_type> factor = fit(q);
      const double error = subtract(q, factor, rest);
      if (!is_finite(error)) break;
      if (error < best.error) best = {q, std::move(factor), error};
    }
    return best;
  }

private:
  using dense = row_major<double>;

  /// W - Q, rows begin ... (count,n).
  [[nodiscard]] dense residual(const quantized_matrix& q, index_t begin, index_t count) const {
    row_decoder decode(q.view());
    std::vector<float> row(static_cast<std::size_t>(q.cols()));
    dense out(count, q.cols());
    for (index_t i = 0; i < count; ++i) {
      decode(begin + i, row.data());
      for (index_t j = 0; j < q.cols(); ++j) {
        out(i, j) = static_cast<double>(weight_(begin + i, j)) -
                    static_cast<double>(row[static_cast<std::size_t>(j)]);
      }
    }
    return out;
  }

  /// The factor with the least ||W - Q - s L R||_F, rounded to what is stored.
  [[nodiscard]] matrix<compute_type> fit(const quantized_matrix& q) const {
    const index_t rank = vectors_.rows();
    dense exact = fits_left_ ? dense(q.rows(), rank) : dense::Zero(rank, q.cols());
    const index_t piece = rows_per_piece(q.rows());
    std::vector<dense> parts(static_cast<std::size_t>((q.rows() + piece - 1) / piece));
    for_each_range(run_, q.rows(), piece, [&](index_t piece_begin, index_t piece_end) {
      dense& part = parts[static_cast<std::size_t>(piece_begin / piece)];
      if (!fits_left_) part.setZero(rank, q.cols());
      for (index_t begin = piece_begin; begin < piece_end; begin += tile_rows) {
        const index_t count = std::min(tile_rows, piece_end - begin);
        const dense left_over = residual(q, begin, count);
        if (fits_left_) {
          exact.middleRows(begin, count) = product(view(left_over), view(dual_).transposed()); // (tile,r)
        } else {
          add_product(middle_cols(view(dual_), begin, count), view(left_over), part); // (r,n)
        }
      }
    });
    if (!fits_left_) {
      for (const dense& part : parts) exact += part;
    }
    matrix<compute_type> factor(exact.rows(), exact.cols());
    for (index_t i = 0; i < factor.size(); ++i) {
      const auto value = static_cast<compute_type>(exact.data()[i] / scale_);
      factor.data()[i] = load(store<Storage>(value));
    }
    return factor;
  }

  /// Writes W - s L R to `rest`; returns ||W - Q - s L R||_F^2.
  double subtract(const quantized_matrix& q, const matrix<compute_type>& factor, matrix<float>& rest) const {
    const dense trained = map(factor.view()).template cast<double>() * scale_;
    std::vector<double> sums(static_cast<std::size_t>((q.rows() + tile_rows - 1) / tile_rows));
    for_each_range(run_, q.rows(), tile_rows, [&](index_t begin, index_t end) {
      const index_t count = end - begin;
      const dense low_rank =
          fits_left_ ? product(view(trained).middle_rows(begin, count), view(vectors_))
                     : product(middle_cols(view(vectors_), begin, count).transposed(), view(trained));
      for (index_t i = 0; i < count; ++i) {
        for (index_t j = 0; j < q.cols(); ++j)
          rest(begin + i, j) =
              static_cast<float>(static_cast<double>(weight_(begin + i, j)) - low_rank(i, j));
      }
      sums[static_cast<std::size_t>(begin / tile_rows)] =
          (residual(q, begin, count) - low_rank).squaredNorm();
    });
    double sum = 0;
    for (const double part : sums) sum += part;
    return sum;
  }

  const matrix<float>& weight_;
  bool fits_left_;
  double scale_;
  dense vectors_;
  dense dual_;
  executor run_;
};

} // namespace qlr::train::detail
