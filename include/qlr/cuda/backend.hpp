// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>
#include <qlr/cuda/context.hpp>
#include <qlr/cuda/coupled_rounding.hpp>
#include <qlr/cuda/coupling.hpp>
#include <qlr/cuda/dequantize.hpp>
#include <qlr/cuda/detail/device_vectors.hpp>
#include <qlr/cuda/detail/element_bodies.hpp>
#include <qlr/cuda/detail/map_elements.hpp>
#include <qlr/cuda/detail/reduction_kernels.hpp>
#include <qlr/cuda/detail/row_basis.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/cuda/device_quantized_matrix.hpp>
#include <qlr/cuda/quantize.hpp>
#include <qlr/decompose/backend.hpp>
#include <qlr/decompose/factor_storage.hpp>
#include <qlr/quant/quantizer.hpp>

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <type_traits>
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
  using coupling_type = device_coupling;
  using triplets = singular_triplets<matrix_type>;

  /// @param on  must outlive the backend
  explicit basic_cuda_backend(const context& on) : on_(on) {
    on.clear_report(); // an earlier call may have failed
  }
  basic_cuda_backend(const basic_cuda_backend& other) : on_(other.on_) {}
  basic_cuda_backend& operator=(const basic_cuda_backend&) = delete;
  ~basic_cuda_backend() = default;

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
    if (!weights.empty()) scale(x, nullptr, 1.0F, on_device(std::span<const float>(weights)), invert);
  }

  [[nodiscard]] matrix_type row_norms(const matrix_type& x) const {
    matrix_type norms = allocate(1, x.rows());
    Launcher::launch(detail::row_lengths_kernel<float>{x.view(), norms.data()}, {(x.rows() + 3) / 4, 128, 0},
                     stream());
    return norms;
  }

  /// @sync waits for the stream
  [[nodiscard]] double dot(const matrix_type& a, const matrix_type& b) const {
    dot_async(a, b, &on_.device_report()->numbers[0]);
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
    return kept(roots_, &covariance, covariance.root.view());
  }

  [[nodiscard]] matrix_type from_host(const matrix<float>& x) const { return to_device(x.view(), stream()); }
  [[nodiscard]] quantized_type from_host(const quantized_matrix& q) const { return to_device(q, stream()); }

  /// @sync waits for the stream
  [[nodiscard]] matrix<float> to_host(const matrix_type& x) const { return cuda::to_host(x, stream()); }
  [[nodiscard]] quantized_matrix to_host(const quantized_type& q) const { return cuda::to_host(q, stream()); }

  template <weight_scalar T>
  void subtract_quantized(device_view<const T> weight, const quantized_type& q, matrix_type& out) const {
    subtract_quantized_async<Launcher>(weight, q.view(), out.view(), stream());
  }

  void extrapolate(const quantized_type& q, float factor, matrix_type& x) const {
    extrapolate_async<Launcher>(q.view(), factor, x.view(), stream());
  }

  /// @sync waits for the stream
  template <weight_scalar T>
  [[nodiscard]] std::vector<float> largest_of_columns(device_view<const T> weight) const {
    device_buffer<float> largest(weight.cols(), stream());
    constexpr int threads = detail::column_magnitudes_kernel<T>::most_threads;
    Launcher::launch(detail::column_magnitudes_kernel<T>{weight, largest.data()},
                     {(weight.cols() + threads - 1) / threads, threads, 0}, stream());
    return detail::host_copy_of(largest, stream());
  }

  /// @sync waits for the stream
  template <weight_scalar T>
  [[nodiscard]] energies weight_energies(device_view<const T> weight, const metric& weights) const {
    if (weights.has_covariance()) {
      matrix_type x = allocate(weight.rows(), weight.cols());
      load(weight, x);
      return covariance_energies(x, *weights.covariance);
    }
    weight_energies_async<Launcher>(weight, on_device(weights), on_.device_report()->numbers, stream());
    return reported_energies();
  }

  /// @sync waits for the stream
  [[nodiscard]] energies residual_energies(const matrix_type& x, const quantized_type& q,
                                           const metric& weights) const {
    if (weights.has_covariance()) {
      matrix_type error = allocate(x.rows(), x.cols());
      subtract_quantized(device_view<const float>(x.view()), q, error);
      return covariance_energies(error, *weights.covariance);
    }
    residual_energies_async<Launcher>(x.view(), q.view(), on_device(weights), on_.device_report()->numbers,
                                      stream());
    return reported_energies();
  }

  /// @throws qlr::error unsupported: a scale beyond the range of its format, or a quantizer without device
  /// code
  /// @sync waits for the stream
  template <quantizer_policy Quantizer>
  [[nodiscard]] quantized_type quantize(const Quantizer& quantizer, const matrix_type& x,
                                        const quantize_hints& hints) const {
    quantized_type q = quantize_async<Launcher>(quantizer, x.view(), on_device(hints, x.cols()), stream());
    check_scales(q);
    return q;
  }

  /// @sync waits for the stream
  [[nodiscard]] device_coupling couple(const input_covariance& covariance, const matrix_type& right,
                                       const feedback_options& options, coupling_use use) const {
    const device_matrix<double>& values = kept(values_, &covariance, covariance.values.view());
    return make_coupling<Launcher>(on_, values.view(), right.view(), options, use);
  }

  /// @sync waits for the stream
  template <quantizer_policy Quantizer>
  [[nodiscard]] quantized_type quantize_coupled(const Quantizer& quantizer, const matrix_type& x,
                                                const device_coupling& coupling, const quantize_hints& hints,
                                                int descents) const {
    quantized_type q = round_with_feedback_async<Launcher>(on_, quantizer, x.view(), coupling,
                                                           on_device(hints, x.cols()), descents);
    check_scales(q);
    return q;
  }

  template <quantizer_policy Quantizer>
  [[nodiscard]] quantized_type descend(const Quantizer& quantizer, const quantized_type& q,
                                       const matrix_type& x, const device_coupling& coupling,
                                       int passes) const {
    return round_by_descent_async<Launcher>(on_, quantizer, q, x.view(), coupling, passes);
  }

  /// A factor beyond the range of fp16 is reported by the next call that waits.
  void store_factor(matrix_type& factor, factor_storage storage) const {
    if (storage == factor_storage::fp32) return;
    if (storage == factor_storage::fp16) {
      map(detail::round_fp16_body{factor.view(), on_.device_report()}, factor.rows(), factor.cols());
      return;
    }
    const quantized_type rounded =
        quantize_async<Launcher>(qlr::detail::factor_quantizer(storage), factor.view(), {}, stream());
    dequantize_async<Launcher>(rounded.view(), factor.view(), stream());
  }

