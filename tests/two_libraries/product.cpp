// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// Compiled into two shared libraries with different flags; QLR_TEST_FUNCTION is what each of them defines.
#include "product.hpp"

#include <qlr/matmul.hpp>

void qlr::test::QLR_TEST_FUNCTION(const product_operands& operands, isa set, precision mode) {
  const packed_weights packed = prepack(operands.q, operands.left, operands.right, 0.5F, set);
  matmul(packed, operands.x, operands.y, {.mode = mode});
}
