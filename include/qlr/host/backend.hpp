// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/core/random.hpp>
#include <qlr/decompose/backend.hpp>
#include <qlr/host/coupled_rounding.hpp>
#include <qlr/host/coupling.hpp>
#include <qlr/host/eigen_maps.hpp>
#include <qlr/host/exact_svd.hpp>
#include <qlr/host/small_svd.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/formats.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <utility>
#include <vector>

namespace qlr::host {

/// backend_policy and decompose_backend_policy on Eigen, for matrices in host memory.
///
/// Products are cut into fixed pieces of the output, each by one single-threaded Eigen product, so the bits
/// do not depend on the number of threads. Eigen should be compiled for the machine's instruction set
/// (-march=native).
///
/// @tparam Scalar  float; a parameter so that only what is called is compiled
template <std::same_as<float> Scalar>
class basic_eigen_backend {
public:
  using memory_space = host_space;
  using matrix_type = matrix<float>;
  using quantized_type = quantized_matrix;
  using coupling_type = column_coupling;

  /// @param run  whoever runs the pieces; must outlive the backend
  explicit basic_eigen_backend(executor run = {}) : run_(run) {}

  [[nodiscard]] const executor& run() const { return run_; }

  [[nodiscard]] static matrix<float> allocate(index_t rows, index_t cols) { return {rows, cols}; }
  static void copy(const matrix<float>& in, matrix<float>& out) { map(out) = map(in); }
  static void copy_rows(const matrix<float>& in, index_t in_first, matrix<float>& out, index_t out_first) {
    const index_t count = std::min(in.rows() - in_first, out.rows() - out_first);
    map(out).middleRows(out_first, count) = map(in).middleRows(in_first, count);
  }
  static void copy_cols(const matrix<float>& in, matrix<float>& out) {
    const index_t count = std::min(in.cols(), out.cols());
    map(out).leftCols(count) = map(in).leftCols(count);
  }

  void gemm(transpose tb, float alpha, const matrix<float>& a, const matrix<float>& b, float beta,
            matrix<float>& out) const {
    // Columns per task: a multiple of the rows of Eigen's register tiles (48 with AVX-512, 24 with AVX), so
    // that none is cut, and few enough to stay in the second-level cache.
    for_each_range(run_, out.cols(), 144, [&](index_t begin, index_t end) {
      auto target = map(out).middleCols(begin, end - begin);
      if (beta == 0.0F) {
        target.setZero();
      } else {
        target *= beta;
      }
      if (tb == transpose::no) {
        target.noalias() += alpha * (map(a) * map(b).middleCols(begin, end - begin));
      } else {
        target.noalias() += alpha * (map(a) * map_transposed(b).middleCols(begin, end - begin));
      }
    });
  }

  void fill_random(matrix<float>& out, index_t first_row, std::uint64_t seed) const {
    for_each_range(run_, out.rows() - std::min(first_row, out.rows()), 4, [&](index_t begin, index_t end) {
      const index_t first = (first_row + begin) * out.cols();
      std::array<std::uint32_t, 4> words{}; // element i is word i mod 4 of counter i / 4
      for (index_t i = first; i < (first_row + end) * out.cols(); ++i) {
        if (i == first || i % 4 == 0) words = philox(seed, static_cast<std::uint64_t>(i / 4));
        out.data()[i] = to_unit_variance(words[static_cast<std::size_t>(i % 4)]);
      }
    });
  }

  float orthonormalize_rows(matrix<float>& x) const {
    const int exponent = detail::unit_exponent(x);
    map(x) *= std::ldexp(1.0F, exponent);
    return std::ldexp(detail::thin_qr(x, run_).smallest, -exponent);
  }

  [[nodiscard]] singular_triplets<matrix<float>> small_svd(const matrix<float>& x) const {
    const int exponent = detail::unit_exponent(x);
    matrix<float> basis(x); // (q,n)
    map(basis) *= std::ldexp(1.0F, exponent);
    detail::square_svd core = detail::svd_of_square(detail::thin_qr(basis, run_).triangle);
    singular_triplets<matrix<float>> result{matrix<float>(x.rows(), x.rows()), matrix<float>(1, x.rows()),
                                            matrix<float>(x.rows(), x.cols())};
    map(result.left) = core.left.template cast<float>();
    map(result.values) = (core.values.transpose() * std::ldexp(1.0, -exponent)).template cast<float>();
    matrix<float> rotation(x.rows(), x.rows());
    map(rotation) = core.right.template cast<float>();
    gemm(transpose::no, 1.0F, rotation, basis, 0.0F, result.right); // (q,q) (q,n)
    return result;
  }

  [[nodiscard]] static singular_triplets<matrix<float>> svd(const matrix<float>& x, index_t rank) {
    return exact_svd(x, rank);
  }

  static void scale_rows(matrix<float>& x, const matrix<float>& values, float power) {
    for (index_t i = 0; i < x.rows(); ++i) map(x).row(i) *= std::pow(values(0, i), power);
  }

