// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/parallel.hpp>
#include <qlr/host/eigen_maps.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <vector>

namespace qlr::host::detail {

/// The exponent e for which 2^e x is of order one, so that squares of its elements neither overflow nor
/// vanish.
inline int unit_exponent(const matrix<float>& x) {
  const float largest = x.size() == 0 ? 0.0F : map(x).cwiseAbs().maxCoeff();
  return largest > 0 ? std::clamp(-floor_log2(largest), -126, 126) : 0;
}

/// X X^T of x (q,n) in double, lower triangle: (q,q). The columns are cut into pieces that depend on n only.
template <std::same_as<float> Scalar>
Eigen::MatrixXd gram(const matrix<Scalar>& x, const executor& run) {
  constexpr index_t panel = 256; // columns converted at a time; a panel stays in the second-level cache
  constexpr index_t most_pieces = 16;
  const index_t panels = (x.cols() + panel - 1) / panel;
  const index_t piece = panel * ((panels + most_pieces - 1) / most_pieces);
  std::vector<Eigen::MatrixXd> sums(static_cast<std::size_t>((x.cols() + piece - 1) / piece));
  for_each_range(run, x.cols(), piece, [&](index_t begin, index_t end) {
    Eigen::MatrixXd& sum = sums[static_cast<std::size_t>(begin / piece)];
    sum.setZero(x.rows(), x.rows());
    for (index_t j = begin; j < end; j += panel) {
      const Eigen::MatrixXd part =
          map(x).middleCols(j, std::min(panel, end - j)).template cast<double>(); // (q,panel)
      sum.template selfadjointView<Eigen::Lower>().rankUpdate(part);
    }
  });
  Eigen::MatrixXd total = Eigen::MatrixXd::Zero(x.rows(), x.rows());
  for (const Eigen::MatrixXd& sum : sums) total += sum;
  return total;
}

/// x = factor * x, factor (q,q), x (q,n).
template <std::same_as<float> Scalar>
void multiply_left(const Eigen::MatrixXf& factor, matrix<Scalar>& x, const executor& run) {
  for_each_range(run, x.cols(), 256, [&](index_t begin, index_t end) {
    auto columns = map(x).middleCols(begin, end - begin);
    columns = (factor * columns).eval();
  });
}

// Templates, so that Eigen's factorizations are compiled only where they are called.

/// Householder QR, for any x; see thin_qr.
template <std::same_as<float> Scalar>
Eigen::MatrixXd householder_qr(matrix<Scalar>& x) {
  auto vectors = map_transposed(x); // (n,q)
  const Eigen::HouseholderQR<Eigen::MatrixXf> qr(vectors);
  vectors = qr.householderQ() * Eigen::MatrixXf::Identity(vectors.rows(), vectors.cols());
  return qr.matrixQR()
      .topRows(x.rows())
      .template triangularView<Eigen::Upper>()
      .toDenseMatrix()
      .transpose()
      .template cast<double>();
}

/// What thin_qr found.
struct row_basis {
  Eigen::MatrixXd triangle; ///< T (q,q), lower triangular
  float smallest;           ///< at most the smallest singular value of x; 0 where rows are close to dependent
};

/// Replaces the rows of x (q,n), q <= n, by an orthonormal basis X' with x = T X'.
///
/// Cholesky factors of the Gram matrix in double, repeated while a pass was too ill-conditioned for the float
/// product that followed it; Householder reflections where the rows are close to dependent. The former are
/// matrix products and use all cores, the latter are bound by memory.
/// @pre elements of order one (unit_exponent)
/// @see Yamamoto et al., Roundoff error analysis of the CholeskyQR2 algorithm, ETNA 44 (2015)
template <std::same_as<float> Scalar>
row_basis thin_qr(matrix<Scalar>& x, const executor& run) {
  const index_t q = x.rows();
  constexpr int most_passes = 3;
  constexpr double dependent = 1e6; // beyond, the Gram matrix has no correct digit in its smallest direction
  constexpr double harmless = 4;    // costs two bits of the orthogonality
  row_basis result{Eigen::MatrixXd::Identity(q, q), 0.0F};
  for (int pass = 0; pass < most_passes; ++pass) {
    const Eigen::LLT<Eigen::MatrixXd> cholesky(gram(x, run));
    if (cholesky.info() != Eigen::Success) return {result.triangle * householder_qr(x), 0.0F};
    const Eigen::MatrixXd lower = cholesky.matrixL();
    const Eigen::MatrixXd inverse = cholesky.matrixL().solve(Eigen::MatrixXd::Identity(q, q));
    // Frobenius norms bound the condition number to within a factor of q.
    const double condition = lower.norm() * inverse.norm() / static_cast<double>(std::max<index_t>(1, q));
    if (!(condition < dependent)) return {result.triangle * householder_qr(x), 0.0F};
    multiply_left(inverse.template cast<float>(), x, run);
    result.triangle = result.triangle * lower;
    if (pass == 0) result.smallest = static_cast<float>(1.0 / inverse.norm());
    if (condition < harmless) break;
  }
  return result;
}

/// T = left^T diag(values) right, all (q,q); singular vectors in rows, values descending.
struct square_svd {
  Eigen::MatrixXd left;
  Eigen::VectorXd values;
  Eigen::MatrixXd right;
};

/// All triplets of a small square matrix T.
///
/// The eigenvectors U of T T^T make the rows of U^T T orthogonal but for the rounding of its square; a QR of
/// those rows, nearly diagonal, gives right vectors that are orthonormal also where singular values vanish.
/// Eigenvalues in double leave more digits of the values than the float matrix behind T has.
template <std::same_as<double> Scalar>
square_svd svd_of_square(const Eigen::MatrixX<Scalar>& t) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(t * t.transpose());
  square_svd result;
  result.left = eigen.eigenvectors().rowwise().reverse().transpose();
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(t.transpose() * result.left.transpose());
  result.right = Eigen::MatrixXd(qr.householderQ()).transpose();
  result.values = qr.matrixQR().diagonal();
  for (index_t k = 0; k < t.rows(); ++k) {
    if (result.values(k) < 0) result.right.row(k) *= -1.0;
  }
  result.values = result.values.cwiseAbs();
  return result;
}

/// rhs = (basis basis^T)^+ rhs for basis (r,k) and rhs (r,c): the least-squares step of a factor.
///
/// Directions whose share of the Gram matrix is below the rounding of float products count as absent.
template <std::same_as<float> Scalar>
void solve_gram(const matrix<Scalar>& basis, matrix<Scalar>& rhs, const executor& run) {
  const Eigen::MatrixXd lower = gram(basis, run);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(lower);
  const double cutoff = 1e-12 * std::max(0.0, eigen.eigenvalues().maxCoeff());
  const Eigen::VectorXd inverse =
      eigen.eigenvalues().unaryExpr([cutoff](double value) { return value > cutoff ? 1.0 / value : 0.0; });
  const Eigen::MatrixXd factor =
      eigen.eigenvectors() * inverse.asDiagonal() * eigen.eigenvectors().transpose();
  for_each_range(run, rhs.cols(), 256, [&](index_t begin, index_t end) {
    const Eigen::MatrixXd columns = map(rhs).middleCols(begin, end - begin).template cast<double>();
    map(rhs).middleCols(begin, end - begin) = (factor * columns).template cast<float>();
  });
}

} // namespace qlr::host::detail
