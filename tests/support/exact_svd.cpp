// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <support/exact_svd.hpp>

template qlr::singular_triplets<qlr::matrix<float>> qlr::host::exact_svd(const matrix<float>& x,
                                                                         index_t rank);
