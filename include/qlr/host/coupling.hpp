// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/input_covariance.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/host/covariance.hpp>
#include <qlr/host/eigen_maps.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include <algorithm>
#include <concepts>
#include <numeric>
#include <vector>

namespace qlr::host {

/// How the rounding errors e_l of some columns move the targets of others: t_j = w_j + sum_l e_l C(l,j).
///
/// Columns are numbered in the order in which they are visited.
/// - feedback: strictly upper, so that only earlier errors count. With H = N diag(d) N^T, N unit upper, the
///   error is sum_j d_j || e_j + sum_(l<j) e_l N(l,j) ||^2, so C = N makes each column do what is best for
///   the ones before it (GPTQ; LDLQ is the same in the other order).
/// - descent: C(l,j) = H(l,j) / H(j,j) for l != j, the minimum over column j with all others as they are.
struct column_coupling {
  std::vector<index_t> order; ///< the column that is visited j-th
  matrix<float> feedback;     ///< (n,n), or empty when only descent is asked for
  matrix<float> descent;      ///< (n,n), or empty when there is none
  std::vector<float>
      importance; ///< diagonal of H (n), by column: weights of squared errors in a scale search
};

namespace detail {

/// H - H R^T M^-1 R H, M = R H R^T: what is left of the metric when L is refitted for the rows of R.
///
/// Rounding the refitted L adds noise^2 times the energy of each of its columns, which the diagonal of M
/// gets.
template <std::same_as<double> Scalar>
void project_out_rows(Eigen::MatrixX<Scalar>& h, const matrix<float>& right, double noise,
                      const executor& run) {
  const Eigen::MatrixXd rows = map(right).cast<double>(); // (r,n)
  Eigen::MatrixXd product(rows.rows(), h.cols());         // R H (r,n)
  for_each_range(run, h.cols(), 128, [&](index_t begin, index_t end) {
    product.middleCols(begin, end - begin) = rows * h.middleCols(begin, end - begin);
  });
  Eigen::MatrixXd energy = product * rows.transpose(); // (r,r)
  energy.diagonal() *= 1.0 + noise * noise;
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(energy);
  // Rows of R may depend on one another; what is below this share of the largest is rounding of float
  // factors.
  const double cutoff = 1e-10 * eigen.eigenvalues().maxCoeff();
  const Eigen::VectorXd scales = eigen.eigenvalues().unaryExpr(
      [cutoff](double value) { return value > cutoff && value > 0 ? 1.0 / std::sqrt(value) : 0.0; });
  const Eigen::MatrixXd basis = scales.asDiagonal() * eigen.eigenvectors().transpose() * product; // (r,n)
  for_each_range(run, h.cols(), 128, [&](index_t begin, index_t end) {
    h.middleCols(begin, end - begin).noalias() -= basis.transpose() * basis.middleCols(begin, end - begin);
  });
}

[[nodiscard]] inline std::vector<index_t> visiting_order(const Eigen::VectorXd& diagonal,
                                                         column_order order) {
  std::vector<index_t> columns(static_cast<std::size_t>(diagonal.size()));
  std::iota(columns.begin(), columns.end(), index_t{0});
  if (order == column_order::descending) std::reverse(columns.begin(), columns.end());
  if (order == column_order::importance) {
    std::stable_sort(columns.begin(), columns.end(),
                     [&](index_t a, index_t b) { return diagonal(a) > diagonal(b); });
  }
  return columns;
}

/// N - I of H + delta I = N diag(d) N^T, from the Cholesky factor of the reversed matrix; h is overwritten.
///
/// delta starts at damping times the mean of the diagonal and grows tenfold until H + delta I is definite.
/// @throws qlr::error numerical_failure: it never was
template <std::same_as<double> Scalar>
matrix<float> feedback_of(const Eigen::MatrixX<Scalar>& h, double damping) {
  const index_t n = h.rows();
  const double mean = h.diagonal().mean();
  double delta = damping * mean;
  constexpr int most_steps = 12;
  for (int step = 0; step < most_steps; ++step) {
    Eigen::MatrixXd reversed = h.reverse();
    reversed.diagonal().array() += delta;
    const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> cholesky(reversed); // in place, lower
    if (cholesky.info() == Eigen::Success) {
      matrix<float> result(n, n, 0.0F);
      for (index_t j = 0; j < n; ++j) {
        const double diagonal = reversed(n - 1 - j, n - 1 - j);
        for (index_t l = 0; l < j; ++l)
          result(l, j) = static_cast<float>(reversed(n - 1 - l, n - 1 - j) / diagonal);
      }
      return result;
    }
    delta = std::max(10.0 * delta, 1e-8 * mean);
  }
  fail(status_code::numerical_failure, "covariance is not positive definite with ", delta,
       " added to its diagonal");
}

[[nodiscard]] inline matrix<float> descent_of(const Eigen::MatrixXd& h) {
  const index_t n = h.rows();
  matrix<float> result(n, n, 0.0F);
  // A column whose variance is gone has no say; its own error is all that is left.
  const double floor = 1e-9 * h.diagonal().mean();
  for (index_t l = 0; l < n; ++l) {
    for (index_t j = 0; j < n; ++j) {
      if (l != j && h(j, j) > floor) result(l, j) = static_cast<float>(h(l, j) / h(j, j));
    }
  }
  return result;
}

} // namespace detail

/// The coupling of an input covariance; right (r,n) is used with feedback_options::knows_low_rank.
///
/// @memory 8 n^2 bytes for the result, 16 n^2 more while it runs
/// @complexity O(n^3) for the Cholesky factor
/// @see Frantar et al., GPTQ, arXiv 2210.17323; Chee et al., QuIP, arXiv 2307.13304, theorem 1 (LDLQ)
template <std::same_as<float> Scalar>
[[nodiscard]] column_coupling make_coupling(const input_covariance& covariance, const matrix<Scalar>& right,
                                            const feedback_options& options, coupling_use use,
                                            const executor& run) {
  Eigen::MatrixXd h = detail::map_double(covariance.values);
  if (right.rows() > 0) {
    // R may explain all inputs: what is left then is rounding, of either sign, which must not be fitted.
    const double rounding = 1e-10 * h.diagonal().mean();
    detail::project_out_rows(h, right, options.factor_noise, run);
    h.diagonal().array() += rounding;
  }
  Eigen::VectorXd diagonal = h.diagonal().cwiseMax(0.0);
  column_coupling result;
  result.order = detail::visiting_order(diagonal, options.order);
  result.importance.resize(static_cast<std::size_t>(h.rows()));
  // A channel that is never active still gets a scale that fits it.
  const double floor = 1e-12 * std::max(diagonal.mean(), 1e-30);
  for (index_t j = 0; j < h.rows(); ++j)
    result.importance[static_cast<std::size_t>(j)] =
        static_cast<float>(std::max(diagonal(j), floor) / diagonal.mean());
  Eigen::MatrixXd ordered(h.rows(), h.cols());
  for (index_t j = 0; j < h.cols(); ++j) {
    for (index_t l = 0; l < h.rows(); ++l) {
      ordered(l, j) = h(result.order[static_cast<std::size_t>(l)], result.order[static_cast<std::size_t>(j)]);
    }
  }
  h.resize(0, 0);
  if (use == coupling_use::descent || options.descents > 0) result.descent = detail::descent_of(ordered);
  if (use == coupling_use::feedback) result.feedback = detail::feedback_of(ordered, options.damping);
  return result;
}

} // namespace qlr::host
