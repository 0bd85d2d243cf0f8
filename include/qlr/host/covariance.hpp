// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/core/status.hpp>
#include <qlr/decompose/input_covariance.hpp>
#include <qlr/decompose/metric.hpp>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>

#if defined(QLR_USE_LAPACKE)
#include <lapacke.h>
#endif

#include <algorithm>
#include <cmath>
#include <concepts>
#include <memory>
#include <utility>
#include <vector>

namespace qlr {

/// Which root of a covariance H = V diag(lambda) V^T; the product L R of a low-rank step is the same for all.
enum class root_form {
  eigenvectors, ///< V diag(lambda)^1/2 (n,k), without the columns below the cut-off (EoRA)
  symmetric     ///< V diag(lambda)^1/2 V^T (n,n) (QERA)
};

/// How a root of a covariance is taken.
struct root_options {
  root_form form = root_form::eigenvectors;
  double cutoff_rel = 1e-12; ///< eigenvalues at or below this share of the largest count as zero
  /// Times the mean of the diagonal, added to it: what few tokens tell of weak directions is noise, and a
  /// method that fits the metric closely fits that noise too.
  double damping = 0;
};

namespace host {

/// Name of the routine behind eigendecompositions, for reports.
[[nodiscard]] inline const char* eigensolver_name() {
#if defined(QLR_USE_LAPACKE)
  return "LAPACK syevd";
#else
  return "Eigen SelfAdjointEigenSolver";
#endif
}

namespace detail {

using row_major_double = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

[[nodiscard]] inline Eigen::Map<const row_major_double> map_double(const matrix<double>& x) {
  return {x.data(), x.rows(), x.cols()};
}
[[nodiscard]] inline Eigen::Map<row_major_double> map_double(matrix<double>& x) {
  return {x.data(), x.rows(), x.cols()};
}

/// Eigenvalues ascending and eigenvectors in columns.
struct symmetric_eigen {
  Eigen::VectorXd values;
  Eigen::MatrixXd vectors;
};

/// A template so that the decomposition is compiled only where it is called.
///
/// @throws qlr::error numerical_failure: it did not converge
template <std::same_as<double> Scalar>
[[nodiscard]] symmetric_eigen eigendecompose(const matrix<Scalar>& h) {
  symmetric_eigen result;
#if defined(QLR_USE_LAPACKE)
  result.vectors = map_double(h);
  result.values.resize(h.rows());
  const auto n = static_cast<lapack_int>(h.rows());
  const bool is_done =
      LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', n, result.vectors.data(), n, result.values.data()) == 0;
#else
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(map_double(h));
  const bool is_done = solver.info() == Eigen::Success;
  result = {solver.eigenvalues(), solver.eigenvectors()};
#endif
  require(is_done && result.values.allFinite(), status_code::numerical_failure,
          "the eigendecomposition of a ", h.rows(), " x ", h.cols(), " covariance did not converge");
  return result;
}

/// vectors(:, columns) diag(scales) [vectors(:, columns)^T] as float, in pieces of rows.
template <std::same_as<double> Scalar>
matrix<float> root_of_vectors(const Eigen::MatrixX<Scalar>& vectors, const Eigen::VectorXd& scales,
                              root_form form, const executor& run) {
  const index_t n = vectors.rows();
  const index_t k = scales.size();
  const auto kept = vectors.rightCols(k);
  matrix<float> root(n, form == root_form::symmetric ? n : k);
  Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> out(root.data(), n,
                                                                                        root.cols());
  for_each_range(run, n, 128, [&](index_t begin, index_t end) {
    const Eigen::MatrixX<Scalar> rows = kept.middleRows(begin, end - begin) * scales.asDiagonal();
    if (form == root_form::eigenvectors) {
      out.middleRows(begin, end - begin) = rows.template cast<float>();
    } else {
      out.middleRows(begin, end - begin) = (rows * kept.transpose()).template cast<float>();
    }
  });
  return root;
}

inline void check_symmetric(const matrix<double>& h) {
  require(h.rows() == h.cols(), status_code::shape_mismatch, "covariance is ", h.rows(), " x ", h.cols(),
          ", it must be square");
  double largest = 0;
  for (index_t i = 0; i < h.rows(); ++i) {
    for (index_t j = 0; j < h.cols(); ++j) {
      require(is_finite(h(i, j)) && is_finite(static_cast<float>(h(i, j))), status_code::non_finite,
              "covariance(", i, ", ", j, ") is ", h(i, j), ", every element must be finite in float");
    }
    largest = std::max(largest, std::fabs(h(i, i)));
  }
  for (index_t i = 0; i < h.rows(); ++i) {
    for (index_t j = 0; j < i; ++j) {
      require(std::fabs(h(i, j) - h(j, i)) <= 1e-6 * largest, status_code::invalid_argument,
              "covariance is not symmetric: (", i, ", ", j, ") is ", h(i, j), " and (", j, ", ", i, ") is ",
              h(j, i));
    }
  }
}

/// Checks H (n,n), averages small asymmetry away and adds the damping.
inline void prepare(matrix<double>& h, const root_options& options) {
  check_symmetric(h);
  require(h.rows() > 0, status_code::invalid_argument, "covariance is empty");
  require(options.cutoff_rel >= 0 && options.cutoff_rel < 1, status_code::invalid_argument, "cutoff_rel is ",
          options.cutoff_rel, ", allowed are 0 to below 1");
  require(options.damping >= 0 && is_finite(options.damping), status_code::invalid_argument, "damping is ",
          options.damping, ", allowed are 0 and above");
  for (index_t i = 0; i < h.rows(); ++i) {
    for (index_t j = 0; j < i; ++j) h(i, j) = h(j, i) = 0.5 * (h(i, j) + h(j, i));
  }
  const double added = options.damping * map_double(h).diagonal().mean();
  for (index_t i = 0; i < h.rows(); ++i) h(i, i) += added;
}

/// Eigenvalues and vectors of H, the last `kept` of them above the cut-off.
struct kept_eigen {
  symmetric_eigen eigen;
  index_t kept = 0;

