// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/cuda/context.hpp>
#include <qlr/cuda/detail/coupling_kernels.hpp>
#include <qlr/cuda/detail/dense.hpp>
#include <qlr/cuda/detail/element_bodies.hpp>
#include <qlr/cuda/detail/map_elements.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/decompose/options.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace qlr::cuda {

/// How the rounding errors e_l of some columns move the targets of others: t_j = w_j + sum_l e_l C(l,j).
///
/// Columns are numbered in the order in which they are visited. Rows of C are padded with zeros to a multiple
/// of four columns.
/// - feedback: strictly upper, so that only earlier errors count. With H = N diag(d) N^T, N unit upper, the
///   error is sum_j d_j || e_j + sum_(l<j) e_l N(l,j) ||^2, so C = N makes each column do what is best for
///   the ones before it (GPTQ; LDLQ is the same in the other order).
/// - descent: C(l,j) = H(l,j) / H(j,j) for l != j, the minimum over column j with all others as they are.
struct device_coupling {
  device_buffer<int> order;      ///< the column that is visited j-th (n)
  device_matrix<float> feedback; ///< (n, stride), or empty when only descent is asked for
  device_matrix<float> descent;  ///< (n, stride), or empty when there is none
  std::vector<float> importance; ///< diagonal of H (n), by column, on the host: weights of squared errors
};

namespace detail {

/// Makes a device_coupling; one object per call.
template <class Launcher>
class coupling_maker {
public:
  /// @param values  H (n,n), contiguous
  coupling_maker(const context& on, device_view<const double> values)
      : on_(on), stream_(on.stream()), values_(values), n_(values.rows()) {}

  [[nodiscard]] device_coupling make(device_view<const float> right, const feedback_options& options,
                                     coupling_use use) {
    if (right.rows() > 0) project_out_rows(right, options.factor_noise);
    const std::vector<double> diagonal = read_diagonal();
    const std::vector<int> order = visiting_order(diagonal, options.order);
    device_coupling result;
    result.importance = importance_of(diagonal);
    result.order = to_device(std::span<const int>(order), stream_);
    const double mean = mean_of(diagonal);
    if (use == coupling_use::descent || options.descents > 0) result.descent = descent_of(result.order, mean);
    if (use == coupling_use::feedback) result.feedback = feedback_of(result.order, mean, options.damping);
    return result;
  }

private:
  /// H - H R^T M^-1 R H, M = R H R^T: what is left of the metric when L is refitted for the rows of R.
  ///
  /// Rounding the refitted L adds noise^2 times the energy of each of its columns, which the diagonal of M
  /// gets.
  void project_out_rows(device_view<const float> right, double noise) {
    const index_t r = right.rows();
    // R may explain all inputs: what is left then is rounding, of either sign, which must not be fitted.
    const double rounding = 1e-10 * mean_of(read_diagonal());
    device_matrix<double> rows(r, n_, stream_);
    map_elements_async<Launcher>(widen_body{right, rows.view()}, r, n_, stream_);
    device_matrix<double> product(r, n_, stream_); // R H
    multiply_async(on_, transpose::no, transpose::no, 1.0, rows.view(), values_, 0.0, product.view());
    device_matrix<double> energy(r, r, stream_); // R H R^T
    multiply_async(on_, transpose::no, transpose::yes, 1.0, product.view(), rows.view(), 0.0, energy.view());
    map_elements_async<Launcher>(change_diagonal_body{energy.view(), 1.0 + noise * noise, 0.0}, 1, r,
                                 stream_);
    device_buffer<double> eigenvalues(r, stream_);
    on_.eigendecompose(r, energy.data(), eigenvalues.data()); // eigenvectors in the rows
    const device_buffer<double> scales = inverse_roots(eigenvalues);
    device_matrix<double>& basis = rows; // (r,n), in the memory of R
    multiply_async(on_, transpose::no, transpose::no, 1.0, energy.view(), product.view(), 0.0, basis.view());
    map_elements_async<Launcher>(scale_double_rows_body{basis.view(), scales.data()}, r, n_, stream_);

    rest_ = device_matrix<double>(n_, n_, stream_);
    check(cudaMemcpyAsync(rest_.data(), values_.data(), static_cast<std::size_t>(n_ * n_) * sizeof(double),
                          cudaMemcpyDeviceToDevice, stream_),
          "couple: copy of the covariance");
    multiply_async(on_, transpose::yes, transpose::no, -1.0, basis.view(), basis.view(), 1.0, rest_.view());
    map_elements_async<Launcher>(change_diagonal_body{rest_.view(), 1.0, rounding}, 1, n_, stream_);
    values_ = rest_.view();
  }

  /// Rows of R may depend on one another; what is below this share of the largest is rounding of float
  /// factors.
  [[nodiscard]] device_buffer<double> inverse_roots(const device_buffer<double>& eigenvalues) const {
    std::vector<double> values(static_cast<std::size_t>(eigenvalues.size()));
    copy_to_host(eigenvalues.data(), std::span<double>(values), stream_);
    const double cutoff = 1e-10 * *std::max_element(values.begin(), values.end());
    for (double& value : values) value = value > cutoff && value > 0 ? 1.0 / std::sqrt(value) : 0.0;
    return to_device(std::span<const double>(values), stream_);
  }

