// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/host/detail/adapter_sgd.hpp>
#include <qlr/host/detail/adapter_svd.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace qlr::host::detail {

/// One factor during alternating least squares: vectors in rows.
template <std::same_as<float> Scalar>
struct fitted_side {
  matrix<Scalar> exact;   ///< (p,length): of L R, elements of order one
  matrix<Scalar> target;  ///< (p,length): what is rounded
  matrix<Scalar> rounded; ///< (p,length): what the codes decode to; rows of zeros until they are found
  Eigen::MatrixXd gram;   ///< (2p,2p) of exact above rounded

  explicit fitted_side(const matrix<Scalar>& vectors)
      : exact(vectors), target(vectors.rows(), vectors.cols(), 0.0F),
        rounded(vectors.rows(), vectors.cols(), 0.0F),
        gram(Eigen::MatrixXd::Zero(2 * vectors.rows(), 2 * vectors.rows())) {
    const index_t p = vectors.rows();
    gram.topLeftCorner(p, p) = (map(exact) * map(exact).transpose()).template cast<double>();
  }

  [[nodiscard]] index_t rank() const { return exact.rows(); }

  /// Rounds target row k.
  void round(index_t k, const any_quantizer& quantizer) {
    const quantized_matrix codes = quantizer.quantize(std::as_const(target).view().middle_rows(k, 1), {}, {});
    row_decoder decode(codes.view());
    decode(0, rounded.view().row(k));
  }

  void update_gram(index_t k) {
    const auto row = map(std::as_const(rounded)).row(k);
    Eigen::VectorXd products(2 * rank());
    products.head(rank()) = (map(std::as_const(exact)) * row.transpose()).template cast<double>();
    products.tail(rank()) = (map(std::as_const(rounded)) * row.transpose()).template cast<double>();
    gram.row(rank() + k) = products.transpose();
    gram.col(rank() + k) = products;
  }
};

/// All vectors of both factors anew in turn, each the least-squares answer to what the others leave of L R,
/// rounded.
///
/// The vectors are found one pair after the other, each from the leading singular pair of what its
/// predecessors leave, so that the later and coarser ones correct the rounding of the earlier ones. Sweeps
/// over all pairs follow.
template <std::same_as<float> Scalar>
class adapter_fit {
public:
  adapter_fit(const matrix<Scalar>& left, const matrix<Scalar>& right, index_t split_rank,
              const any_quantizer& high, const any_quantizer& low)
      : left_(left), right_(right), split_rank_(split_rank), high_(high), low_(low) {}

  [[nodiscard]] const fitted_side<Scalar>& left() const { return left_; }
  [[nodiscard]] const fitted_side<Scalar>& right() const { return right_; }

  /// Finds all pairs from what is left of the product.
  void start() {
    constexpr int passes = 3;
    for (index_t k = 0; k < left_.rank(); ++k) {
      if (!lead(k)) return; // nothing is left
      right_.round(k, quantizer(k));
      for (int pass = 0; pass < passes; ++pass) refit(k);
      left_.update_gram(k);
      right_.update_gram(k);
    }
  }

  void sweep() {
    for (index_t k = 0; k < left_.rank(); ++k) refit(k);
  }

private:
  [[nodiscard]] const any_quantizer& quantizer(index_t k) const { return k < split_rank_ ? high_ : low_; }

  void refit(index_t k) {
    fit(left_, right_, k);
    fit(right_, left_, k);
  }

  /// The least-squares vector k of `near` for the rounded vector k of `far`: the residual of the product
  /// times that vector.
  void fit(fitted_side<Scalar>& near, const fitted_side<Scalar>& far, index_t k) const {
    const auto partner = map(far.rounded).row(k);
    const double energy =
        inner_product(far.rounded.view().row(k), far.rounded.view().row(k), far.rounded.cols());
    if (!(energy > 0)) return;
    const auto share = static_cast<float>(1.0 / energy);
    const Eigen::VectorXf gain = share * (map(far.exact) * partner.transpose());
    Eigen::VectorXf loss = share * (map(far.rounded) * partner.transpose());
    loss(k) = 0;
    auto target = map(near.target).row(k);
    target.noalias() = gain.transpose() * map(near.exact);
    target.noalias() -= loss.transpose() * map(near.rounded);
    near.round(k, quantizer(k));
  }

  /// Target k of the right factor = the leading right singular vector of what vectors 0 ... k-1 leave, times
  /// the root of its singular value; false when nothing is left.
  ///
  /// Power iteration on coefficients: the residual is P^T D Q with P, Q the exact above the rounded vectors
  /// and D = diag(1, -1), and a vector is Q^T y.
  bool lead(index_t k) {
    constexpr int iterations = 30; // only a start: refit() follows
    const index_t p = left_.rank();
    const index_t size = p + k;
    Eigen::VectorXd signs = Eigen::VectorXd::Ones(size);
    signs.tail(k).setConstant(-1.0);
    const auto left_gram = left_.gram.topLeftCorner(size, size);
    const auto right_gram = right_.gram.topLeftCorner(size, size);
    Eigen::VectorXd y = signs;
    double value = 0;
    for (int iteration = 0; iteration <= iterations; ++iteration) {
      const double norm = std::sqrt(std::max(0.0, y.dot(right_gram * y)));
      if (!(norm > 0)) return false;
      y /= norm;
      const Eigen::VectorXd image = signs.cwiseProduct(right_gram * y);
      const Eigen::VectorXd next = left_gram * image;
      value = std::sqrt(std::max(0.0, image.dot(next)));
      if (iteration < iterations) y = signs.cwiseProduct(next);
    }
    const Eigen::VectorXf coefficients = (std::sqrt(value) * y).template cast<float>();
    auto target = map(right_.target).row(k);
    target.noalias() = coefficients.head(p).transpose() * map(std::as_const(right_.exact));
    target.noalias() += coefficients.tail(k).transpose() * map(std::as_const(right_.rounded)).topRows(k);
    return true;
  }

  fitted_side<Scalar> left_;
  fitted_side<Scalar> right_;
  index_t split_rank_;
  const any_quantizer& high_;
  const any_quantizer& low_;
};

} // namespace qlr::host::detail
