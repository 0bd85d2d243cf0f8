// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/core/matrix_view.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace qlr::host {

/// Whether the (n,n) second moments of all pairs of inputs are kept beside the statistics of each input.
enum class covariance_mode {
  kept,    ///< 8 n^2 bytes, and t n^2 operations more for a batch of t tokens
  left_out ///< memory and time linear in n
};

/// Statistics of the inputs of one linear layer over any number of batches X (t,n), in double precision.
///
/// The order of the batches and of merges changes results by rounding only, below 1e-12 relative; the largest
/// batch mean depends on how tokens are cut into batches, by definition. Not safe to add to from several
/// threads at once: give each thread its own object and merge them.
/// @memory 32 n bytes, with the covariance 8 n^2 more, and 2048 n more during a call of add
class activation_statistics {
public:
  /// @param width  n, inputs of the layer
  /// @throws qlr::error invalid_argument: width < 0, or the covariance exceeds the address space
  explicit activation_statistics(index_t width, covariance_mode mode = covariance_mode::kept)
      : width_(checked_width(width)), sum_abs_(vector_size()), sum_squares_(vector_size()),
        largest_(vector_size()), largest_batch_mean_abs_(vector_size()),
        has_covariance_(mode == covariance_mode::kept) {
    if (has_covariance_) sum_products_ = matrix<double>(width, width, 0.0);
  }

  /// Adds one batch X (t,n) of any strides; a batch without tokens changes nothing.
  ///
  /// @throws qlr::error shape_mismatch: X has not n columns
  /// @throws qlr::error non_finite: names the first element that is not finite in float
  ///         In both cases the statistics are as they were before the call.
  /// @complexity O(t n), with the covariance t n^2 / 2 multiply-adds in tiles that `run` may distribute
  /// @determinism same batches in the same order give the same bits on any number of threads
  template <class T>
    requires weight_scalar<std::remove_const_t<T>>
  void add(matrix_view<T> x, const executor& run = {}) {
    add_batch(matrix_view<const std::remove_const_t<T>>(x), run);
  }

  /// Adds what another object has seen; the result is that of all batches in one object.
  ///
  /// @throws qlr::error shape_mismatch: another width, or only one of the two keeps the covariance
  void merge(const activation_statistics& other) {
    require(other.width_ == width_, status_code::shape_mismatch, "activation statistics to merge have width ",
            other.width_, ", it must be ", width_);
    require(other.has_covariance_ == has_covariance_, status_code::shape_mismatch,
            "activation statistics to merge ", other.has_covariance_ ? "keep" : "leave out",
            " the covariance, these ", has_covariance_ ? "keep" : "leave out", " it");
    tokens_ += other.tokens_;
    for (std::size_t j = 0; j < vector_size(); ++j) {
      sum_abs_[j] += other.sum_abs_[j];
      sum_squares_[j] += other.sum_squares_[j];
      largest_[j] = std::max(largest_[j], other.largest_[j]);
      largest_batch_mean_abs_[j] = std::max(largest_batch_mean_abs_[j], other.largest_batch_mean_abs_[j]);
    }
    for (index_t i = 0; i < sum_products_.size(); ++i)
      sum_products_.data()[i] += other.sum_products_.data()[i];
  }

  /// n.
  [[nodiscard]] index_t width() const { return width_; }
  /// Rows of all batches together.
  [[nodiscard]] index_t tokens() const { return tokens_; }
  [[nodiscard]] bool has_covariance() const { return has_covariance_; }

  /// Mean of |x_j| over all tokens, (n).
  ///
  /// @throws qlr::error invalid_argument: no tokens were added; so do all functions below
  [[nodiscard]] std::vector<float> mean_abs() const {
    return each_input("mean_abs", [&](std::size_t j) { return sum_abs_[j] / num_tokens(); });
  }

  /// Largest over the batches of the batch's mean of |x_j|, (n).
  ///
  /// @see Zhang et al., LQER, arXiv 2402.02446, section 3.2
  [[nodiscard]] std::vector<float> largest_batch_mean_abs() const {
    return each_input("largest_batch_mean_abs", [&](std::size_t j) { return largest_batch_mean_abs_[j]; });
  }

  /// Square root of the mean of x_j^2 over all tokens, (n).
  ///
  /// @see Zhang et al., QERA, arXiv 2410.06040, theorem 2
  [[nodiscard]] std::vector<float> rms() const {
    return each_input("rms", [&](std::size_t j) { return std::sqrt(sum_squares_[j] / num_tokens()); });
  }

  /// Largest |x_j|, (n).
  [[nodiscard]] std::vector<float> largest() const {
    return each_input("largest", [&](std::size_t j) { return largest_[j]; });
  }

  /// X^T X / tokens over all batches (n,n), exactly symmetric; the mean is not subtracted.
  ///
  /// @throws qlr::error invalid_argument: no tokens were added, or the covariance is left out
  [[nodiscard]] matrix<double> covariance() const {
    require(has_covariance_, status_code::invalid_argument,
            "covariance was asked of activation statistics that leave it out");
    require_tokens("covariance");
    matrix<double> result(width_, width_);
    for (index_t i = 0; i < width_; ++i) {
      for (index_t j = 0; j <= i; ++j) result(i, j) = result(j, i) = sum_products_(i, j) / num_tokens();
    }
    return result;
  }

private:
  using tokens_map = Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
  using sums_map = Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

