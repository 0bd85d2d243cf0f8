// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/matmul/isa.hpp>
#include <qlr/matmul/options.hpp>
#include <qlr/quant/quantized_matrix.hpp>

namespace qlr::test {

/// One product: Q, L, R of rank one or more, X and Y.
struct product_operands {
  quantized_matrix_view q;
  matrix_view<const float> left;
  matrix_view<const float> right;
  matrix_view<const float> x;
  matrix_view<float> y;
};

/// From the library that was built for any x86-64 or AArch64 processor, without optimisation of note.
void multiply_in_portable_library(const product_operands& operands, isa set, precision mode);
/// From the library that was built for this machine.
void multiply_in_native_library(const product_operands& operands, isa set, precision mode);

} // namespace qlr::test
