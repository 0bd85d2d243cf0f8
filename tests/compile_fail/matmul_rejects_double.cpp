// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: X and Y hold float

#include <qlr/host/matmul.hpp>

extern template class qlr::matmul_call<float>; // its kernels take long to compile

#ifdef QLR_MISTAKE
using matrix = Eigen::MatrixXd;
#else
using matrix = Eigen::MatrixXf;
#endif

void multiply(const qlr::packed_weights& w, const matrix& x, matrix& y) {
  qlr::matmul(w, x, y);
}
