// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/host/small_svd.hpp>

namespace qlr::host::detail {

// Take long to compile, so small_svd.cpp does it once for all test programs.
extern template row_basis thin_qr(matrix<float>& x, const executor& run);
extern template square_svd svd_of_square(const Eigen::MatrixXd& t);
extern template void solve_gram(const matrix<float>& basis, matrix<float>& rhs, const executor& run);

} // namespace qlr::host::detail