  [[nodiscard]] std::vector<double> read_diagonal() const {
    device_buffer<double> diagonal(n_, stream_);
    map_elements_async<Launcher>(read_diagonal_body{values_, diagonal.data()}, 1, n_, stream_);
    std::vector<double> result(static_cast<std::size_t>(n_));
    copy_to_host(diagonal.data(), std::span<double>(result), stream_);
    return result;
  }

  [[nodiscard]] static double mean_of(const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  }

  [[nodiscard]] static std::vector<int> visiting_order(const std::vector<double>& diagonal,
                                                       column_order order) {
    std::vector<int> columns(diagonal.size());
    std::iota(columns.begin(), columns.end(), 0);
    if (order == column_order::descending) std::reverse(columns.begin(), columns.end());
    if (order == column_order::importance) {
      const auto variance = [&](int j) { return std::max(diagonal[static_cast<std::size_t>(j)], 0.0); };
      std::stable_sort(columns.begin(), columns.end(),
                       [&](int a, int b) { return variance(a) > variance(b); });
    }
    return columns;
  }

  /// A channel that is never active still gets a scale that fits it.
  [[nodiscard]] static std::vector<float> importance_of(std::vector<double> diagonal) {
    for (double& value : diagonal) value = std::max(value, 0.0);
    const double mean = mean_of(diagonal);
    const double floor = 1e-12 * std::max(mean, 1e-30);
    std::vector<float> result(diagonal.size());
    std::transform(diagonal.begin(), diagonal.end(), result.begin(),
                   [&](double value) { return static_cast<float>(std::max(value, floor) / mean); });
    return result;
  }

  /// Rows of a coupling start on 16 bytes, so that kernels can copy them in pieces of that size.
  [[nodiscard]] index_t stride() const { return (n_ + 3) / 4 * 4; }

  [[nodiscard]] device_matrix<float> descent_of(const device_buffer<int>& order, double mean) const {
    device_matrix<float> result(n_, stride(), stream_);
    map_elements_async<Launcher>(write_descent_body{values_, order.data(), result.view(), 1e-9 * mean}, n_,
                                 stride(), stream_);
    return result;
  }

  /// N - I of H + delta I = N diag(d) N^T, from the Cholesky factor of the reversed matrix.
  ///
  /// delta starts at damping times the mean of the diagonal and grows tenfold until H + delta I is definite.
  [[nodiscard]] device_matrix<float> feedback_of(const device_buffer<int>& order, double mean,
                                                 double damping) const {
    device_matrix<double> reversed(n_, n_, stream_);
    double delta = damping * mean;
    constexpr int most_steps = 12;
    for (int step = 0; step < most_steps; ++step) {
      map_elements_async<Launcher>(reverse_order_body{values_, order.data(), reversed.view(), delta}, n_, n_,
                                   stream_);
      if (on_.try_cholesky(n_, reversed.data())) {
        device_matrix<float> result(n_, stride(), stream_);
        map_elements_async<Launcher>(write_feedback_body{reversed.view(), result.view()}, n_, stride(),
                                     stream_);
        return result;
      }
      delta = std::max(10.0 * delta, 1e-8 * mean);
    }
    fail(status_code::numerical_failure, "covariance is not positive definite with ", delta,
         " added to its diagonal");
  }

  const context& on_;
  cudaStream_t stream_;
  device_view<const double> values_; // H (n,n), or what is left of it
  index_t n_;
  device_matrix<double> rest_; // owns what is left
};

} // namespace detail

/// The coupling of a covariance H (n,n) in device memory; right (r,n) is used where it has rows.
///
/// @tparam Launcher  of kernels
/// @param values  H, row-major, contiguous and symmetric
/// @throws qlr::error shape_mismatch: H is not square, or R has another number of columns
/// @throws qlr::error numerical_failure: H is not positive definite whatever is added to its diagonal
/// @sync waits for the stream: the diagonal and whether a factor exists are read back
/// @memory 8 n^2 bytes for the result; 8 n^2 more while it runs, 16 n^2 with rows of R
/// @complexity O(n^3) for the Cholesky factor
/// @see Frantar et al., GPTQ, arXiv 2210.17323; Chee et al., QuIP, arXiv 2307.13304, theorem 1 (LDLQ)
template <class Launcher>
[[nodiscard]] device_coupling make_coupling(const context& on, device_view<const double> values,
                                            device_view<const float> right, const feedback_options& options,
                                            coupling_use use) {
  require(values.rows() == values.cols(), status_code::shape_mismatch, "couple: the covariance is ",
          values.rows(), " x ", values.cols(), ", it must be square");
  require(right.rows() == 0 || right.cols() == values.cols(), status_code::shape_mismatch, "couple: R is ",
          right.rows(), " x ", right.cols(), ", the covariance has ", values.cols(), " columns");
  if (values.rows() == 0) return {};
  return detail::coupling_maker<Launcher>(on, values).make(right, options, use);
}

} // namespace qlr::cuda
