// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/cuda/detail/decode_kernels.hpp>
#include <qlr/cuda/device_quantized_matrix.hpp>
#include <qlr/decompose/metric.hpp>

#include <cuda_runtime_api.h>

#include <array>
#include <span>
#include <string_view>

namespace qlr::cuda {

// What is done with the elements of a quantized matrix in device memory. Functions of a Launcher, which runs
// the kernels: detail::gpu_launcher on a real device (see dequantize.cuh). Values are those of the CPU, bit
// for bit.

namespace detail {

template <class T>
void require_same_shape(std::string_view what, const device_quantized_view& q, std::string_view name,
                        device_view<T> x) {
  require(x.rows() == q.rows() && x.cols() == q.cols(), status_code::shape_mismatch, what, ": ", name, " is ",
          x.rows(), " x ", x.cols(), ", the quantized matrix is ", q.rows(), " x ", q.cols());
}

/// Adds up partial sums of `blocks` thread blocks.
template <class Launcher>
void sum_energies(const device_buffer<double>& partial, double* out, cudaStream_t stream) {
  Launcher::launch(sum_energies_kernel{partial.data(), partial.size() / 2, out},
                   {1, sum_energies_kernel::most_threads, reduction_bytes}, stream);
}

[[nodiscard]] inline energies energies_on_host(const device_buffer<double>& sums, cudaStream_t stream) {
  std::array<double, 2> values{};
  copy_to_host(sums.data(), std::span<double>(values), stream);
  return {values[0], values[1]};
}

} // namespace detail

/// Weights of squared errors in device memory, without the covariance: F_ij where elements are given,
/// otherwise row_weights[i]^2 col_weights[j]^2; what is left out counts as ones.
struct device_metric {
  const float* row_weights = nullptr; ///< (m)
  const float* col_weights = nullptr; ///< (n)
  device_view<const float> elements;  ///< (m,n), any strides

