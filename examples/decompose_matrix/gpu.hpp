// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/decompose/metric.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/quant/formats.hpp>

// --device cuda: gpu.cu where there is a CUDA compiler, else no_gpu.cpp.

/// @throws qlr::error unsupported: built without CUDA, or there is no GPU
void require_gpu();

/// qlr::decompose on the current GPU.
///
/// @throws qlr::error as the CPU's; out_of_memory, device_failure: the device refuses
[[nodiscard]] qlr::decompose_result decompose_on_gpu(qlr::matrix_view<const float> weight,
                                                     const qlr::any_quantizer& quantizer,
                                                     const qlr::decompose_options& options,
                                                     const qlr::metric& weights);
