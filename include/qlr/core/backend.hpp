// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <concepts>
#include <cstdint>

namespace qlr {

/// Whether gemm reads its second operand as it is or transposed.
enum class transpose : bool { no, yes };

/// r singular triplets of a matrix (m,n): left (r,m) and right (r,n) hold one singular vector per row, values
/// (1,r).
template <class Matrix>
struct singular_triplets {
  Matrix left;
  Matrix values;
  Matrix right;
};

/// Dense linear algebra on float matrices in one memory space, as the low-rank solvers need it.
///
/// Matrices are row-major (rows, cols). Tall factors are kept transposed, one vector per row, so that vectors
/// are contiguous: L (m,r) is handled as (r,m).
/// - allocate(rows, cols): uninitialised matrix
/// - copy(in, out): out = in, shapes agree
/// - copy_rows(in, i, out, o): rows o, o + 1 ... of out = rows i, i + 1 ... of in, as many as both have
/// - copy_cols(in, out): the first columns of out = those of in, as many as both have
/// - gemm(tb, alpha, a, b, beta, out): out = alpha a op(b) + beta out; beta = 0 ignores what out holds
/// - fill_random(out, first_row, seed): rows from first_row on get independent elements of mean 0, variance 1
/// - orthonormalize_rows(x): replaces the rows of x (q,n), q <= n, by an orthonormal basis of their span;
///   returns a lower bound of the smallest singular value x had, 0 where it is not known
/// - small_svd(x): all q triplets of x (q,n), q <= n, q small
/// - svd(x, rank): the `rank` leading triplets by a full decomposition
/// - scale_rows(x, values, power): row i of x times values(0,i)^power
template <class Backend>
concept backend_policy = requires(const Backend backend, typename Backend::matrix_type& out,
                                  const typename Backend::matrix_type& in, float number, index_t size,
                                  std::uint64_t seed) {
  { backend.allocate(size, size) } -> std::same_as<typename Backend::matrix_type>;
  backend.copy(in, out);
  backend.copy_rows(in, size, out, size);
  backend.copy_cols(in, out);
  backend.gemm(transpose::yes, number, in, in, number, out);
  backend.fill_random(out, size, seed);
  { backend.orthonormalize_rows(out) } -> std::same_as<float>;
  { backend.small_svd(in) } -> std::same_as<singular_triplets<typename Backend::matrix_type>>;
  { backend.svd(in, size) } -> std::same_as<singular_triplets<typename Backend::matrix_type>>;
  backend.scale_rows(out, in, number);
};

} // namespace qlr
