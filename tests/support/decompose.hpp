// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/host/decompose.hpp>

#include <support/exact_svd.hpp>
#include <support/small_svd.hpp>

namespace qlr {

// Take long to compile, so decompose.cpp does it once for all test programs.
extern template decompose_result decompose(matrix_view<const float> weight, const any_quantizer& quantizer,
                                           const decompose_options& options, const metric& weights,
                                           const executor& run);
extern template decompose_result decompose(matrix_view<const double> weight, const any_quantizer& quantizer,
                                           const decompose_options& options, const metric& weights,
                                           const executor& run);

} // namespace qlr
