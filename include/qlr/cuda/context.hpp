// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>
#include <qlr/cuda/detail/libraries.hpp>
#include <qlr/cuda/detail/report.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/decompose/factor_storage.hpp>

#include <cuda_runtime_api.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>

namespace qlr::cuda {

/// Keeps freed device memory for later allocations instead of returning it to the system.
///
/// Applies to the current device's default pool, which the whole process shares: allocations of a step then
/// cost about a microsecond. The amount is never lowered.
/// @param bytes  kept at most while nobody uses them
/// @throws qlr::error device_failure: there is no device
inline void keep_freed_memory(std::uint64_t bytes = std::numeric_limits<std::uint64_t>::max()) {
  int device = 0;
  detail::check(cudaGetDevice(&device), "cudaGetDevice");
  cudaMemPool_t pool = nullptr;
  detail::check(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
  std::uint64_t known = 0;
  detail::check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &known),
                "cudaMemPoolGetAttribute");
  if (known >= bytes) return;
  detail::check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &bytes),
                "cudaMemPoolSetAttribute");
}

/// What all operations on one stream share: handles of cuBLAS and cuSOLVER, and where small results arrive.
///
/// Creating one takes milliseconds, so it should serve many decompositions. One host thread may use it at a
/// time. Calls keep_freed_memory(). All matrices are row-major; to the libraries, which are column-major,
/// such a matrix (rows, cols) is its transpose (cols, rows) with the row stride as leading dimension.
class context {
public:
  /// @param stream  must outlive the context
  /// @throws qlr::error device_failure, out_of_memory: there is no device, or a library cannot start
  explicit context(cudaStream_t stream = nullptr) : stream_(stream) {
    keep_freed_memory();
    blas_ = detail::make_blas_handle(stream);
    solver_ = detail::make_solver_handle(stream);
    void* pinned = nullptr;
    detail::check(cudaMallocHost(&pinned, sizeof(detail::report)), "cudaMallocHost");
    arrived_.reset(static_cast<detail::report*>(pinned));
    report_ = device_buffer<detail::report>(1, stream);
    reported_ = report_.data();
    clear_report();
  }

  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  [[nodiscard]] cublasHandle_t blas() const { return blas_.get(); }
  [[nodiscard]] cusolverDnHandle_t solver() const { return solver_.get(); }

  /// out (m,n) = alpha op(a) op(b) + beta out, row strides last; computed as the transpose of both sides.
  ///
  /// @param inner  columns of op(a)
  /// @tparam T     float or double
  template <class T>
  void gemm(transpose ta, transpose tb, index_t m, index_t n, index_t inner, T alpha, const T* a,
            index_t a_stride, const T* b, index_t b_stride, T beta, T* out, index_t out_stride) const {
    if (m == 0 || n == 0) return;
    const auto operation = [](transpose t) { return t == transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N; };
    const auto call = [&](auto* routine) {
      detail::check(routine(blas(), operation(tb), operation(ta), n, m, inner, &alpha, b, b_stride, a,
                            a_stride, &beta, out, out_stride),
                    "cuBLAS gemm of ", m, " x ", inner, " x ", n);
    };
    if constexpr (std::is_same_v<T, float>) {
      call(&cublasSgemm_64);
    } else {
      call(&cublasDgemm_64);
    }
  }

  /// Replaces a symmetric matrix (order, order) by its eigenvectors, one per row; eigenvalues are ascending.
  ///
  /// Whether it converged is known to require_convergence() once a report has come.
  void eigendecompose_async(index_t order, double* symmetric, double* values) const {
    const int n = detail::solver_size(order);
    int size = 0;
    detail::check(cusolverDnDsyevd_bufferSize(solver(), CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n,
                                              symmetric, n, values, &size),
                  "cusolverDnDsyevd_bufferSize");
    device_buffer<double> work(size, stream_);
    // Its eigenvectors are columns of a column-major matrix, rows of ours.
    detail::check(cusolverDnDsyevd(solver(), CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n, symmetric,
                                   n, values, work.data(), size, &device_report()->solver_info),
                  "cusolverDnDsyevd of ", n, " x ", n);
  }

  /// As eigendecompose_async.
  ///
  /// @throws qlr::error numerical_failure: it did not converge
  /// @sync   waits for the stream
  void eigendecompose(index_t order, double* symmetric, double* values) const {
    eigendecompose_async(order, symmetric, values);
    require_convergence(fetch_report(), order);
  }

  static void require_convergence(const detail::report& found, index_t order) {
    require(found.solver_info == 0, status_code::numerical_failure, "the eigendecomposition of a ", order,
            " x ", order, " matrix did not converge");
  }

  /// Replaces the lower triangle of a symmetric matrix (order, order) by its Cholesky factor.
  ///
  /// @param[out] info  on the device: 0 where the matrix is positive definite
  void factor_async(index_t order, double* symmetric, int* info) const {
    const int n = detail::solver_size(order);
    int size = 0; // to cuSOLVER our lower triangle is the upper one
    detail::check(cusolverDnDpotrf_bufferSize(solver(), CUBLAS_FILL_MODE_UPPER, n, symmetric, n, &size),
                  "cusolverDnDpotrf_bufferSize");
    device_buffer<double> work(size, stream_);
    detail::check(
        cusolverDnDpotrf(solver(), CUBLAS_FILL_MODE_UPPER, n, symmetric, n, work.data(), size, info),
        "cusolverDnDpotrf of ", n, " x ", n);
  }

  /// As factor_async; tells whether the matrix is positive definite.
  ///
  /// @sync waits for the stream
  [[nodiscard]] bool try_cholesky(index_t order, double* symmetric) const {
    factor_async(order, symmetric, &device_report()->factor_info);
    return fetch_report().factor_info == 0;
  }

  /// Where kernels leave numbers for the host.
  [[nodiscard]] detail::report* device_report() const { return reported_; }

  /// What kernels have left so far.
  ///
  /// @throws qlr::error unsupported: a factor that was rounded since has an entry beyond its storage
  /// @sync waits for the stream
  const detail::report& fetch_report() const {
    detail::check(
        cudaMemcpyAsync(arrived_.get(), reported_, sizeof(detail::report), cudaMemcpyDeviceToHost, stream_),
        "copy of results to the host");
    detail::check(cudaStreamSynchronize(stream_), "the device");
    if (arrived_->overflow != 0.0F) {
      clear_report();
      qlr::detail::fail_beyond_fp16(arrived_->overflow);
    }
    return *arrived_;
  }

  /// Forgets what kernels have left.
  void clear_report() const {
    detail::check(cudaMemsetAsync(reported_, 0, sizeof(detail::report), stream_), "cudaMemsetAsync");
  }

private:
  struct free_pinned {
    void operator()(detail::report* memory) const { (void)cudaFreeHost(memory); }
  };

  cudaStream_t stream_;
  device_buffer<detail::report> report_;
  detail::report* reported_ = nullptr; // what report_ owns
  detail::blas_handle blas_;
  detail::solver_handle solver_;
  std::unique_ptr<detail::report, free_pinned> arrived_;
};

/// A stream of its own, which waits for no other.
class stream_owner {
public:
  /// @throws qlr::error device_failure
  stream_owner() {
    cudaStream_t created = nullptr;
    detail::check(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    stream_.reset(created);
  }
  [[nodiscard]] cudaStream_t get() const { return stream_.get(); }

private:
  struct destroy_stream {
    void operator()(cudaStream_t stream) const { (void)cudaStreamDestroy(stream); }
  };
  std::unique_ptr<std::remove_pointer_t<cudaStream_t>, destroy_stream> stream_;
};

} // namespace qlr::cuda
