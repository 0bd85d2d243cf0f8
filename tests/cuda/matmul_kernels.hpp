// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Kernels of the fused product, compiled once for all test files, in matmul_kernels_*_test.cpp.
#include <cuda/launcher.hpp>
#include <qlr/cuda/matmul.hpp>

namespace qlr::cuda::detail {

extern template bool has_group_kernels<test::test_launcher, 2, float16>();
extern template void launch_product<test::test_launcher, 2, float16>(const matmul_variant&,
                                                                     const matmul_arguments&,
                                                                     const launch_shape&, cudaStream_t);
extern template bool has_group_kernels<test::test_launcher, 3, float16>();
extern template void launch_product<test::test_launcher, 3, float16>(const matmul_variant&,
                                                                     const matmul_arguments&,
                                                                     const launch_shape&, cudaStream_t);
extern template bool has_group_kernels<test::test_launcher, 4, float16>();
extern template void launch_product<test::test_launcher, 4, float16>(const matmul_variant&,
                                                                     const matmul_arguments&,
                                                                     const launch_shape&, cudaStream_t);
extern template bool has_group_kernels<test::test_launcher, 8, float16>();
extern template void launch_product<test::test_launcher, 8, float16>(const matmul_variant&,
                                                                     const matmul_arguments&,
                                                                     const launch_shape&, cudaStream_t);
extern template bool has_group_kernels<test::test_launcher, 2, bfloat16>();
extern template void launch_product<test::test_launcher, 2, bfloat16>(const matmul_variant&,
                                                                      const matmul_arguments&,
                                                                      const launch_shape&, cudaStream_t);
extern template bool has_group_kernels<test::test_launcher, 3, bfloat16>();
extern template void launch_product<test::test_launcher, 3, bfloat16>(const matmul_variant&,
                                                                      const matmul_arguments&,
                                                                      const launch_shape&, cudaStream_t);
extern template bool has_group_kernels<test::test_launcher, 4, bfloat16>();
extern template void launch_product<test::test_launcher, 4, bfloat16>(const matmul_variant&,
                                                                      const matmul_arguments&,
                                                                      const launch_shape&, cudaStream_t);
extern template bool has_group_kernels<test::test_launcher, 8, bfloat16>();
extern template void launch_product<test::test_launcher, 8, bfloat16>(const matmul_variant&,
                                                                      const matmul_arguments&,
                                                                      const launch_shape&, cudaStream_t);

} // namespace qlr::cuda::detail
