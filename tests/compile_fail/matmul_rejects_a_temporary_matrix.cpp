// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: Y is a temporary matrix, the result would be lost

#include <qlr/host/matmul.hpp>

extern template class qlr::matmul_call<float>; // its kernels take long to compile

void multiply(const qlr::packed_weights& w, const Eigen::MatrixXf& x, Eigen::MatrixXf& y) {
#ifdef QLR_MISTAKE
  qlr::matmul(w, x, Eigen::MatrixXf(x.rows(), y.cols()));
#else
  qlr::matmul(w, x, y);
  qlr::matmul(w, x, y.topRows(x.rows())); // refers to y
#endif
}