  static void scale_cols(matrix<float>& x, const std::vector<float>& weights, bool invert) {
    if (weights.empty() || x.size() == 0) return;
    const Eigen::Map<const Eigen::ArrayXf> w(weights.data(), static_cast<index_t>(weights.size()));
    if (invert) {
      map(x).array().rowwise() /= w.transpose();
    } else {
      map(x).array().rowwise() *= w.transpose();
    }
  }

  template <weight_scalar T>
  void subtract_product(matrix_view<const T> weight, const matrix<float>& left, const matrix<float>& right,
                        matrix<float>& out) const {
    for_each_range(run_, weight.rows(), 64, [&](index_t begin, index_t end) {
      copy_rows(weight, begin, end, out);
      if (left.rows() == 0) return;
      map(out).middleRows(begin, end - begin).noalias() -=
          map_transposed(left).middleRows(begin, end - begin) * map(right); // (m,r) (r,n)
    });
  }

  void subtract_from(const matrix<float>& left, const matrix<float>& right, matrix<float>& x) const {
    for_each_range(run_, x.rows(), 64, [&](index_t begin, index_t end) {
      map(x).middleRows(begin, end - begin).noalias() -=
          map_transposed(left).middleRows(begin, end - begin) * map(right); // (m,r) (r,n)
    });
  }

  [[nodiscard]] static matrix<float> row_norms(const matrix<float>& x) {
    matrix<float> norms(1, x.rows());
    for (index_t i = 0; i < x.rows(); ++i) {
      const double norm = map(x).row(i).template cast<double>().norm();
      norms(0, i) = norm >= static_cast<double>(smallest_normal_float) ? static_cast<float>(norm) : 1.0F;
    }
    return norms;
  }

  [[nodiscard]] static double dot(const matrix<float>& a, const matrix<float>& b) {
    return ::qlr::detail::sum_of(a.size(), [&](index_t i) {
      return static_cast<double>(a.data()[i]) * static_cast<double>(b.data()[i]);
    });
  }

  void solve_gram(const matrix<float>& basis, matrix<float>& rhs) const {
    detail::solve_gram(basis, rhs, run_);
  }

  [[nodiscard]] static const matrix<float>& root_of(const input_covariance& covariance) {
    return covariance.root;
  }
  [[nodiscard]] static matrix<float> from_host(matrix<float> x) { return x; }
  [[nodiscard]] static quantized_matrix from_host(const quantized_matrix& q) { return q; }

  template <weight_scalar T>
  void subtract_quantized(matrix_view<const T> weight, const quantized_matrix& q, matrix<float>& out) const {
    for_each_decoded_row(q.view(), run_, [&](index_t i, const float* decoded) {
      copy_rows(weight, i, i + 1, out);
      float* x = out.view().row(i);
      for (index_t j = 0; j < q.cols(); ++j) x[j] -= decoded[j];
    });
  }

  void extrapolate(const quantized_matrix& q, float factor, matrix<float>& x) const {
    for_each_decoded_row(q.view(), run_, [&](index_t i, const float* decoded) {
      float* row = x.view().row(i);
      for (index_t j = 0; j < q.cols(); ++j) row[j] = decoded[j] + factor * (row[j] - decoded[j]);
    });
  }

