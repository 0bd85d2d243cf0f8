// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/config.hpp>
#include <qlr/cuda/detail/gpu_warpgroup.cuh>
#include <qlr/cuda/detail/kernel_thread.hpp>
#include <qlr/cuda/detail/warpgroup_thread.hpp>

#include <bit>
#include <type_traits>

namespace qlr::cuda::detail {

// Dynamic shared memory of the running block.
extern __shared__ __align__(1024) unsigned char shared_memory[];

/// kernel_thread by instructions of sm_80 and later.
class gpu_thread {
public:
  QLR_DEVICE int index() const { return static_cast<int>(threadIdx.x); }
  QLR_DEVICE int num_threads() const { return static_cast<int>(blockDim.x); }
  QLR_DEVICE index_t block() const { return static_cast<index_t>(blockIdx.x); }
  QLR_DEVICE index_t num_blocks() const { return static_cast<index_t>(gridDim.x); }

  template <class T>
  QLR_DEVICE T* shared(index_t offset) const {
    return reinterpret_cast<T*>(shared_memory + offset);
  }

  QLR_DEVICE void sync() const { __syncthreads(); }
  QLR_DEVICE void sync_warp() const { __syncwarp(); }

  template <class T>
  QLR_DEVICE T shuffle(T value, int lane) const {
    return __shfl_sync(all_lanes, value, lane);
  }
  template <class T>
  QLR_DEVICE T shuffle_xor(T value, int mask) const {
    return __shfl_xor_sync(all_lanes, value, mask);
  }

  QLR_DEVICE std::uint32_t add_atomic(std::uint32_t* address, std::uint32_t value) const {
    return atomicAdd(address, value);
  }
  QLR_DEVICE void min_atomic(std::uint64_t* address, std::uint64_t value) const {
    static_assert(sizeof(std::uint64_t) == sizeof(unsigned long long));
    atomicMin(reinterpret_cast<unsigned long long*>(address), static_cast<unsigned long long>(value));
  }
  QLR_DEVICE std::uint32_t arrive(std::uint32_t* address, std::uint32_t value) const {
    __threadfence(); // cumulative: what the block wrote before its last sync() is ordered too
    const std::uint32_t before = atomicAdd(address, value);
    __threadfence();
    return before;
  }
  QLR_DEVICE void publish(std::uint32_t* address, std::uint32_t value) const {
    __threadfence(); // cumulative: what the block wrote before its last sync() is ordered too
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
  }
  QLR_DEVICE std::uint32_t observe(const std::uint32_t* address) const {
    std::uint32_t value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return value;
  }
  QLR_DEVICE void pause() const { __nanosleep(32); }

  QLR_DEVICE void copy_async(void* shared, const void* global, int bytes) const {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
                 "r"(bytes)
                 : "memory");
  }
  QLR_DEVICE void commit_copies() const { asm volatile("cp.async.commit_group;" ::: "memory"); }
  template <int Groups>
  QLR_DEVICE void wait_copies() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(Groups) : "memory");
  }

  QLR_DEVICE void load_matrices(const void* row, std::uint32_t (&out)[4]) const {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
  }

  template <class T>
  QLR_DEVICE void multiply_add(float (&sums)[4], const std::uint32_t (&a)[4],
                               const std::uint32_t (&b)[2]) const {
    if constexpr (std::is_same_v<T, float16>) {
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                   "{%8, %9}, {%0, %1, %2, %3};"
                   : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
      static_assert(std::is_same_v<T, bfloat16>, "multiply_add takes float16 or bfloat16");
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                   "{%8, %9}, {%0, %1, %2, %3};"
                   : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
  }

  QLR_DEVICE static std::uint32_t shared_address(const void* pointer) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
  }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  // What makes this class a warpgroup_thread, on sm_90a only.
  QLR_DEVICE void fence_copies() const {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  QLR_DEVICE void fence_products() const {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  }
  template <class T, int N>
  QLR_DEVICE void multiply_async(float (&sums)[N / 2], const std::uint32_t (&a)[4], std::uint64_t b) const {
    static_assert(N == 128, "multiply_async is written for 128 rows of B");
    multiply_async_128<T>(sums, a, b);
  }
  QLR_DEVICE void commit_products() const {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  }
  template <int Groups>
  QLR_DEVICE void wait_products() const {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Groups) : "memory");
  }
  template <int Tiles, int N>
  QLR_DEVICE void take_products(float (&sums)[Tiles][N]) const {
    wait_products<0>();
    // A use of the sums that the compiler sees no reason to keep behind the wait stays behind this.
    QLR_UNROLL
    for (int tile = 0; tile < Tiles; ++tile) {
      QLR_UNROLL
      for (int i = 0; i < N; ++i) asm volatile("" : "+f"(sums[tile][i])::"memory");
    }
  }
#endif

private:
  static constexpr unsigned all_lanes = 0xFFFFFFFFU;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
static_assert(warpgroup_thread<gpu_thread>, "kernels of warpgroups would be empty");
#endif

} // namespace qlr::cuda::detail
