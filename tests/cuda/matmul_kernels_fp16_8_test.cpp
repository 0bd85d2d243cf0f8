// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/matmul_kernels.hpp>

namespace qlr::cuda::detail {

template bool has_group_kernels<test::test_launcher, 8, float16>();
template void launch_product<test::test_launcher, 8, float16>(const matmul_variant&, const matmul_arguments&,
                                                              const launch_shape&, cudaStream_t);

} // namespace qlr::cuda::detail
