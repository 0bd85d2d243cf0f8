// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Compiler differences are resolved here and nowhere else.

#if !defined(__cplusplus) || (__cplusplus < 202002L && (!defined(_MSVC_LANG) || _MSVC_LANG < 202002L))
#error "qlr needs C++20: compile with -std=c++20 (or /std:c++20)"
#endif

#include <bit>

// Marks a function that CPU code and CUDA kernels share.
#if defined(__CUDACC__)
#define QLR_HOST_DEVICE __host__ __device__
#else
#define QLR_HOST_DEVICE
#endif

// Marks the body of a kernel and what only kernels call: device code to a CUDA compiler, an ordinary function
// to others, which run it on a simulated device.
#if defined(__CUDACC__)
#define QLR_DEVICE __device__
#else
#define QLR_DEVICE
#endif

// 1 when exceptions are enabled; without them errors go to the handler of core/status.hpp.
#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define QLR_HAS_EXCEPTIONS 1
#else
#define QLR_HAS_EXCEPTIONS 0
#endif

// A pointer that aliases nothing else in its function.
#if defined(_MSC_VER) && !defined(__clang__)
#define QLR_RESTRICT __restrict
#else
#define QLR_RESTRICT __restrict__
#endif

// Asks for complete unrolling of the next loop, of at most 16 iterations, so that the loop around it
// vectorises.
#if defined(__CUDA_ARCH__)
#define QLR_UNROLL _Pragma("unroll")
#elif defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define QLR_UNROLL _Pragma("GCC unroll 16")
#else
#define QLR_UNROLL
#endif

// The same for kernels alone, whose arrays stay in registers only where every index is known, and the
// contrary for loops of large bodies and few turns.
#if defined(__CUDA_ARCH__)
#define QLR_DEVICE_UNROLL _Pragma("unroll")
#define QLR_DEVICE_NO_UNROLL _Pragma("unroll 1")
#else
#define QLR_DEVICE_UNROLL
#define QLR_DEVICE_NO_UNROLL
#endif

// Inlined whatever the optimiser thinks of its size; the second form is for lambdas.
#if defined(_MSC_VER) && !defined(__clang__)
#define QLR_ALWAYS_INLINE __forceinline
#define QLR_LAMBDA_INLINE
#define QLR_NEVER_INLINE __declspec(noinline)
#else
#define QLR_ALWAYS_INLINE [[gnu::always_inline]] inline
#define QLR_LAMBDA_INLINE __attribute__((always_inline))
#define QLR_NEVER_INLINE [[gnu::noinline]]
#endif

static_assert(std::endian::native == std::endian::little,
              "qlr stores codes and files little-endian and needs a little-endian machine");
