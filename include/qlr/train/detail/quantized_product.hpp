// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul/call.hpp>
#include <qlr/matmul/prepack.hpp>
#include <qlr/train/detail/products.hpp>
#include <qlr/train/detail/weight_rows.hpp>

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace qlr::train::detail {

/// s L R beside Q, L (m,r) and R (r,n); rank 0 where there is none.
template <std::floating_point T>
struct low_rank_view {
  matrix_view<const T> left;
  matrix_view<const T> right;
  T scale = 1;

  [[nodiscard]] index_t rank() const { return right.rows(); }
};

/// Where gradients go; what has no memory is not computed.
template <std::floating_point T>
struct product_gradients {
  matrix_view<T> left{};   ///< of L (m,r), added to
  matrix_view<T> right{};  ///< of R (r,n), added to
  matrix_view<T> weight{}; ///< of the dense weight (m,n), added to
  matrix_view<T> x{};      ///< of X (t,n), written
};

/// Products with a packed Q that is not trained, and their gradients: Y = X Q^T + s (X R^T) L^T.
///
/// Every Eigen product is one of a fixed piece and lands in memory of its own, so its bits depend neither on
/// the number of threads nor on where the operands lie.
/// @tparam T  float: forward is the fused product;  double: rows of Q are decoded, to check gradients with
template <std::floating_point T>
class quantized_product {
public:
  /// @param input_scales  what X is divided by before Q (n); empty = ones
  /// @throws qlr::error as prepack
  explicit quantized_product(const quantized_matrix& q, std::span<const float> input_scales = {})
      : format_name_(q.format_name()),
        packed_(prepack(q.view(), {nullptr, q.rows(), 0}, {nullptr, 0, q.cols()}, 1.0F, default_isa(),
                        input_scales)) {}

  [[nodiscard]] index_t rows() const { return packed_.rows(); }
  [[nodiscard]] index_t cols() const { return packed_.cols(); }
  [[nodiscard]] quantized_matrix quantized() const { return packed_.unpack(format_name_); }
  /// Packed codes and scales, and the scales and zero points as they were; the level tables are not counted.
  [[nodiscard]] index_t stored_bytes() const {
    return packed_.size_bytes() + packed_.layout().storage_bytes() - packed_.layout().code_bytes();
  }

  /// Rows first ... of Q diag(1 / input_scales) into `out` (any number of rows, n).
  void load(index_t first, matrix_view<T> out) const {
    std::vector<float> row(static_cast<std::size_t>(cols()));
    const float* factors = packed_.input_factors();
    for (index_t i = 0; i < out.rows(); ++i) {
      packed_.decode_row(first + i, row.data());
      for (index_t j = 0; j < cols(); ++j) {
        const T factor = factors == nullptr ? T{1} : static_cast<T>(factors[j]);
        out(i, j) = static_cast<T>(row[static_cast<std::size_t>(j)]) * factor;
      }
    }
  }

  /// @throws qlr::error shape_mismatch, invalid_argument: X or Y does not fit
  /// @throws qlr::error non_finite: a factor is not finite (float)
  void forward(matrix_view<const T> x, const low_rank_view<T>& low_rank, matrix_view<T> y,
               const executor& run) const {
    check_product<T>(rows(), cols(), x, y);
    if (x.rows() == 0) return;
    if constexpr (std::same_as<T, float>) {
      multiply_packed(x, low_rank, y, run);
    } else {
      multiply_decoded(x, low_rank, y, run);
    }
  }

  /// @throws qlr::error shape_mismatch, invalid_argument: X, the gradient of Y or that of X does not fit
  void backward(matrix_view<const T> x, matrix_view<const T> grad_y, const low_rank_view<T>& low_rank,
                const product_gradients<T>& to, const executor& run) const {
    check_operands<T>(rows(), cols(), x, grad_y);
    const bool wants_x = to.x.data() != nullptr;
    if (wants_x) check_operands<T>(rows(), cols(), to.x, grad_y);
    const bool has_rank = low_rank.rank() > 0;
    if (has_rank && to.left.data() != nullptr) differentiate_left(x, grad_y, low_rank, to.left, run);
    row_major<T> into_rank; // s G L (t,r)
    if (has_rank && (wants_x || to.right.data() != nullptr))
      into_rank = multiply_tokens(grad_y, low_rank.left, low_rank.scale, run);
    if (has_rank && to.right.data() != nullptr) differentiate_right(x, into_rank, to.right, run);
    const std::vector<row_major<T>> parts = differentiate_q(x, grad_y, to, run);
    if (!wants_x) return;
    for_each_range(run, x.rows(), tile_rows, [&](index_t begin, index_t end) {
      row_major<T> sum = row_major<T>::Zero(end - begin, cols());
      if (has_rank) add_product<T>(rows_of(into_rank, begin, end), low_rank.right, sum);
      for (const row_major<T>& part : parts) sum += part.middleRows(begin, end - begin);
      map(to.x).middleRows(begin, end - begin) = sum;
    });
  }

private:
  void multiply_packed(matrix_view<const float> x, const low_rank_view<float>& low_rank, matrix_view<float> y,
                       const executor& run) const {
    if (low_rank.rank() == 0) {
      qlr::matmul<float>(packed_, x, y, {}, run);
      return;
    }
    const packed_factors adapter =
        prepack_factors(low_rank.left, low_rank.right, low_rank.scale, packed_.instruction_set());
    const packed_factors* const adapters[] = {&adapter};
    const std::vector<std::int32_t> first_for_all(static_cast<std::size_t>(x.rows()), 0);
    matmul_options options;
    options.adapters = adapters;
    options.adapter_of_token = first_for_all.data();
    qlr::matmul<float>(packed_, x, y, options, run);
  }

  void multiply_decoded(matrix_view<const T> x, const low_rank_view<T>& low_rank, matrix_view<T> y,
                        const executor& run) const {
    const bool has_rank = low_rank.rank() > 0;
    row_major<T> into_rank; // s X R^T (t,r)
    if (has_rank) into_rank = multiply_tokens(x, low_rank.right.transposed(), low_rank.scale, run);
    for_each_range(run, rows(), tile_rows, [&](index_t begin, index_t end) {
      row_major<T> out = product(x, view<T>(decoded(begin, end)).transposed()); // (t,tile)
      if (has_rank)
        add_product<T>(view(std::as_const(into_rank)),
                       low_rank.left.middle_rows(begin, end - begin).transposed(), out);
      map(y).middleCols(begin, end - begin) = out;
    });
  }

  [[nodiscard]] static matrix_view<const T> rows_of(const row_major<T>& x, index_t begin, index_t end) {
    return view(x).middle_rows(begin, end - begin);
  }

  /// Rows begin ... end - 1 of Q.
  [[nodiscard]] row_major<T> decoded(index_t begin, index_t end) const {
    row_major<T> out(end - begin, cols());
    load(begin, view(out));
    return out;
  }

  /// s A B, A (t,...), by pieces of tokens.
  static row_major<T> multiply_tokens(matrix_view<const T> a, matrix_view<const T> b, T scale,
                                      const executor& run) {
    row_major<T> out(a.rows(), b.cols());
    for_each_range(run, a.rows(), tile_rows, [&](index_t begin, index_t end) {
      out.middleRows(begin, end - begin) = scale * product(a.middle_rows(begin, end - begin), b);
    });
    return out;
  }

  void differentiate_left(matrix_view<const T> x, matrix_view<const T> grad_y,
                          const low_rank_view<T>& low_rank, matrix_view<T> to, const executor& run) const {
    const row_major<T> into_rank = // s X R^T (t,r)
        multiply_tokens(x, low_rank.right.transposed(), low_rank.scale, run);
    for_each_range(run, rows(), tile_rows, [&](index_t begin, index_t end) {
      map(to).middleRows(begin, end - begin) +=
          product(middle_cols(grad_y, begin, end - begin).transposed(), view(into_rank)); // (tile,r)
    });
  }

  void differentiate_right(matrix_view<const T> x, const row_major<T>& into_rank, matrix_view<T> to,
                           const executor& run) const {
    for_each_range(run, cols(), tile_rows, [&](index_t begin, index_t end) {
      map(to).middleCols(begin, end - begin) +=
          product(view(into_rank).transposed(), middle_cols(x, begin, end - begin)); // (r,tile)
    });
  }

  /// Adds the gradient of the dense weight; returns G Q in parts (t,n) to be added in order. Each where
  /// wanted.
  [[nodiscard]] std::vector<row_major<T>> differentiate_q(matrix_view<const T> x, matrix_view<const T> grad_y,
                                                          const product_gradients<T>& to,
                                                          const executor& run) const {
    const bool wants_x = to.x.data() != nullptr;
    const bool wants_weight = to.weight.data() != nullptr;
    if (!wants_x && !wants_weight) return {};
    const index_t piece = rows_per_piece(rows());
    std::vector<row_major<T>> parts(static_cast<std::size_t>(wants_x ? (rows() + piece - 1) / piece : 0));
    for_each_range(run, rows(), piece, [&](index_t piece_begin, index_t piece_end) {
      const auto k = static_cast<std::size_t>(piece_begin / piece);
      if (wants_x) parts[k].setZero(x.rows(), cols());
      for (index_t begin = piece_begin; begin < piece_end; begin += tile_rows) {
        const index_t end = std::min(begin + tile_rows, piece_end);
        const matrix_view<const T> grad = middle_cols(grad_y, begin, end - begin); // (t,tile)
        if (wants_x) add_product<T>(grad, view<T>(decoded(begin, end)), parts[k]);
        if (wants_weight)
          map(to.weight).middleRows(begin, end - begin) += product(grad.transposed(), x); // (tile,n)
      }
    });
    return parts;
  }

  std::string format_name_;
  packed_weights packed_;
};

} // namespace qlr::train::detail
