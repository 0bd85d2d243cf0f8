// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/core/status.hpp>
#include <qlr/train/detail/integer_grid.hpp>
#include <qlr/train/detail/maps.hpp>
#include <qlr/train/detail/products.hpp>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

namespace qlr::train::detail {

/// Weights that are made a few rows at a time, so that no (m,n) matrix of them or of their gradient exists.
///
/// - tile(rows, cols): what is kept of some rows of W_hat between load and add_gradient; `weight` is W_hat
/// - load(first, tile): rows first ... of W_hat
/// - sums(): a zero sum of the gradients that all rows share; add(sums): adds one to the gradients
/// - add_gradient(first, tile, gradient, sums): from the gradient of those rows of W_hat
template <class Weight>
concept row_weight = requires(Weight weight, const Weight fixed, typename Weight::tile tile, index_t first,
                              typename Weight::shared_sums sums,
                              matrix_view<const typename Weight::compute_type> gradient) {
  { tile.weight.view() } -> std::same_as<matrix_view<typename Weight::compute_type>>;
  fixed.load(first, tile);
  { fixed.sums() } -> std::same_as<typename Weight::shared_sums>;
  weight.add_gradient(first, tile, gradient, sums);
  weight.add(sums);
};

/// Rows of W_hat that exist at a time on a thread.
inline constexpr index_t tile_rows = 64;

template <class T>
void check_operands(index_t rows, index_t cols, matrix_view<const T> x, matrix_view<const T> y) {
  require(x.cols() == cols, status_code::shape_mismatch, "X is ", x.rows(), " x ", x.cols(),
          ", the weight is ", rows, " x ", cols);
  require(y.rows() == x.rows() && y.cols() == rows, status_code::shape_mismatch, "Y is ", y.rows(), " x ",
          y.cols(), ", it must be ", x.rows(), " x ", rows);
  require(x.has_contiguous_rows() && y.has_contiguous_rows(), status_code::invalid_argument,
          "X and Y need contiguous rows");
}

/// True when the bytes from first to last element of two views with contiguous rows meet.
template <class T>
[[nodiscard]] bool may_overlap(matrix_view<const T> a, matrix_view<const T> b) {
  if (a.is_empty() || b.is_empty()) return false;
  const auto end_of = [](matrix_view<const T> x) { return x.row(x.rows() - 1) + x.cols(); };
  return std::less<>{}(a.data(), end_of(b)) && std::less<>{}(b.data(), end_of(a));
}

/// check_operands, and that Y may be written while X is read.
template <class T>
void check_product(index_t rows, index_t cols, matrix_view<const T> x, matrix_view<const T> y) {
  check_operands<T>(rows, cols, x, y);
  require(!may_overlap(x, y), status_code::invalid_argument, "X and Y overlap in memory");
}

/// Y (t,m) = X (t,n) W_hat^T.
template <class Weight, class T>
void multiply_rows(const Weight& weight, matrix_view<const T> x, matrix_view<T> y, const executor& run) {
  check_product<T>(weight.rows(), weight.cols(), x, y);
  for_each_range(run, weight.rows(), tile_rows, [&](index_t begin, index_t end) {
    typename Weight::tile rows(end - begin, weight.cols());
    weight.load(begin, rows); // (tile,n)
    // In memory of its own: where Y lies would change the last bits of small products.
    map(y).middleCols(begin, end - begin) = product<T>(x, rows.weight.view().transposed());
  });
}

/// Rows per piece of the backward pass: each piece has sums of its own, which are added in order.
[[nodiscard]] constexpr index_t rows_per_piece(index_t rows) {
  constexpr index_t most_pieces = 8;
  const index_t tiles = (rows + tile_rows - 1) / tile_rows;
  return tile_rows * std::max<index_t>(4, (tiles + most_pieces - 1) / most_pieces);
}

/// Adds the gradients of the weight's parameters; writes grad_x (t,n) unless it is empty.
template <class Weight, class T>
void differentiate_rows(Weight& weight, matrix_view<const T> x, matrix_view<const T> grad_y,
                        matrix_view<T> grad_x, const executor& run) {
  check_operands<T>(weight.rows(), weight.cols(), x, grad_y);
  const bool wants_x = grad_x.data() != nullptr;
  if (wants_x) check_operands<T>(weight.rows(), weight.cols(), grad_x, grad_y);
  const index_t piece = rows_per_piece(weight.rows());
  const index_t num_pieces = (weight.rows() + piece - 1) / piece;
  std::vector<typename Weight::shared_sums> sums;
  std::vector<row_major<T>> parts_of_x(static_cast<std::size_t>(wants_x ? num_pieces : 0));
  for (index_t k = 0; k < num_pieces; ++k) sums.push_back(weight.sums());
  for_each_range(run, weight.rows(), piece, [&](index_t piece_begin, index_t piece_end) {
    const auto k = static_cast<std::size_t>(piece_begin / piece);
    if (wants_x) parts_of_x[k].setZero(x.rows(), x.cols());
    for (index_t begin = piece_begin; begin < piece_end; begin += tile_rows) {
      const index_t count = std::min(tile_rows, piece_end - begin);
      typename Weight::tile rows(count, weight.cols());
      weight.load(begin, rows);                                            // (tile,n)
      const matrix_view<const T> grad = middle_cols(grad_y, begin, count); // (t,tile)
      if (wants_x) add_product<T>(grad, rows.weight.view(), parts_of_x[k]);
      const row_major<T> grad_weight = product<T>(grad.transposed(), x); // (tile,n)
      weight.add_gradient(begin, rows, {grad_weight.data(), count, weight.cols()}, sums[k]);
    }
  });
  for (const auto& sum : sums) weight.add(sum);
  if (!wants_x) return;
  map(grad_x).setZero();
  for (const row_major<T>& part : parts_of_x) map(grad_x) += part;
}

/// The codes and scales of a layer on an integer grid: load(first, tile) for levels, scale(row, group).
///
/// Rows are loaded in the tiles of the products, so that not one level is rounded another way.
template <class Layer>
[[nodiscard]] quantized_matrix assemble_rows(const Layer& layer, const integer_grid& grid,
                                             const scale_format& format) {
  matrix<std::uint8_t> codes(grid.rows(), grid.cols());
  std::vector<float> scales;
  for (index_t begin = 0; begin < grid.rows(); begin += tile_rows) {
    typename Layer::tile rows(std::min(tile_rows, grid.rows() - begin), grid.cols());
    layer.load(begin, rows);
    for (index_t i = 0; i < rows.level.rows(); ++i) {
      grid.for_each_group([&](index_t g, index_t first, index_t last) {
        scales.push_back(static_cast<float>(layer.scale(begin + i, g)));
        for (index_t j = first; j < last; ++j) {
          const auto level = static_cast<float>(rows.level(i, j));
          codes(begin + i, j) = static_cast<std::uint8_t>(level - grid.lowest());
        }
      });
    }
  }
  return grid.assemble(codes, std::move(scales), format);
}

/// Adds a sum to a gradient.
template <class T>
void add_to(matrix<T>& gradient, const matrix<T>& sum) {
  for (index_t i = 0; i < gradient.size(); ++i) gradient.data()[i] += sum.data()[i];
}

} // namespace qlr::train::detail
