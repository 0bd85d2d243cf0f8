// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Every *_test.cpp of this room is compiled twice: by the host compiler for the simulated device, and by nvcc
// for a real one.
#if defined(__CUDACC__)
#include <qlr/cuda/detail/gpu_launcher.cuh>
#else
#include <cuda/simulator/simulated_launcher.hpp>
#endif

namespace qlr::test {

#if defined(__CUDACC__)
using test_launcher = cuda::detail::gpu_launcher;
inline constexpr bool is_simulated = false;
#else
using test_launcher = simulated_launcher;
inline constexpr bool is_simulated = true;
#endif

} // namespace qlr::test
