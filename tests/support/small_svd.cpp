// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <support/small_svd.hpp>

template qlr::host::detail::row_basis qlr::host::detail::thin_qr(matrix<float>& x, const executor& run);
template qlr::host::detail::square_svd qlr::host::detail::svd_of_square(const Eigen::MatrixXd& t);
template void qlr::host::detail::solve_gram(const matrix<float>& basis, matrix<float>& rhs,
                                            const executor& run);