private:
  /// @throws qlr::error unsupported: a factor beyond fp16, which spoils the scales of what follows, else a
  /// scale
  void check_scales(const quantized_type& q) const {
    if (!q.has_failed(stream())) return;
    (void)on_.fetch_report();
    q.check(stream());
  }

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

  [[nodiscard]] const float* on_device(std::span<const float> weights) const {
    return vectors_.copy_of(weights, stream());
  }

  [[nodiscard]] device_metric on_device(const metric& weights) const {
    device_metric result{on_device(weights.row_weights), on_device(weights.col_weights), {}};
    if (!weights.elements.is_empty())
      result.elements = kept(elements_, weights.elements.data(), weights.elements).view();
    return result;
  }

  [[nodiscard]] device_quantize_hints on_device(const quantize_hints& hints, index_t cols) const {
    require(hints.previous == nullptr, status_code::unsupported,
            "quantize_hints::previous is set, a device knows no such start");
    const auto size = static_cast<std::size_t>(hints.column_weights == nullptr ? 0 : cols);
    return {on_device(std::span<const float>(hints.column_weights, size)), nullptr, hints.search};
  }

  /// The device copy of host that belongs to this key.
  template <class Key, class T>
  [[nodiscard]] const device_matrix<T>& kept(std::map<Key, device_matrix<T>>& known, Key key,
                                             matrix_view<const T> host) const {
    const auto found = known.find(key);
    if (found != known.end()) return found->second;
    return known.emplace(key, to_device(host, stream())).first->second;
  }

  void dot_async(const matrix_type& a, const matrix_type& b, double* out) const {
    using kernel = detail::dot_kernel;
    const index_t pieces = (a.size() + kernel::piece - 1) / kernel::piece;
    device_buffer<double> partials(pieces, stream());
    Launcher::launch(kernel{a.data(), b.data(), a.size(), partials.data()},
                     {pieces, kernel::most_threads, detail::reduction_bytes}, stream());
    Launcher::launch(detail::sum_kernel{partials.data(), pieces, out},
                     {1, detail::sum_kernel::most_threads, detail::reduction_bytes}, stream());
  }

  /// Squared norms of E and E B.
  [[nodiscard]] energies covariance_energies(const matrix_type& error,
                                             const input_covariance& covariance) const {
    const matrix_type& root = root_of(covariance);
    matrix_type projected = allocate(error.rows(), root.cols());
    gemm(transpose::no, 1.0F, error, root, 0.0F, projected); // (m,n) (n,k)
    dot_async(error, error, &on_.device_report()->numbers[0]);
    dot_async(projected, projected, &on_.device_report()->numbers[1]);
    return reported_energies();
  }

  [[nodiscard]] energies reported_energies() const {
    const detail::report& found = on_.fetch_report();
    return {found.numbers[0], found.numbers[1]};
  }

  const context& on_;
  mutable detail::device_vectors vectors_;
  mutable std::map<const input_covariance*, matrix_type> roots_;
  mutable std::map<const input_covariance*, device_matrix<double>> values_;
  mutable std::map<const float*, matrix_type> elements_; // weights of single elements
};

} // namespace qlr::cuda