  [[nodiscard]] auto values() const { return eigen.values.tail(kept); }
};

/// @throws qlr::error invalid_argument: a negative eigenvalue beyond rounding, or no positive one
template <std::same_as<double> Scalar>
[[nodiscard]] kept_eigen eigen_above_cutoff(const matrix<Scalar>& h, const root_options& options) {
  kept_eigen result{eigendecompose(h), h.rows()};
  const Eigen::VectorXd& values = result.eigen.values;
  const index_t n = h.rows();
  const double largest = values(n - 1);
  const double rounding = static_cast<double>(n) * 0x1p-23 * largest;
  require(largest > 0 && values(0) >= -rounding, status_code::invalid_argument,
          "covariance has the eigenvalues ", values(0), " to ", largest,
          ", none may be negative and one must be positive");
  const double cutoff = options.cutoff_rel * largest;
  while (result.kept > 1 && !(values(n - result.kept) > cutoff)) --result.kept;
  return result;
}

} // namespace detail

/// A root of the covariance H (n,n) of a layer's inputs, by eigendecomposition.
///
/// Small asymmetry is averaged away. Eigenvalues at or below the cut-off count as zero, also those below zero
/// by no more than the rounding of a covariance in fp32; the rest decides rank, largest and smallest.
/// @throws qlr::error shape_mismatch: H is not square;  non_finite: an element, with its index
/// @throws qlr::error invalid_argument: H is empty, all zero, not symmetric or has a negative eigenvalue
/// beyond rounding, n 2^-23 of the largest; an option out of range
/// @memory H in double and the root in float, 12 n^2 bytes; 16 n^2 (LAPACK: 24 n^2) more while it runs
/// @complexity one eigendecomposition, O(n^3)
template <std::same_as<double> Scalar>
[[nodiscard]] std::shared_ptr<const input_covariance> make_input_covariance(matrix<Scalar> h,
                                                                            const root_options& options = {},
                                                                            const executor& run = {}) {
  detail::prepare(h, options);
  auto result = std::make_shared<input_covariance>();
  {
    const detail::kept_eigen found = detail::eigen_above_cutoff(h, options);
    result->largest = found.values()(found.kept - 1);
    result->smallest = found.values()(0);
    result->rank = found.kept;
    result->root =
        detail::root_of_vectors(found.eigen.vectors, found.values().cwiseSqrt(), options.form, run);
  }
  result->values = std::move(h);
  return result;
}

/// The pseudo-inverse of the symmetric root, V diag(lambda)^-1/2 V^T (n,n), of the eigenvalues above the
/// cut-off; the form asked for does not matter.
///
/// The decomposer does not need it (see low_rank_step); whitening of activations does.
/// @throws qlr::error as make_input_covariance
template <std::same_as<double> Scalar>
[[nodiscard]] matrix<float> inverse_root(matrix<Scalar> h, const root_options& options = {},
                                         const executor& run = {}) {
  detail::prepare(h, options);
  const detail::kept_eigen found = detail::eigen_above_cutoff(h, options);
  return detail::root_of_vectors(found.eigen.vectors, found.values().cwiseSqrt().cwiseInverse(),
                                 root_form::symmetric, run);
}

} // namespace host

/// Metric of output errors: || E B ||_F for a root B of the covariance H (n,n) of the layer's inputs.
///
/// @throws qlr::error as host::make_input_covariance
template <std::same_as<double> Scalar>
[[nodiscard]] metric make_covariance_metric(matrix<Scalar> h, const root_options& options = {},
                                            const executor& run = {}) {
  metric result;
  result.covariance = host::make_input_covariance(std::move(h), options, run);
  return result;
}

} // namespace qlr
