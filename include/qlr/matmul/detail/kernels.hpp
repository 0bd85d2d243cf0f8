// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul/detail/kernel_types.hpp>
#include <qlr/matmul/isa.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if QLR_HAS_X86_KERNELS
#include <immintrin.h>
#endif
#if QLR_HAS_NEON_KERNELS
#include <arm_neon.h>
#endif

// Everything between begin and end is compiled for the named features.
#if defined(__clang__)
#define QLR_DETAIL_PRAGMA(text) _Pragma(#text)
#define QLR_DETAIL_TARGET_BEGIN(features)                                                                    \
  QLR_DETAIL_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define QLR_DETAIL_TARGET_END QLR_DETAIL_PRAGMA(clang attribute pop)
#elif defined(__GNUC__)
#define QLR_DETAIL_PRAGMA(text) _Pragma(#text)
#define QLR_DETAIL_TARGET_BEGIN(features)                                                                    \
  QLR_DETAIL_PRAGMA(GCC push_options) QLR_DETAIL_PRAGMA(GCC target(features))
#define QLR_DETAIL_TARGET_END QLR_DETAIL_PRAGMA(GCC pop_options)
#endif

// Naming an architecture takes away what the flags of the file have beyond it, so not where they have SDOT.
// The architecture is for the assembler, which knows SDOT from 8.2 on.
#if QLR_HAS_NEON_KERNELS && defined(__ARM_FEATURE_DOTPROD)
#define QLR_DETAIL_DOTPROD_BEGIN
#define QLR_DETAIL_DOTPROD_END
#elif defined(__clang__)
#define QLR_DETAIL_DOTPROD_BEGIN QLR_DETAIL_TARGET_BEGIN("dotprod")
#define QLR_DETAIL_DOTPROD_END QLR_DETAIL_TARGET_END
#else
#define QLR_DETAIL_DOTPROD_BEGIN QLR_DETAIL_TARGET_BEGIN("arch=armv8.2-a+dotprod")
#define QLR_DETAIL_DOTPROD_END QLR_DETAIL_TARGET_END
#endif

// GCC's AVX-512 header starts some results from an undefined register, which its own warning then finds.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace qlr::matmul_detail {

// Without vector registers there is nothing to unroll for.
#define QLR_DETAIL_UNROLL
#define QLR_DETAIL_INLINE inline
#define QLR_DETAIL_LAMBDA_INLINE
namespace scalar {
#include <qlr/matmul/detail/simd_scalar.inl>

#include <qlr/matmul/detail/kernels.inl>
} // namespace scalar
#undef QLR_DETAIL_UNROLL
#undef QLR_DETAIL_INLINE
#undef QLR_DETAIL_LAMBDA_INLINE

#if QLR_HAS_X86_KERNELS

#define QLR_DETAIL_UNROLL QLR_UNROLL
#define QLR_DETAIL_INLINE QLR_ALWAYS_INLINE
#define QLR_DETAIL_LAMBDA_INLINE QLR_LAMBDA_INLINE

QLR_DETAIL_TARGET_BEGIN("avx2,fma,f16c")
namespace avx2 {
#include <qlr/matmul/detail/simd_avx2.inl>

#include <qlr/matmul/detail/kernels.inl>
} // namespace avx2
QLR_DETAIL_TARGET_END

QLR_DETAIL_TARGET_BEGIN("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")
#define QLR_DETAIL_VNNI 0
namespace avx512 {
#include <qlr/matmul/detail/simd_avx512.inl>

#include <qlr/matmul/detail/kernels.inl>
} // namespace avx512
#undef QLR_DETAIL_VNNI
QLR_DETAIL_TARGET_END

QLR_DETAIL_TARGET_BEGIN("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi")
#define QLR_DETAIL_VNNI 1
namespace avx512_vnni {
#include <qlr/matmul/detail/simd_avx512.inl>

#include <qlr/matmul/detail/kernels.inl>
} // namespace avx512_vnni
#undef QLR_DETAIL_VNNI
QLR_DETAIL_TARGET_END

#undef QLR_DETAIL_UNROLL
#undef QLR_DETAIL_INLINE
#undef QLR_DETAIL_LAMBDA_INLINE

#endif

#if QLR_HAS_NEON_KERNELS

#define QLR_DETAIL_UNROLL QLR_UNROLL
#define QLR_DETAIL_INLINE QLR_ALWAYS_INLINE
#define QLR_DETAIL_LAMBDA_INLINE QLR_LAMBDA_INLINE

#define QLR_DETAIL_DOTPROD 0
namespace neon {
#include <qlr/matmul/detail/simd_neon.inl>

#include <qlr/matmul/detail/kernels.inl>
} // namespace neon
#undef QLR_DETAIL_DOTPROD

QLR_DETAIL_DOTPROD_BEGIN
#define QLR_DETAIL_DOTPROD 1
namespace neon_dotprod {
#include <qlr/matmul/detail/simd_neon.inl>

#include <qlr/matmul/detail/kernels.inl>
} // namespace neon_dotprod
#undef QLR_DETAIL_DOTPROD
QLR_DETAIL_DOTPROD_END

#undef QLR_DETAIL_UNROLL
#undef QLR_DETAIL_INLINE
#undef QLR_DETAIL_LAMBDA_INLINE

#endif

/// The kernels of a set for activations of type T; those of the scalar one where this build has none.
template <activation_scalar T>
[[nodiscard]] kernel_table<T> kernels_of(isa set) {
  switch (set) {
#if QLR_HAS_X86_KERNELS
  case isa::avx2:
    return avx2::make_kernels<T>();
  case isa::avx512:
    return avx512::make_kernels<T>();
  case isa::avx512_vnni:
    return avx512_vnni::make_kernels<T>();
#endif
#if QLR_HAS_NEON_KERNELS
  case isa::neon:
    return neon::make_kernels<T>();
  case isa::neon_dotprod:
    return neon_dotprod::make_kernels<T>();
#endif
  default:
    return scalar::make_kernels<T>();
  }
}

} // namespace qlr::matmul_detail

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
