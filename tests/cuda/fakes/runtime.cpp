// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// The functions of the CUDA runtime that the library calls, for a device that the host simulates.
#include <cuda/fakes/fake_device.hpp>

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>

namespace {

using qlr::test::the_fake_device;

std::map<const unsigned char*, std::size_t>& allocations() {
  static std::map<const unsigned char*, std::size_t> live;
  return live;
}

cudaError_t& last_error() {
  static cudaError_t error = cudaSuccess;
  return error;
}

cudaError_t fail(cudaError_t error) {
  last_error() = error;
  return error;
}

bool is_device_memory(const void* pointer) {
  const auto* byte = static_cast<const unsigned char*>(pointer);
  auto after = allocations().upper_bound(byte);
  if (after == allocations().begin()) return false;
  --after;
  return byte < after->first + after->second;
}

cudaError_t allocate(void** out, std::size_t bytes) {
  if (!the_fake_device().has_device) return fail(cudaErrorNoDevice);
  int& left = the_fake_device().allocations_before_failure;
  if (left == 0) {
    left = -1;
    return fail(cudaErrorMemoryAllocation);
  }
  if (left > 0) --left;
  // Exactly this size where a sanitizer looks for accesses behind it; cudaMalloc aligns to 256 bytes.
  if (posix_memalign(out, 256, bytes) != 0) return fail(cudaErrorMemoryAllocation);
  std::memset(*out, 0xFF, bytes);
  allocations()[static_cast<unsigned char*>(*out)] = bytes;
  return cudaSuccess;
}

cudaError_t release(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  if (allocations().erase(static_cast<unsigned char*>(pointer)) == 0) return fail(cudaErrorInvalidValue);
  std::free(pointer);
  return cudaSuccess;
}

/// Both ends must be where the direction says.
cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (bytes == 0) return cudaSuccess;
  if (kind != cudaMemcpyDefault &&
      (is_device_memory(to) != to_device || is_device_memory(from) != from_device))
    return fail(cudaErrorInvalidValue);
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

struct fake_event {
  std::chrono::steady_clock::time_point time;
};

} // namespace

namespace qlr::test {

fake_device& the_fake_device() {
  static fake_device device;
  return device;
}

std::size_t fake_device::num_live_allocations() {
  return allocations().size();
}

bool fake_device::is_device_memory(const void* pointer, std::size_t bytes) {
  if (bytes == 0) return true;
  const auto* byte = static_cast<const unsigned char*>(pointer);
  auto after = allocations().upper_bound(byte);
  if (after == allocations().begin()) return false;
  --after;
  return byte + bytes <= after->first + after->second;
}

} // namespace qlr::test

extern "C" {

cudaError_t cudaMalloc(void** out, std::size_t bytes) {
  return allocate(out, bytes);
}
cudaError_t cudaMallocAsync(void** out, std::size_t bytes, cudaStream_t) {
  return allocate(out, bytes);
}
cudaError_t cudaFree(void* pointer) {
  return release(pointer);
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) {
  return release(pointer);
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return copy(to, from, bytes, kind);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t) {
  return copy(to, from, bytes, kind);
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t) {
  for (std::size_t i = 0; i < height; ++i) {
    const cudaError_t error = copy(static_cast<unsigned char*>(to) + i * to_pitch,
                                   static_cast<const unsigned char*>(from) + i * from_pitch, width, kind);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t) {
  if (bytes > 0 && !is_device_memory(pointer)) return fail(cudaErrorInvalidValue);
  std::memset(pointer, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** out, std::size_t bytes) {
  if (!the_fake_device().has_device) return fail(cudaErrorNoDevice);
  *out = std::malloc(bytes);
  ++the_fake_device().live_handles;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  --the_fake_device().live_handles;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = nullptr;
  return the_fake_device().has_device ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr name, void* value) {
  if (name != cudaMemPoolAttrReleaseThreshold) return fail(cudaErrorInvalidValue);
  *static_cast<std::uint64_t*>(value) = the_fake_device().kept_bytes;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr name, void* value) {
  if (name != cudaMemPoolAttrReleaseThreshold) return fail(cudaErrorInvalidValue);
  the_fake_device().kept_bytes = *static_cast<std::uint64_t*>(value);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (!the_fake_device().has_device) return fail(cudaErrorNoDevice);
  *stream = reinterpret_cast<cudaStream_t>(new char);
  ++the_fake_device().live_handles;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete reinterpret_cast<char*>(stream);
  --the_fake_device().live_handles;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  ++the_fake_device().num_waits;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = the_fake_device().has_device ? 1 : 0;
  return the_fake_device().has_device ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return the_fake_device().has_device ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 && the_fake_device().has_device ? cudaSuccess : fail(cudaErrorInvalidDevice);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int) {
  switch (name) {
  case cudaDevAttrComputeCapabilityMajor:
    *value = the_fake_device().compute_capability / 10;
    return cudaSuccess;
  case cudaDevAttrComputeCapabilityMinor:
    *value = the_fake_device().compute_capability % 10;
    return cudaSuccess;
  case cudaDevAttrMultiProcessorCount:
    *value = the_fake_device().multiprocessors;
    return cudaSuccess;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    *value = 227 * 1024;
    return cudaSuccess;
  case cudaDevAttrL2CacheSize:
    *value = 50 * 1024 * 1024;
    return cudaSuccess;
  default:
    return fail(cudaErrorInvalidValue);
  }
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* pointer) {
  *out = {};
  out->type = is_device_memory(pointer) ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  out->device = 0;
  out->devicePointer = const_cast<void*>(pointer);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error();
  last_error() = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() {
  return last_error();
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorOther";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "the fake device refuses";
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = reinterpret_cast<cudaEvent_t>(new fake_event);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<fake_event*>(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  reinterpret_cast<fake_event*>(event)->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(reinterpret_cast<fake_event*>(end)->time -
                                                           reinterpret_cast<fake_event*>(start)->time)
                      .count();
  return cudaSuccess;
}

} // extern "C"
