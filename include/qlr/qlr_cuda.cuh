// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Everything, for NVIDIA GPUs too. Eigen 3.4 makes nvcc warn (20012) unless EIGEN_NO_CUDA is defined.
#include <qlr/cuda/decompose.cuh>
#include <qlr/cuda/dequantize.cuh>
#include <qlr/cuda/matmul.cuh>
#include <qlr/cuda/quantize.cuh>
#include <qlr/qlr.hpp>
