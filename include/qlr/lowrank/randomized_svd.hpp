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
  index_t oversampling = 8; ///< vectors of a block beyond the rank
  int cold_blocks = 4;      ///< Krylov blocks from a random start
  int warm_blocks = 2;      ///< Krylov blocks from the previous call's subspace
  std::uint64_t seed = 0;
};

/// The leading triplets by block Krylov iteration on a random sketch, re-orthonormalised after every product.
///
/// Keeping all blocks instead of the last one makes b blocks as accurate as about b^2 block power iterations,
/// which counts where the spectrum is flat, as that of a quantization error is. A later call on a matrix of
/// the same width starts from the subspace that the previous call found.
/// @complexity 2 blocks products of x with rank + oversampling vectors
/// @memory     blocks (rank + oversampling) (m + n) floats
/// @determinism the same bits for the same seed and sequence of calls
/// @see Halko, Martinsson, Tropp, Finding structure with randomness, arXiv 0909.4061, algorithm 4.4
/// @see Musco, Musco, Randomized block Krylov methods, arXiv 1504.05477, algorithm 2
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
    const index_t smaller = std::min(m, n);
    index_t q = std::min(rank + options_.oversampling, smaller);
    const bool is_warm = basis_.has_value() && basis_->cols() == n;
    index_t blocks = std::max(1, is_warm ? options_.warm_blocks : options_.cold_blocks);
    if (blocks * q >= smaller) { // a complete basis makes the result exact
      q = smaller;
      blocks = 1;
    }
    matrix_type start = starting_basis(backend, q, n, is_warm);
    matrix_type left = backend.allocate(blocks * q, m);
    matrix_type right = backend.allocate(blocks * q, n);
    for (index_t block = 0; block < blocks; ++block) {
      matrix_type next = backend.allocate(q, m);
      backend.gemm(transpose::yes, 1.0F, start, x, 0.0F, next); // (q,n) (n,m)
      append_orthonormal(backend, next, left, block * q);
      backend.gemm(transpose::no, 1.0F, next, x, 0.0F, start); // (q,m) (m,n)
      backend.copy_rows(start, 0, right, block * q);
      if (block + 1 < blocks) (void)backend.orthonormalize_rows(start);
    }
    return extract(backend, left, right, rank, q);
  }

private:
  [[nodiscard]] matrix_type starting_basis(const Backend& backend, index_t q, index_t n, bool is_warm) const {
    matrix_type start = backend.allocate(q, n);
    const index_t known = is_warm ? std::min(q, basis_->rows()) : 0;
    if (is_warm) backend.copy_rows(*basis_, 0, start, 0);
    backend.fill_random(start, known, options_.seed);
    return start;
  }

  /// Makes the rows of next orthonormal, also to the first `count` rows of basis, and appends them there.
  void append_orthonormal(const Backend& backend, matrix_type& next, matrix_type& basis,
                          index_t count) const {
    (void)backend.orthonormalize_rows(next);
    if (count > 0) {
      matrix_type known = backend.allocate(count, basis.cols());
      backend.copy_rows(basis, 0, known, 0);
      if (project_out(backend, known, next) < 0.02F) { // more than five bits were lost to cancellation
        add_noise(backend, next, count);
        for (int pass = 0; pass < 2; ++pass) (void)project_out(backend, known, next); // twice is enough
      }
    }
    backend.copy_rows(next, 0, basis, count);
  }

  /// Makes orthonormal rows orthogonal to those of known; returns a lower bound of the length that was left.
  static float project_out(const Backend& backend, const matrix_type& known, matrix_type& next) {
    matrix_type overlap = backend.allocate(next.rows(), known.rows());
    backend.gemm(transpose::yes, 1.0F, next, known, 0.0F, overlap);
    backend.gemm(transpose::no, -1.0F, overlap, known, 1.0F, next);
    return backend.orthonormalize_rows(next);
  }

  /// Gives orthonormal rows that the basis holds already, as those of a rank-deficient matrix are, a
  /// direction of their own; enough above rounding to survive the projection, too little to count where it is
  /// not needed.
  void add_noise(const Backend& backend, matrix_type& next, index_t block) const {
    matrix_type mixing = backend.allocate(next.rows(), next.rows());
    matrix_type noise = backend.allocate(next.rows(), next.cols());
    const std::uint64_t seed = options_.seed + 2 * static_cast<std::uint64_t>(block);
    backend.fill_random(mixing, 0, seed + 1);
    backend.fill_random(noise, 0, seed + 2);
    backend.gemm(transpose::no, 0x1p-20F, mixing, noise, 1.0F, next); // (q,q) (q,m)
  }

  /// x ~= left^T right with orthonormal rows in left: the SVD of right gives that of x.
  [[nodiscard]] singular_triplets<matrix_type> extract(const Backend& backend, const matrix_type& left,
                                                       const matrix_type& right, index_t rank, index_t q) {
    const singular_triplets<matrix_type> small = backend.small_svd(right); // left (b q, b q), right (b q, n)
    matrix_type leading = backend.allocate(rank, left.rows());
    backend.copy_rows(small.left, 0, leading, 0);
    singular_triplets<matrix_type> result{backend.allocate(rank, left.cols()), backend.allocate(1, rank),
                                          backend.allocate(rank, right.cols())};
    backend.gemm(transpose::no, 1.0F, leading, left, 0.0F, result.left); // (r,b q) (b q,m)
    backend.copy_rows(small.right, 0, result.right, 0);
    backend.copy_cols(small.values, result.values);
    basis_ = backend.allocate(q, right.cols());
    backend.copy_rows(small.right, 0, *basis_, 0);
    return result;
  }

  randomized_svd_options options_;
  std::optional<matrix_type> basis_;
};

} // namespace qlr
