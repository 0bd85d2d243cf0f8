// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <support/decompose.hpp>

template qlr::decompose_result qlr::decompose(matrix_view<const float> weight, const any_quantizer& quantizer,
                                              const decompose_options& options, const metric& weights,
                                              const executor& run);
template qlr::decompose_result qlr::decompose(matrix_view<const double> weight,
                                              const any_quantizer& quantizer,
                                              const decompose_options& options, const metric& weights,
                                              const executor& run);
