// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>
#include <qlr/cuda/context.hpp>
#include <qlr/cuda/detail/dense.hpp>
#include <qlr/cuda/detail/element_bodies.hpp>
#include <qlr/cuda/detail/map_elements.hpp>
#include <qlr/cuda/detail/reduction_kernels.hpp>
#include <qlr/cuda/device_buffer.hpp>

#include <algorithm>
#include <utility>

namespace qlr::cuda::detail {

// Small factorizations of q rows, in double: all that floats hold survives the squares of a Gram matrix, and
// neither largest nor denormal elements leave its range, so nothing is scaled before.

/// The first n columns of rows.
[[nodiscard]] inline device_view<double> first_columns(device_matrix<double>& x, index_t n) {
  return {x.data(), x.rows(), n, x.cols()};
}

/// Lengths of the rows of x, in double.
template <class Launcher>
[[nodiscard]] device_buffer<double> row_lengths_async(const context& on, device_view<const double> x) {
  device_buffer<double> lengths(x.rows(), on.stream());
  Launcher::launch(row_lengths_kernel<double>{x, lengths.data()}, {(x.rows() + 3) / 4, 128, 0}, on.stream());
  return lengths;
}

/// Writes an orthonormal basis of given rows to out (q,n), q <= n, unless they are close to dependent.
///
/// The Cholesky factor of the Gram matrix, in double: what its condition number costs is below the rounding
/// of floats, but for rows that are nearly dependent, which a second pass repairs. Everything is enqueued
/// before the host looks at the outcome, so a call waits once, or twice for such rows.
/// @param rows  (q,n+q): the rows, then the identity; overwritten
/// @returns what came to the host: whether out is such a basis, a lower bound of the smallest singular value
/// @sync waits for the stream
/// @see Yamamoto et al., Roundoff error analysis of the CholeskyQR2 algorithm, ETNA 44 (2015)
template <class Launcher>
[[nodiscard]] report try_basis(const context& on, device_matrix<double>& rows, device_view<float> out) {
  const index_t q = rows.rows();
  const index_t n = out.cols();
  report* const reported = on.device_report();
  const device_view<double> x = first_columns(rows, n);
  device_matrix<double> triangle = gram_async(on, x);
  on.factor_async(q, triangle.data(), &reported->factor_info);
  solve_triangle_async(on, triangle, rows.view()); // the identity becomes T^-1
  const device_view<const double> inverse{rows.data() + n, q, q, rows.cols()};
  Launcher::launch(judge_basis_kernel{triangle.view(), inverse, reported}, {1, 256, reduction_bytes},
                   on.stream());
  map_elements_async<Launcher>(narrow_body{x, out, nullptr, &reported->is_basis}, q, n, on.stream());
  report found = on.fetch_report();
  if (found.is_basis != 0 || found.is_independent == 0) return found;
  triangle = gram_async(on, x);
  if (!on.try_cholesky(q, triangle.data())) return found;
  solve_triangle_async(on, triangle, x);
  map_elements_async<Launcher>(narrow_body{x, out, nullptr, nullptr}, q, n, on.stream());
  found.is_basis = 1;
  return found;
}

/// out (q,n) = an orthonormal basis of rows (q,n), which may depend on one another or be zero; q <= n.
///
/// Row k is the direction of what row k adds to the rows before it.
/// @param rows  overwritten
template <class Launcher>
void reflected_basis_async(const context& on, device_matrix<double>& rows, device_view<float> out) {
  device_buffer<double> diagonal(rows.rows(), on.stream());
  reflect_async(on, rows, diagonal);
  map_elements_async<Launcher>(narrow_body{rows.view(), out, diagonal.data(), nullptr}, out.rows(),
                               out.cols(), on.stream());
}

/// backend_policy's orthonormalize_rows.
template <class Launcher>
float orthonormalize_rows(const context& on, device_view<float> x) {
  if (x.is_empty()) return 0.0F;
  device_matrix<double> rows(x.rows(), x.cols() + x.rows(), on.stream());
  map_elements_async<Launcher>(widen_body{x, rows.view()}, rows.rows(), rows.cols(), on.stream());
  const report found = try_basis<Launcher>(on, rows, x);
  if (found.is_basis != 0) return static_cast<float>(found.smallest);
  device_matrix<double> again(x.rows(), x.cols(), on.stream());
  map_elements_async<Launcher>(widen_body{x, again.view()}, again.rows(), again.cols(), on.stream());
  reflected_basis_async<Launcher>(on, again, x);
  return 0.0F;
}

/// The `count` leading triplets of x (q,n), q <= n, of any strides.
///
/// The eigenvectors U of X X^T make the rows of U^T X orthogonal but for the rounding of its square in
/// double, 1e-8 of the largest singular value, less than what the floats of X are rounded by; those rows
/// orthonormalised are right vectors also where singular values vanish. One eigendecomposition of q rows
/// replaces a singular value decomposition, several times as slow on a device.
/// @memory 8 q (2 n + 3 q) bytes while it runs
/// @sync   waits for the stream
template <class Launcher>
[[nodiscard]] singular_triplets<device_matrix<float>> svd_of_rows(const context& on,
                                                                  device_view<const float> x, index_t count) {
  const index_t q = x.rows();
  const index_t n = x.cols();
  cudaStream_t const stream = on.stream();
  singular_triplets<device_matrix<float>> result{device_matrix<float>(count, q, stream),
                                                 device_matrix<float>(1, count, stream),
                                                 device_matrix<float>(count, n, stream)};
  if (count == 0) return result;
  device_matrix<double> projected(count, n, stream);
  {
    device_matrix<double> wide(q, n, stream);
    map_elements_async<Launcher>(widen_body{x, wide.view()}, q, n, stream);
    device_matrix<double> vectors = gram_async(on, wide.view());
    device_buffer<double> squares(q, stream);
    on.eigendecompose_async(q, vectors.data(), squares.data());
    // Ascending rows: the leading ones, first to last, are the last ones, bottom up.
    const device_view<const double> leading{vectors.data() + (q - 1) * q, count, q, -q};
    map_elements_async<Launcher>(narrow_body{leading, result.left.view(), nullptr, nullptr}, count, q,
                                 stream);
    device_matrix<double> ascending(count, n, stream);
    multiply_async(on, transpose::no, transpose::no, 1.0, vectors.view().middle_rows(q - count, count),
                   wide.view(), 0.0, ascending.view()); // (count,q) (q,n)
    projected = std::move(ascending);
  }
  const device_view<const double> descending{projected.data() + (count - 1) * n, count, n, -n};
  const device_buffer<double> lengths = row_lengths_async<Launcher>(on, descending);
  map_elements_async<Launcher>(
      narrow_body{{lengths.data(), 1, count}, result.values.view(), nullptr, nullptr}, 1, count, stream);
  device_matrix<double> rows(count, n + count, stream);
  map_elements_async<Launcher>(normalize_body{descending, rows.view(), lengths.data()}, count, n + count,
                               stream);
  const report found = try_basis<Launcher>(on, rows, result.right.view());
  context::require_convergence(found, q);
  if (found.is_basis == 0) {
    device_matrix<double> again(count, n, stream);
    map_elements_async<Launcher>(normalize_body{descending, again.view(), lengths.data()}, count, n, stream);
    reflected_basis_async<Launcher>(on, again, result.right.view());
  }
  return result;
}

/// The `count` leading triplets of x (m,n) of any shape.
template <class Launcher>
[[nodiscard]] singular_triplets<device_matrix<float>> svd(const context& on, device_view<const float> x,
                                                          index_t count) {
  if (x.rows() <= x.cols()) return svd_of_rows<Launcher>(on, x, count);
  singular_triplets<device_matrix<float>> result = svd_of_rows<Launcher>(on, x.transposed(), count);
  std::swap(result.left, result.right);
  return result;
}

/// backend_policy's solve_gram: rhs = (basis basis^T)^+ rhs.
///
/// @sync waits for the stream
template <class Launcher>
void solve_gram(const context& on, device_view<const float> basis, device_view<float> rhs) {
  const index_t r = basis.rows();
  if (r == 0 || rhs.is_empty()) return;
  cudaStream_t const stream = on.stream();
  device_matrix<double> wide(r, std::max(basis.cols(), rhs.cols()), stream);
  const device_view<double> wide_basis = first_columns(wide, basis.cols());
  map_elements_async<Launcher>(widen_body{basis, wide_basis}, r, basis.cols(), stream);
  device_matrix<double> vectors = gram_async(on, wide_basis); // rows v_k after the next line
  device_buffer<double> values(r, stream);
  on.eigendecompose(r, vectors.data(), values.data());
  device_matrix<double> divided(r, r, stream); // rows v_k / lambda_k
  map_elements_async<Launcher>(divide_eigenvalues_body{vectors.view(), divided.view(), values.data()}, r, r,
                               stream);
  device_matrix<double> inverse(r, r, stream);
  multiply_async(on, transpose::yes, transpose::no, 1.0, vectors.view(), divided.view(), 0.0,
                 inverse.view()); // sum of v_k v_k^T / lambda_k
  const device_view<double> wide_rhs = first_columns(wide, rhs.cols());
  map_elements_async<Launcher>(widen_body{rhs, wide_rhs}, r, rhs.cols(), stream);
  device_matrix<double> solved(r, rhs.cols(), stream);
  multiply_async(on, transpose::no, transpose::no, 1.0, inverse.view(), wide_rhs, 0.0, solved.view());
  map_elements_async<Launcher>(narrow_body{solved.view(), rhs, nullptr, nullptr}, r, rhs.cols(), stream);
}

} // namespace qlr::cuda::detail
