// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/lowrank/concepts.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

namespace qlr {

/// Tuning of the randomized SVD.
struct randomized_svd_options {
  index_t oversampling = 16; ///< vectors beyond the rank; the error of the last triplets falls with it
  int power_iterations = 6;  ///< block power iterations from a random start
  int warm_iterations = 1;   ///< block power iterations from the previous call's subspace
  std::uint64_t seed = 0;
};

/// The leading triplets by block power iteration on a random sketch, re-orthonormalised after every product.
///
/// A later call on a matrix of the same width starts from the subspace that the previous call found, which
/// makes two products with the matrix enough when it has changed little.
/// @complexity 2 (1 + iterations) products of x with rank + oversampling vectors
/// @determinism the same bits for the same seed and sequence of calls
/// @see Halko, Martinsson, Tropp, Finding structure with randomness, arXiv 0909.4061, algorithms 4.4 and 5.1
template <backend_policy Backend>
class randomized_svd {
public:
  using matrix_type = typename Backend::matrix_type;

  explicit randomized_svd(const randomized_svd_options& options = {}) : options_(options) {}

  [[nodiscard]] singular_triplets<matrix_type> solve(const Backend& backend, const matrix_type& x,
                                                     index_t rank) {
    const index_t m = x.rows();
    const index_t n = x.cols();
    if (rank == 0 || m == 0 || n == 0) {
      return {backend.allocate(0, m), backend.allocate(1, 0), backend.allocate(0, n)};
    }
    const index_t q = std::min(rank + options_.oversampling, std::min(m, n));
    const bool is_warm = basis_.has_value() && basis_->cols() == n;
    matrix_type right = starting_basis(backend, q, n);
    matrix_type left = backend.allocate(q, m);
    for (int iteration = is_warm ? options_.warm_iterations : options_.power_iterations;; --iteration) {
      backend.gemm(transpose::yes, 1.0F, right, x, 0.0F, left); // (q,n) (n,m)
      backend.orthonormalize_rows(left);
      backend.gemm(transpose::no, 1.0F, left, x, 0.0F, right); // (q,m) (m,n)
      if (iteration <= 0) break;
      backend.orthonormalize_rows(right);
    }
    return extract(backend, left, right, rank);
  }

private:
  [[nodiscard]] matrix_type starting_basis(const Backend& backend, index_t q, index_t n) const {
    matrix_type start = backend.allocate(q, n);
    index_t known = 0;
    if (basis_.has_value() && basis_->cols() == n) {
      known = std::min(q, basis_->rows());
      backend.copy_rows(*basis_, start);
    }
    backend.fill_normal(start, known, options_.seed);
    return start;
  }

  /// x ~= left^T right with orthonormal rows in left: the SVD of right (q,n) gives that of x.
  [[nodiscard]] singular_triplets<matrix_type> extract(const Backend& backend, const matrix_type& left,
                                                       const matrix_type& right, index_t rank) {
    singular_triplets<matrix_type> small = backend.small_svd(right); // left (q,q), right (q,n)
    const index_t q = left.rows();
    matrix_type rotated = backend.allocate(q, left.cols());
    backend.gemm(transpose::no, 1.0F, small.left, left, 0.0F, rotated); // (q,q) (q,m)
    singular_triplets<matrix_type> result{backend.allocate(rank, left.cols()), backend.allocate(1, rank),
                                          backend.allocate(rank, right.cols())};
    backend.copy_rows(rotated, result.left);
    backend.copy_rows(small.right, result.right);
    backend.copy_cols(small.values, result.values);
    basis_ = std::move(small.right);
    return result;
  }

  randomized_svd_options options_;
  std::optional<matrix_type> basis_;
};

} // namespace qlr
