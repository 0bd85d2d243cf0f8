// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>
#include <qlr/cuda/context.hpp>
#include <qlr/cuda/detail/device_vectors.hpp>
#include <qlr/cuda/detail/element_bodies.hpp>
#include <qlr/cuda/detail/map_elements.hpp>
#include <qlr/cuda/detail/reduction_kernels.hpp>
#include <qlr/cuda/detail/row_basis.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/cuda/device_quantized_matrix.hpp>
#include <qlr/decompose/backend.hpp>

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace qlr::cuda {

/// backend_policy and decompose_backend_policy on cuBLAS, cuSOLVER and this library's kernels, for matrices
/// in device memory.
///
/// All work goes to the context's stream; only what returns a number waits for it. Device copies of metrics
/// are kept, so a backend serves one decomposition, and the metric must outlive it.
///
/// @tparam Launcher  of kernels
/// @determinism the same bits for the same seed on the same kind of device and version of the libraries
template <class Launcher>
class basic_cuda_backend {
public:
  using memory_space = device_space;
  using matrix_type = device_matrix<float>;
  using quantized_type = device_quantized_matrix;
  using triplets = singular_triplets<matrix_type>;

  /// @param on  must outlive the backend
  explicit basic_cuda_backend(const context& on) : on_(on) {}

  [[nodiscard]] cudaStream_t stream() const { return on_.stream(); }

  [[nodiscard]] matrix_type allocate(index_t rows, index_t cols) const { return {rows, cols, stream()}; }

  void copy(const matrix_type& in, matrix_type& out) const {
    copy_elements(in.data(), out.data(), in.size());
  }

  void copy_rows(const matrix_type& in, index_t in_first, matrix_type& out, index_t out_first) const {
    const index_t count = std::min(in.rows() - in_first, out.rows() - out_first);
    copy_elements(in.view().row(in_first), out.view().row(out_first), count * in.cols());
  }

  void copy_cols(const matrix_type& in, matrix_type& out) const {
    const index_t count = std::min(in.cols(), out.cols());
    map(detail::convert_body<float>{in.view(), out.view()}, std::min(in.rows(), out.rows()), count);
  }

  void gemm(transpose tb, float alpha, const matrix_type& a, const matrix_type& b, float beta,
            matrix_type& out) const {
    detail::multiply_async(on_, transpose::no, tb, alpha, a.view(), b.view(), beta, out.view());
  }

  void fill_random(matrix_type& out, index_t first_row, std::uint64_t seed) const {
    if (first_row >= out.rows()) return;
    const device_view<float> rows = out.view().middle_rows(first_row, out.rows() - first_row);
    map(detail::fill_random_body{rows, first_row * out.cols(), seed}, rows.rows(), rows.cols());
  }

  /// @sync waits for the stream
  float orthonormalize_rows(matrix_type& x) const {
    return detail::orthonormalize_rows<Launcher>(on_, x.view());
  }

  /// @sync waits for the stream
  [[nodiscard]] triplets small_svd(const matrix_type& x) const { return svd(x, x.rows()); }

  /// @sync waits for the stream
  [[nodiscard]] triplets svd(const matrix_type& x, index_t rank) const {
    return detail::svd<Launcher>(on_, x.view(), rank);
  }

  void scale_rows(matrix_type& x, const matrix_type& values, float power) const {
    scale(x, values.data(), power, nullptr, false);
  }

  void scale_cols(matrix_type& x, const std::vector<float>& weights, bool invert) const {
    if (!weights.empty()) scale(x, nullptr, 1.0F, on_device(weights), invert);
  }

  [[nodiscard]] matrix_type row_norms(const matrix_type& x) const {
    matrix_type norms = allocate(1, x.rows());
    Launcher::launch(detail::row_lengths_kernel<float>{x.view(), norms.data()}, {(x.rows() + 3) / 4, 128, 0},
                     stream());
    return norms;
  }

  /// @sync waits for the stream
  [[nodiscard]] double dot(const matrix_type& a, const matrix_type& b) const {
    if (a.size() == 0) return 0.0;
    using kernel = detail::dot_kernel;
    const index_t pieces = (a.size() + kernel::piece - 1) / kernel::piece;
    device_buffer<double> partials(pieces, stream());
    Launcher::launch(kernel{a.data(), b.data(), a.size(), partials.data()}, {pieces, 256, detail::sum_bytes},
                     stream());
    Launcher::launch(detail::sum_kernel{partials.data(), pieces, &on_.device_report()->numbers[0]},
                     {1, 256, detail::sum_bytes}, stream());
    return on_.fetch_report().numbers[0];
  }

  /// @sync waits for the stream
  void solve_gram(const matrix_type& basis, matrix_type& rhs) const {
    detail::solve_gram<Launcher>(on_, basis.view(), rhs.view());
  }

  template <weight_scalar T>
  void subtract_product(device_view<const T> weight, const matrix_type& left, const matrix_type& right,
                        matrix_type& out) const {
    load(weight, out);
    subtract_from(left, right, out);
  }

  void subtract_from(const matrix_type& left, const matrix_type& right, matrix_type& x) const {
    if (left.rows() == 0) return;
    detail::multiply_async(on_, transpose::yes, transpose::no, -1.0F, left.view(), right.view(), 1.0F,
                           x.view()); // (m,r) (r,n)
  }

  void apply_metric(const metric& weights, matrix_type& x) const {
    if (weights.row_weights.empty() && weights.col_weights.empty()) return;
    scale(x, on_device(weights.row_weights), 1.0F, on_device(weights.col_weights), false);
  }

  /// The device copy of the covariance's root.
  [[nodiscard]] const matrix_type& root_of(const input_covariance& covariance) const {
    const auto known = roots_.find(&covariance);
    if (known != roots_.end()) return known->second;
    return roots_.emplace(&covariance, to_device(covariance.root.view(), stream())).first->second;
  }

  [[nodiscard]] matrix_type from_host(const matrix<float>& x) const { return to_device(x.view(), stream()); }

  /// @sync waits for the stream
  [[nodiscard]] matrix<float> to_host(const matrix_type& x) const { return cuda::to_host(x, stream()); }

private:
  template <class Body>
  void map(const Body& body, index_t rows, index_t cols) const {
    detail::map_elements_async<Launcher>(body, rows, cols, stream());
  }

  void copy_elements(const float* in, float* out, index_t count) const {
    if (count <= 0) return;
    detail::check(cudaMemcpyAsync(out, in, static_cast<std::size_t>(count) * sizeof(float),
                                  cudaMemcpyDeviceToDevice, stream()),
                  "copy on the device");
  }

  /// out = W as floats.
  template <weight_scalar T>
  void load(device_view<const T> weight, matrix_type& out) const {
    if constexpr (std::is_same_v<T, float>) {
      if (weight.has_contiguous_rows() && weight.row_stride() == weight.cols())
        return copy_elements(weight.data(), out.data(), weight.size());
    }
    map(detail::convert_body<T>{weight, out.view()}, weight.rows(), weight.cols());
  }

  void scale(matrix_type& x, const float* rows, float power, const float* cols, bool divides) const {
    map(detail::scale_body{x.view(), rows, power, cols, divides}, x.rows(), x.cols());
  }

  [[nodiscard]] const float* on_device(const std::vector<float>& weights) const {
    return vectors_.copy_of(weights, stream());
  }

  const context& on_;
  mutable detail::device_vectors vectors_;
  mutable std::map<const input_covariance*, matrix_type> roots_;
};

} // namespace qlr::cuda