  [[nodiscard]] detail::error_weights weights() const { return {row_weights, col_weights, elements}; }
};

/// Enqueues out = Q.
///
/// @param[out] out  (rows, cols), any strides
/// @throws qlr::error shape_mismatch: out has another shape
/// @sync only enqueues; Q and out must outlive it
template <class Launcher>
void dequantize_async(const device_quantized_view& q, device_view<float> out, cudaStream_t stream) {
  detail::require_same_shape("dequantize", q, "out", out);
  const detail::tile_decoder decoder(q);
  Launcher::launch(detail::dequantize_kernel{decoder, out}, decoder.shape(), stream);
}

/// Enqueues X = W - Q; X may be W.
///
/// @copydetails dequantize_async
template <class Launcher, weight_scalar T>
void subtract_quantized_async(device_view<const T> weight, const device_quantized_view& q,
                              device_view<float> x, cudaStream_t stream) {
  detail::require_same_shape("subtract_quantized", q, "W", weight);
  detail::require_same_shape("subtract_quantized", q, "X", x);
  const detail::tile_decoder decoder(q);
  Launcher::launch(detail::subtract_quantized_kernel<T>{decoder, weight, x}, decoder.shape(), stream);
}

/// Enqueues X = Q + factor (X - Q).
///
/// @copydetails dequantize_async
template <class Launcher>
void extrapolate_async(const device_quantized_view& q, float factor, device_view<float> x,
                       cudaStream_t stream) {
  detail::require_same_shape("extrapolate", q, "X", x);
  const detail::tile_decoder decoder(q);
  Launcher::launch(detail::extrapolate_kernel{decoder, factor, x}, decoder.shape(), stream);
}

/// Enqueues the squared norms of X - Q, plain and weighted, in double.
///
/// @param[out] out  2 doubles in device memory: energies::frobenius, energies::weighted
/// @throws qlr::error shape_mismatch: X or the elements of the metric have another shape
/// @sync only enqueues; all buffers must outlive it
/// @determinism the same bits on every device: the order of additions depends on the shape alone
template <class Launcher>
void residual_energies_async(device_view<const float> x, const device_quantized_view& q,
                             const device_metric& metric, double* out, cudaStream_t stream) {
  detail::require_same_shape("residual_energies", q, "X", x);
  if (!metric.elements.is_empty()) detail::require_same_shape("residual_energies", q, "F", metric.elements);
  detail::residual_energies_kernel kernel{detail::tile_decoder(q), x, metric.weights(), nullptr};
  device_buffer<double> partial(2 * kernel.shape().blocks, stream);
  kernel.partial = partial.data();
  Launcher::launch(kernel, kernel.shape(), stream);
  detail::sum_energies<Launcher>(partial, out, stream);
}

/// The same, on the host.
///
/// @sync waits for the stream
template <class Launcher>
[[nodiscard]] energies residual_energies(device_view<const float> x, const device_quantized_view& q,
                                         const device_metric& metric, cudaStream_t stream) {
  device_buffer<double> sums(2, stream);
  residual_energies_async<Launcher>(x, q, metric, sums.data(), stream);
  return detail::energies_on_host(sums, stream);
}

/// Enqueues the squared norms of W, its elements converted to float; see residual_energies_async.
///
/// @throws qlr::error shape_mismatch: the elements of the metric have another shape
template <class Launcher, weight_scalar T>
void weight_energies_async(device_view<const T> weight, const device_metric& metric, double* out,
                           cudaStream_t stream) {
  require(metric.elements.is_empty() ||
              (metric.elements.rows() == weight.rows() && metric.elements.cols() == weight.cols()),
          status_code::shape_mismatch, "weight_energies: F is ", metric.elements.rows(), " x ",
          metric.elements.cols(), ", W is ", weight.rows(), " x ", weight.cols());
  detail::weight_energies_kernel<T> kernel{weight, detail::matrix_tiles(weight.rows(), weight.cols()),
                                           metric.weights(), nullptr};
  device_buffer<double> partial(2 * kernel.shape().blocks, stream);
  kernel.partial = partial.data();
  Launcher::launch(kernel, kernel.shape(), stream);
  detail::sum_energies<Launcher>(partial, out, stream);
}

/// The same, on the host.
///
/// @sync waits for the stream
template <class Launcher, weight_scalar T>
[[nodiscard]] energies weight_energies(device_view<const T> weight, const device_metric& metric,
                                       cudaStream_t stream) {
  device_buffer<double> sums(2, stream);
  weight_energies_async<Launcher>(weight, metric, sums.data(), stream);
  return detail::energies_on_host(sums, stream);
}

/// Throws unless every element is finite once converted to float.
///
/// @param name  what the message calls the matrix
/// @throws qlr::error non_finite: names the first offending element, row by row, and its value
/// @sync waits for the stream
template <class Launcher, weight_scalar T>
void require_finite(device_view<const T> values, std::string_view name, cudaStream_t stream) {
  device_buffer<std::uint64_t> first(1, stream);
  detail::check(cudaMemsetAsync(first.data(), 0xFF, sizeof(std::uint64_t), stream), "require_finite");
  const detail::find_non_finite_kernel<T> kernel{values, detail::matrix_tiles(values.rows(), values.cols()),
                                                 first.data()};
  Launcher::launch(kernel, {kernel.tiles.num_blocks(detail::most_tile_blocks), kernel.most_threads, 0},
                   stream);
  std::uint64_t word = detail::no_failure;
  copy_to_host(first.data(), std::span<std::uint64_t>(&word, 1), stream);
  if (word == detail::no_failure) return;
  const index_t row = static_cast<index_t>(word) / values.cols();
  const index_t col = static_cast<index_t>(word) % values.cols();
  T value{};
  copy_to_host(&values(row, col), std::span<T>(&value, 1), stream);
  fail(status_code::non_finite, name, '(', row, ", ", col, ") is ", static_cast<double>(value),
       ", every element must be finite in float");
}

} // namespace qlr::cuda
