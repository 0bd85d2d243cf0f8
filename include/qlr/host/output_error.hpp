// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/core/status.hpp>
#include <qlr/host/covariance.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <string_view>
#include <vector>

namespace qlr {

namespace host::detail {

/// Squared norms of (W - V) B and W B in pieces of rows; multiply(rows) is the squared norm of rows (p,n)
/// times B.
template <class Multiply>
[[nodiscard]] double relative_error_of(matrix_view<const float> exact, matrix_view<const float> approximate,
                                       const executor& run, Multiply&& multiply) {
  constexpr index_t piece = 64;
  struct energy_pair {
    double error = 0;
    double norm = 0;
  };
  std::vector<energy_pair> pieces(static_cast<std::size_t>((exact.rows() + piece - 1) / piece));
  for_each_range(run, exact.rows(), piece, [&](index_t begin, index_t end) {
    row_major_double weight(end - begin, exact.cols());
    row_major_double error(end - begin, exact.cols());
    for (index_t i = begin; i < end; ++i) {
      for (index_t j = 0; j < exact.cols(); ++j) {
        weight(i - begin, j) = static_cast<double>(exact(i, j));
        error(i - begin, j) = weight(i - begin, j) - static_cast<double>(approximate(i, j));
      }
    }
    pieces[static_cast<std::size_t>(begin / piece)] = {multiply(error), multiply(weight)};
  });
  energy_pair total;
  for (const energy_pair& part : pieces) {
    total.error += part.error;
    total.norm += part.norm;
  }
  return total.norm > 0 ? std::sqrt(std::max(0.0, total.error) / total.norm) : 0.0;
}

inline void check_output_error(matrix_view<const float> exact, matrix_view<const float> approximate,
                               std::string_view name, index_t cols) {
  require(exact.rows() == approximate.rows() && exact.cols() == approximate.cols(),
          status_code::shape_mismatch, "relative_output_error: shapes are ", exact.rows(), " x ",
          exact.cols(), " and ", approximate.rows(), " x ", approximate.cols());
  require(cols == exact.cols(), status_code::shape_mismatch, name, " has ", cols,
          " columns, the weight matrix has ", exact.cols());
}

} // namespace host::detail

namespace host {

/// ||X (W - V)^T||_F / ||X W^T||_F for activations X (t,n): the relative error of a layer's output, in
/// double.
///
/// @throws qlr::error shape_mismatch: W and V differ in shape, or X does not have their number of columns
/// @complexity O(t m n), in matrix products
/// @determinism the same bits on any number of threads
template <std::same_as<float> Scalar>
[[nodiscard]] double relative_output_error(matrix_view<const float> exact,
                                           matrix_view<const float> approximate,
                                           const matrix<Scalar>& activations, const executor& run = {}) {
  detail::check_output_error(exact, approximate, "X", activations.cols());
  const Eigen::Map<const Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> x(
      activations.data(), activations.rows(), activations.cols());
  return detail::relative_error_of(exact, approximate, run, [&x](const detail::row_major_double& rows) {
    constexpr index_t tokens = 256;
    double energy = 0;
    for (index_t t = 0; t < x.rows(); t += tokens) {
      const Eigen::MatrixXd part = x.middleRows(t, std::min(tokens, x.rows() - t)).template cast<double>();
      energy += (rows * part.transpose()).squaredNorm(); // (p,n) (n,t)
    }
    return energy;
  });
}

/// (tr(E H E^T) / tr(W H W^T))^1/2 for E = W - V and the covariance H (n,n) of the inputs, in double.
///
/// @throws qlr::error shape_mismatch: W and V differ in shape, or H is not (n,n)
/// @complexity O(m n^2), in matrix products
/// @determinism the same bits on any number of threads
template <std::same_as<double> Scalar>
[[nodiscard]] double relative_output_error(matrix_view<const float> exact,
                                           matrix_view<const float> approximate,
                                           const matrix<Scalar>& covariance, const executor& run = {}) {
  detail::check_output_error(exact, approximate, "covariance", covariance.cols());
  require(covariance.rows() == covariance.cols(), status_code::shape_mismatch, "covariance is ",
          covariance.rows(), " x ", covariance.cols(), ", it must be square");
  const auto h = detail::map_double(covariance);
  return detail::relative_error_of(exact, approximate, run, [&h](const detail::row_major_double& rows) {
    return (rows * h).cwiseProduct(rows).sum(); // (p,n) (n,n)
  });
}

} // namespace host

} // namespace qlr
