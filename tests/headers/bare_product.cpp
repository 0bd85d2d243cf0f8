// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// Compiled without exceptions and RTTI: the whole product, not only its declarations.
#include <qlr/matmul.hpp>

namespace qlr::test {

void multiply_without_exceptions(const quantized_matrix_view& q, matrix_view<const float> left,
                                 matrix_view<const float> right, matrix_view<const float> x,
                                 matrix_view<float> y) {
  matmul(prepack(q, left, right), x, y);
}

} // namespace qlr::test
