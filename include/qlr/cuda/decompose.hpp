// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/parallel.hpp>
#include <qlr/cuda/backend.hpp>
#include <qlr/cuda/context.hpp>
#include <qlr/cuda/dequantize.hpp>
#include <qlr/decompose/presets.hpp>
#include <qlr/decompose/smoothing.hpp>
#include <qlr/decompose/validation.hpp>

#include <cuda_runtime_api.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

namespace qlr::cuda {

// Functions of a Launcher, which runs the kernels: detail::gpu_launcher on a real device, see decompose.cuh.

/// A decomposition whose large parts are in device memory; see decomposition.
struct device_decomposition {
  device_quantized_matrix quantized; ///< Q (m,n)
  device_matrix<float> left;         ///< L (m,r)
  device_matrix<float> right;        ///< R (r,n)
  factor_storage factors = factor_storage::fp16;
  float scale = 1.0F;
  std::vector<float> input_scales{}; ///< on the host (n), or empty

  [[nodiscard]] index_t rows() const { return quantized.rows(); }
  [[nodiscard]] index_t cols() const { return quantized.cols(); }
  [[nodiscard]] index_t rank() const { return right.rows(); }
};

/// A decomposition in device memory and how it came about.
struct device_decompose_result {
  decompose_result summary; ///< its `best` is empty
  device_decomposition best;
};

namespace detail {

template <class Launcher, class T, quantizer_policy Quantizer>
void validate(device_view<T> weight, const Quantizer& quantizer, const decompose_options& options,
              const metric& weights, cudaStream_t stream) {
  qlr::detail::check_arguments(weight.rows(), weight.cols(), quantizer, weights, options);
  require_finite<Launcher>(device_view<const std::remove_const_t<T>>(weight), "weight", stream);
}

template <class Launcher, class T, quantizer_policy Quantizer>
[[nodiscard]] search_result<basic_cuda_backend<Launcher>> search(const basic_cuda_backend<Launcher>& backend,
                                                                 device_view<T> weight,
                                                                 const Quantizer& quantizer,
                                                                 const decompose_options& options,
                                                                 const metric& weights) {
  using value_type = std::remove_const_t<T>;
  return search_decomposition<basic_cuda_backend<Launcher>, Quantizer, value_type>(backend, weight, quantizer,
                                                                                   weights, options);
}

} // namespace detail

/// Splits W (m,n) in device memory into a quantized part and a low-rank part: W ~= Q + L R.
///
/// The loop is the CPU's, on device buffers; only numbers come to the host before the result does. Formats,
/// methods, metrics and random numbers are the CPU's too; errors agree to 0.1 %.
///
/// @tparam Launcher    of kernels
/// @param     on         runs the work on its stream; one context should serve many calls
/// @param[in] weight     (m,n) float or double, any strides, written by work that the context's stream waits
///                       for; not modified
/// @param     quantizer  codes and scales of Q: any_quantizer or quantizer<Grid, Rule, Packing>
/// @param     options    rank, schedule (see presets.hpp), SVD, storage of the factors; options.judge is
/// given
///                       copies in host memory
/// @param     weights    norm of the error, in host memory; the default is Frobenius
/// @returns the best iterate with its history, in host memory; its seconds are those the host spent, in which
///          the device may still have worked on an earlier step
/// @throws qlr::error invalid_argument, shape_mismatch, non_finite: as on the CPU; before any work starts
/// @throws qlr::error unsupported: a scale or factor beyond the range of its storage, or a quantizer without
///         device code
/// @throws qlr::error out_of_memory, device_failure: the device refuses; nothing of the call stays allocated
/// @sync   waits for the stream, several times per iteration
/// @memory one (m,n) float work matrix, the codes of two iterates, the factors and, for sketches, about
///         28 (rank + oversampling) max(m,n) bytes per block; a covariance adds 12 n^2 bytes and up to three
///         (m,n) matrices, the exact SVD 8 m n + 32 min(m,n)^2 bytes
/// @determinism the same bits for the same seed on the same kind of device and version of the libraries
template <class Launcher, class T, quantizer_policy Quantizer>
  requires weight_scalar<std::remove_const_t<T>>
[[nodiscard]] decompose_result decompose(const context& on, device_view<T> weight, const Quantizer& quantizer,
                                         const decompose_options& options, const metric& weights = {}) {
  detail::validate<Launcher>(weight, quantizer, options, weights, on.stream());
  const basic_cuda_backend<Launcher> backend(on);
  return to_host(backend, detail::search<Launcher>(backend, weight, quantizer, options, weights),
                 options.factors);
}

/// As decompose(); the result stays in device memory.
///
/// @sync waits for the stream, several times per iteration; the result is ready for work on it
template <class Launcher, class T, quantizer_policy Quantizer>
  requires weight_scalar<std::remove_const_t<T>>
[[nodiscard]] device_decompose_result decompose_on_device(const context& on, device_view<T> weight,
                                                          const Quantizer& quantizer,
                                                          const decompose_options& options,
                                                          const metric& weights = {}) {
  detail::validate<Launcher>(weight, quantizer, options, weights, on.stream());
  const basic_cuda_backend<Launcher> backend(on);
  auto found = detail::search<Launcher>(backend, weight, quantizer, options, weights);
  const device_matrix<float> transposed = std::move(found.best.factors.left); // (r,m)
  device_matrix<float> left(transposed.cols(), transposed.rows(), on.stream());
  detail::map_elements_async<Launcher>(
      detail::convert_body<float>{transposed.view().transposed(), left.view()}, left.rows(), left.cols(),
      on.stream());
  return {std::move(found.summary),
          {std::move(found.best.quantized), std::move(left), std::move(found.best.factors.right),
           options.factors, 1.0F, std::move(found.best.input_scales)}};
}

/// Options of decompose_batched.
struct batch_options {
  index_t lanes = 4; ///< matrices that are worked on at once, each on a stream of its own
};

/// Splits many matrices, several at once; they need not have the same shape.
///
/// Matrices are independent, and what an iteration does next depends on its own errors, so each runs the loop
/// on a stream of its own and the device overlaps them: while the host reads a number of one, the others keep
/// it busy. Batched calls of the libraries would make all matrices wait for the slowest.
/// @param matrices  each as in decompose(), written by work that `stream` waits for
/// @param weights   none: Frobenius norms; one: the metric of all; otherwise one for each matrix
/// @param run       host threads that drive the lanes; with the default, lanes take turns and nothing
/// overlaps.
///                  options.on_iteration and options.judge are called on these threads
/// @param stream    of the matrices
/// @returns results in the order of the matrices, in host memory
/// @throws qlr::error invalid_argument: lanes below 1, a number of metrics that does not fit
/// @throws qlr::error otherwise as decompose(); all matrices are checked before any work starts
/// @sync   waits for the stream
/// @memory that of decompose() for each lane
template <class Launcher, class T, quantizer_policy Quantizer>
  requires weight_scalar<std::remove_const_t<T>>
[[nodiscard]] std::vector<decompose_result> decompose_batched(
    std::span<const device_view<T>> matrices, const Quantizer& quantizer, const decompose_options& options,
    std::span<const metric> weights = {}, const batch_options& batch = {}, const executor& run = {},
    cudaStream_t stream = nullptr) {
  require(batch.lanes >= 1, status_code::invalid_argument, "lanes is ", batch.lanes,
          ", allowed are 1 and above");
  require(weights.size() <= 1 || weights.size() == matrices.size(), status_code::invalid_argument,
          "there are ", weights.size(), " metrics for ", matrices.size(),
          " matrices, allowed are none, one, or one for each");
  const metric frobenius;
  const metric* const metrics = weights.empty() ? &frobenius : weights.data();
  const std::size_t stride = weights.size() > 1 ? 1 : 0;
  for (std::size_t i = 0; i < matrices.size(); ++i)
    detail::validate<Launcher>(matrices[i], quantizer, options, metrics[i * stride], stream);
  int device = 0; // new threads start on the first one
  detail::check(cudaGetDevice(&device), "cudaGetDevice");
  std::vector<decompose_result> results(matrices.size());
  const auto count = static_cast<index_t>(matrices.size());
  const index_t lanes = std::min(batch.lanes, count);
  auto work = [&](index_t lane) {
    detail::check(cudaSetDevice(device), "cudaSetDevice");
    const stream_owner own;
    const context on(own.get());
    for (index_t i = lane; i < count; i += lanes) {
      const auto k = static_cast<std::size_t>(i);
      const basic_cuda_backend<Launcher> backend(on);
      results[k] = to_host(
          backend, detail::search<Launcher>(backend, matrices[k], quantizer, options, metrics[k * stride]),
          options.factors);
    }
  };
  run(lanes, work);
  return results;
}

} // namespace qlr::cuda
