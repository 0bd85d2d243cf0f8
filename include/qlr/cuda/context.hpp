// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/libraries.hpp>
#include <qlr/cuda/detail/report.hpp>
#include <qlr/cuda/device_buffer.hpp>

#include <cuda_runtime_api.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

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
/// time. Calls keep_freed_memory().
class context {
public:
  /// @param stream  must outlive the context
  /// @throws qlr::error device_failure, out_of_memory: there is no device, or a library cannot start
  explicit context(cudaStream_t stream = nullptr) : stream_(stream), report_(1, stream) {
    keep_freed_memory();
    blas_ = detail::make_blas_handle(stream);
    solver_ = detail::make_solver_handle(stream);
    void* pinned = nullptr;
    detail::check(cudaMallocHost(&pinned, sizeof(detail::report)), "cudaMallocHost");
    arrived_.reset(static_cast<detail::report*>(pinned));
    detail::check(cudaMemsetAsync(report_.data(), 0, sizeof(detail::report), stream), "cudaMemsetAsync");
  }

  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  [[nodiscard]] cublasHandle_t blas() const { return blas_.get(); }
  [[nodiscard]] cusolverDnHandle_t solver() const { return solver_.get(); }

  /// Where kernels leave numbers for the host.
  [[nodiscard]] detail::report* device_report() { return report_.data(); }

  /// What kernels have left so far.
  ///
  /// @throws qlr::error unsupported: a factor that was rounded since has an entry beyond its storage
  /// @sync waits for the stream
  const detail::report& fetch_report() {
    detail::check(cudaMemcpyAsync(arrived_.get(), report_.data(), sizeof(detail::report),
                                  cudaMemcpyDeviceToHost, stream_),
                  "copy of results to the host");
    detail::check(cudaStreamSynchronize(stream_), "the device");
    if (arrived_->overflow != 0.0F) {
      const float value = arrived_->overflow;
      detail::check(cudaMemsetAsync(report_.data(), 0, sizeof(detail::report), stream_), "cudaMemsetAsync");
      fail_beyond_fp16(value);
    }
    return *arrived_;
  }

private:
  struct free_pinned {
    void operator()(detail::report* memory) const { (void)cudaFreeHost(memory); }
  };

  cudaStream_t stream_;
  device_buffer<detail::report> report_;
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
