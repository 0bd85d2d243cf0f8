// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// Two shared libraries with the kernels, built with different flags, in one process.
#include "product.hpp"

#include <qlr/quant/formats.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <limits>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("two libraries: the same bits from both, on every instruction set", "[matmul]") {
  constexpr index_t rows = 70;
  constexpr index_t cols = 150;
  constexpr index_t tokens = 7;
  const matrix<float> left = normal_matrix(rows, 5, 2);
  const matrix<float> right = normal_matrix(5, cols, 3);
  const matrix<float> x = normal_matrix(tokens, cols, 4);
  for (const char* name : {"nf4", "uint4", "int2", "int8"}) {
    const matrix<float> weight = normal_matrix(rows, cols, 1);
    const quantized_matrix q = quantize(weight.view(), make_quantizer(name));
    for (const precision mode : {precision::exact, precision::bf16, precision::int8}) {
      for (const isa set : all_isas) {
        if (!is_available(set)) continue;
        CAPTURE(name, to_string(mode), to_string(set));
        matrix<float> portable(tokens, rows, std::numeric_limits<float>::quiet_NaN());
        matrix<float> native = portable;
        multiply_in_portable_library({q.view(), left.view(), right.view(), x.view(), portable.view()}, set,
                                     mode);
        multiply_in_native_library({q.view(), left.view(), right.view(), x.view(), native.view()}, set, mode);
        CHECK(
            std::all_of(native.data(), native.data() + native.size(), [](float y) { return is_finite(y); }));
        CHECK(std::equal(native.data(), native.data() + native.size(), portable.data(), is_same));
      }
    }
  }
}

TEST_CASE("two libraries: an error of either reaches the caller", "[matmul]") {
  const matrix<float> weight = normal_matrix(3, 64, 1);
  const quantized_matrix q = quantize(weight.view(), make_quantizer("nf4"));
  matrix<float> y(1, 3);
  const product_operands wrong{q.view(), weight.view(), weight.view(), weight.view(), y.view()};
  CHECK_THROWS_AS(multiply_in_portable_library(wrong, isa::scalar, precision::exact), error);
  CHECK_THROWS_AS(multiply_in_native_library(wrong, isa::scalar, precision::exact), error);
}
