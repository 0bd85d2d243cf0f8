// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: view_of needs an expression that owns memory

#include <qlr/host/eigen_maps.hpp>

qlr::matrix_view<const float> view(const Eigen::MatrixXf& x, const Eigen::MatrixXf& y) {
#ifdef QLR_MISTAKE
  return qlr::host::view_of(x + y);
#else
  (void)y;
  return qlr::host::view_of(x);
#endif
}