  void apply_metric(const metric& weights, matrix<float>& x) const {
    if (weights.is_identity()) return;
    for_each_range(run_, x.rows(), 64, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) {
        const float d = weights.row_weights.empty() ? 1.0F : weights.row_weights[static_cast<std::size_t>(i)];
        float* row = x.view().row(i);
        for (index_t j = 0; j < x.cols(); ++j) {
          row[j] *= weights.col_weights.empty() ? d : d * weights.col_weights[static_cast<std::size_t>(j)];
        }
      }
    });
  }

  template <weight_scalar T>
  [[nodiscard]] static std::vector<float> largest_of_columns(matrix_view<const T> weight) {
    std::vector<float> result(static_cast<std::size_t>(weight.cols()), 0.0F);
    for (index_t i = 0; i < weight.rows(); ++i) {
      for (index_t j = 0; j < weight.cols(); ++j) {
        float& largest = result[static_cast<std::size_t>(j)];
        largest = std::max(largest, std::fabs(static_cast<float>(weight(i, j))));
      }
    }
    return result;
  }

  template <weight_scalar T>
  [[nodiscard]] energies weight_energies(matrix_view<const T> weight, const metric& weights) const {
    if (weights.has_covariance()) {
      return covariance_energies(weight.rows(), weight.cols(), *weights.covariance,
                                 [&](index_t begin, index_t end, matrix<float>& out) {
                                   for (index_t i = begin; i < end; ++i) {
                                     for (index_t j = 0; j < weight.cols(); ++j)
                                       out(i - begin, j) = static_cast<float>(weight(i, j));
                                   }
                                 });
    }
    std::vector<energies> rows(static_cast<std::size_t>(weight.rows()));
    for_each_range(run_, weight.rows(), rows_per_task(weight.cols()), [&](index_t begin, index_t end) {
      std::vector<float> row(static_cast<std::size_t>(weight.cols()));
      for (index_t i = begin; i < end; ++i) {
        for (index_t j = 0; j < weight.cols(); ++j)
          row[static_cast<std::size_t>(j)] = static_cast<float>(weight(i, j));
        rows[static_cast<std::size_t>(i)] = weights.row_energies(i, row.data(), weight.cols());
      }
    });
    return sum(rows);
  }

  [[nodiscard]] energies residual_energies(const matrix<float>& x, const quantized_matrix& q,
                                           const metric& weights) const {
    if (weights.has_covariance()) {
      return covariance_energies(x.rows(), x.cols(), *weights.covariance,
                                 [&](index_t begin, index_t end, matrix<float>& out) {
                                   row_decoder decode(q.view());
                                   for (index_t i = begin; i < end; ++i) {
                                     float* row = out.view().row(i - begin);
                                     decode(i, row);
                                     for (index_t j = 0; j < x.cols(); ++j) row[j] = x(i, j) - row[j];
                                   }
                                 });
    }
    std::vector<energies> rows(static_cast<std::size_t>(x.rows()));
    for_each_decoded_row(q.view(), run_, [&](index_t i, float* decoded) {
      const float* row = x.view().row(i);
      for (index_t j = 0; j < x.cols(); ++j) decoded[j] = row[j] - decoded[j];
      rows[static_cast<std::size_t>(i)] = weights.row_energies(i, decoded, x.cols());
    });
    return sum(rows);
  }

  template <quantizer_policy Quantizer>
  [[nodiscard]] quantized_matrix quantize(const Quantizer& quantizer, const matrix<float>& x,
                                          const quantize_hints& hints) const {
    return quantizer.quantize(x.view(), hints, run_);
  }

  [[nodiscard]] column_coupling couple(const input_covariance& covariance, const matrix<float>& right,
                                       const feedback_options& options, coupling_use use) const {
    return make_coupling(covariance, right, options, use, run_);
  }

  template <quantizer_policy Quantizer>
  [[nodiscard]] quantized_matrix quantize_coupled(const Quantizer& quantizer, const matrix<float>& x,
                                                  const column_coupling& coupling,
                                                  const quantize_hints& hints, int descents) const {
    if constexpr (stepwise_quantizer_policy<Quantizer>) {
      return round_with_feedback(quantizer, x, coupling, hints, descents, run_);
    } else {
      return quantizer.quantize(x.view(), hints, run_); // refused before work starts, see validate()
    }
  }

  template <quantizer_policy Quantizer>
  [[nodiscard]] quantized_matrix descend(const Quantizer& quantizer, const quantized_matrix& q,
                                         const matrix<float>& x, const column_coupling& coupling,
                                         int passes) const {
    if constexpr (stepwise_quantizer_policy<Quantizer>) {
      return round_by_descent(quantizer, q, x, coupling, passes, run_);
    } else {
      return q; // as above
    }
  }

  void store_factor(matrix<float>& factor, factor_storage storage) const {
    round_factor(factor, storage, run_);
  }

  [[nodiscard]] static matrix<float> to_host(matrix<float>&& x) { return std::move(x); }
  [[nodiscard]] static const quantized_matrix& to_host(const quantized_matrix& q) { return q; }
  [[nodiscard]] static quantized_matrix to_host(quantized_matrix&& q) { return std::move(q); }

private:
  template <weight_scalar T>
  static void copy_rows(matrix_view<const T> weight, index_t begin, index_t end, matrix<float>& out) {
    for (index_t i = begin; i < end; ++i) {
      float* row = out.view().row(i);
      for (index_t j = 0; j < weight.cols(); ++j) row[j] = static_cast<float>(weight(i, j));
    }
  }

  /// Squared norms of E and E B for an error E whose rows [begin, end) fill(begin, end, out) writes.
  template <class Fill>
  [[nodiscard]] energies covariance_energies(index_t rows, index_t cols, const input_covariance& covariance,
                                             Fill&& fill) const {
    constexpr index_t piece = 64;
    std::vector<energies> pieces(static_cast<std::size_t>((rows + piece - 1) / piece));
    for_each_range(run_, rows, piece, [&](index_t begin, index_t end) {
      matrix<float> error(end - begin, cols);
      fill(begin, end, error);
      matrix<float> projected(end - begin, covariance.root.cols());
      map(projected).noalias() = map(error) * map(covariance.root); // (rows,n) (n,k)
      pieces[static_cast<std::size_t>(begin / piece)] = {dot(error, error), dot(projected, projected)};
    });
    return sum(pieces);
  }

  /// In row order, so that the sum does not depend on who computed which row.
  [[nodiscard]] static energies sum(const std::vector<energies>& rows) {
    energies total;
    for (const energies& row : rows) {
      total.frobenius += row.frobenius;
      total.weighted += row.weighted;
    }
    return total;
  }

  executor run_;
};

using eigen_backend = basic_eigen_backend<float>;

static_assert(backend_policy<eigen_backend>);
static_assert(decompose_backend_policy<eigen_backend>);

} // namespace qlr::host
