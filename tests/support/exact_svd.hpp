// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/host/exact_svd.hpp>

namespace qlr::host {

// Takes long to compile, so exact_svd.cpp does it once for all test programs.
extern template singular_triplets<matrix<float>> exact_svd(const matrix<float>& x, index_t rank);

} // namespace qlr::host
