// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <matmul/support.hpp>
#include <support/adapter.hpp>

using namespace qlr;
using namespace qlr::test;

namespace {

quantized_adapter make_adapter(index_t rows, index_t cols, index_t rank, int bits) {
  adapter_options options;
  options.high_bits = bits;
  options.ratio = 0.6;
  const matrix<float> left = normal_matrix(rows, rank, 5, 0.1);
  const matrix<float> right = normal_matrix(rank, cols, 6, 0.1);
  return quantize_adapter(left.view(), right.view(), options, 0.5F).adapter;
}

} // namespace

TEST_CASE("prepack_factors: a quantized adapter keeps its numbers, in bytes where these hold them",
          "[matmul]") {
  for (const int bits : {2, 3}) {
    const quantized_adapter adapter = make_adapter(192, 320, 8, bits);
    REQUIRE(adapter.split_rank() < adapter.rank());
    const packed_factors packed = prepack_factors(adapter, isa::scalar);
    const matrix<float> left = dequantize_left(adapter);
    const matrix<float> right = dequantize_right(adapter);
    CHECK(squared_error(packed.left(), left) == 0.0);
    CHECK(squared_error(packed.right(), right) == 0.0);
    CHECK(packed.scale() == 0.5F);
    // One byte per entry and one fp32 scale per run of 64 along n and per panel of m.
    CHECK(packed.size_bytes() < 8 * (192 + 320) * 13 / 10);
  }
}

TEST_CASE("matmul: a token that names a quantized adapter gets s L R of it", "[matmul]") {
  const index_t rows = 150;
  const index_t cols = 130;
  const index_t tokens = 5;
  const matrix<float> weight = normal_matrix(rows, cols, 1, 0.1);
  const quantized_matrix q = quantize(weight.view(), make_quantizer("int4"));
  const matrix<float> dense = slow_dequantize(q);
  const matrix<float> x = normal_matrix(tokens, cols, 2);
  const quantized_adapter adapter = make_adapter(rows, cols, 6, 2);
  const matrix<double> change = slow_product(dequantize_left(adapter), dequantize_right(adapter));
  const std::vector<std::int32_t> ids{0, -1, 0, 0, -1};
  for (const isa set : available_sets()) {
    CAPTURE(to_string(set));
    const packed_weights packed = prepack(q.view(), set);
    const packed_factors factors = prepack_factors(adapter, set);
    const packed_factors* const adapters[] = {&factors};
    matrix<float> y(tokens, rows, nan_value);
    matmul_options options;
    options.adapters = adapters;
    options.adapter_of_token = ids.data();
    matmul(packed, x.view(), y.view(), options);
    for (index_t t = 0; t < tokens; ++t) {
      for (index_t i = 0; i < rows; ++i) {
        double expected = 0;
        double size = 0;
        for (index_t j = 0; j < cols; ++j) {
          const double delta = ids[static_cast<std::size_t>(t)] == 0 ? 0.5 * change(i, j) : 0.0;
          const double term = (static_cast<double>(dense(i, j)) + delta) * static_cast<double>(x(t, j));
          expected += term;
          size += std::fabs(term);
        }
        REQUIRE(is_near(static_cast<double>(y(t, i)), expected, 1e-5 * size)); // fp32 sums of 136 terms
      }
    }
  }
}