  static constexpr index_t chunk_tokens = 256; // fixed sizes: the same sums on any number of threads
  static constexpr index_t tile_inputs = 256;

  [[nodiscard]] static index_t checked_width(index_t width) {
    require(width >= 0, status_code::invalid_argument, "width of activation statistics is ", width,
            ", it must be >= 0");
    return width;
  }

  [[nodiscard]] std::size_t vector_size() const { return static_cast<std::size_t>(width_); }
  [[nodiscard]] double num_tokens() const { return static_cast<double>(tokens_); }

  void require_tokens(std::string_view what) const {
    require(tokens_ > 0, status_code::invalid_argument, what,
            " was asked of activation statistics without tokens, at least one must be added");
  }

  template <class Value>
  [[nodiscard]] std::vector<float> each_input(std::string_view what, Value&& value) const {
    require_tokens(what);
    std::vector<float> result(vector_size());
    for (std::size_t j = 0; j < result.size(); ++j) result[j] = static_cast<float>(value(j));
    return result;
  }

  template <weight_scalar T>
  void add_batch(matrix_view<const T> x, const executor& run) {
    require(x.cols() == width_, status_code::shape_mismatch, "activations are ", x.rows(), " x ", x.cols(),
            ", the statistics need ", width_, " columns");
    require_finite(x, "activations", run);
    if (x.rows() == 0) return;
    const index_t buffered_tokens = has_covariance_ ? std::min(chunk_tokens, x.rows()) : 0;
    matrix<double> chunk(buffered_tokens, width_); // the only step that can fail from here on
    for_each_range(run, width_, tile_inputs, [&](index_t begin, index_t end) { add_inputs(x, begin, end); });
    tokens_ += x.rows();
    if (has_covariance_) add_products(x, chunk, run);
  }

  /// Statistics of inputs [begin, end); sums of a chunk first, so that rounding does not grow with the batch.
  template <weight_scalar T>
  void add_inputs(matrix_view<const T> x, index_t begin, index_t end) {
    double batch_abs[tile_inputs] = {};
    for (index_t first = 0; first < x.rows(); first += chunk_tokens) {
      const index_t last = std::min(x.rows(), first + chunk_tokens);
      double chunk_abs[tile_inputs] = {};
      double chunk_squares[tile_inputs] = {};
      for (index_t i = first; i < last; ++i) {
        for (index_t j = begin; j < end; ++j) {
          const auto value = static_cast<double>(x(i, j));
          chunk_abs[j - begin] += std::abs(value);
          chunk_squares[j - begin] += value * value;
          double& largest = largest_[static_cast<std::size_t>(j)];
          largest = std::max(largest, std::abs(value));
        }
      }
      for (index_t j = begin; j < end; ++j) {
        batch_abs[j - begin] += chunk_abs[j - begin];
        sum_squares_[static_cast<std::size_t>(j)] += chunk_squares[j - begin];
      }
    }
    for (index_t j = begin; j < end; ++j) {
      const auto at = static_cast<std::size_t>(j);
      sum_abs_[at] += batch_abs[j - begin];
      const double mean = batch_abs[j - begin] / static_cast<double>(x.rows());
      largest_batch_mean_abs_[at] = std::max(largest_batch_mean_abs_[at], mean);
    }
  }

  /// sum_products += X^T X, lower triangle, in tiles of the result and chunks of tokens.
  template <weight_scalar T>
  void add_products(matrix_view<const T> x, matrix<double>& chunk, const executor& run) {
    std::vector<std::pair<index_t, index_t>> tiles; // first row, first column
    for (index_t i = 0; i < width_; i += tile_inputs) {
      for (index_t j = 0; j <= i; j += tile_inputs) tiles.emplace_back(i, j);
    }
    for (index_t first = 0; first < x.rows(); first += chunk_tokens) {
      const index_t count = std::min(chunk_tokens, x.rows() - first);
      for_each_range(run, count, 16, [&](index_t begin, index_t end) {
        for (index_t i = begin; i < end; ++i) {
          for (index_t j = 0; j < width_; ++j) chunk(i, j) = static_cast<double>(x(first + i, j));
        }
      });
      const tokens_map values(chunk.data(), count, width_);
      auto task = [&](index_t tile) { add_tile(values, tiles[static_cast<std::size_t>(tile)]); };
      run(static_cast<index_t>(tiles.size()), task);
    }
  }

  template <std::same_as<tokens_map> Values>
  void add_tile(const Values& values, std::pair<index_t, index_t> tile) {
    const auto [i, j] = tile;
    const index_t rows = std::min(tile_inputs, width_ - i);
    const index_t cols = std::min(tile_inputs, width_ - j);
    sums_map sums(sum_products_.data(), width_, width_);
    if (i == j) {
      sums.block(i, i, rows, rows)
          .template selfadjointView<Eigen::Lower>()
          .rankUpdate(values.middleCols(i, rows).transpose());
    } else {
      sums.block(i, j, rows, cols).noalias() +=
          values.middleCols(i, rows).transpose() * values.middleCols(j, cols);
    }
  }

  index_t width_;
  index_t tokens_ = 0;
  std::vector<double> sum_abs_;
  std::vector<double> sum_squares_;
  std::vector<double> largest_;
  std::vector<double> largest_batch_mean_abs_;
  bool has_covariance_;
  matrix<double> sum_products_; // (n,n), lower triangle
};

} // namespace qlr::host
