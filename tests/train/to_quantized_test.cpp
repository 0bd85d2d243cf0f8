// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/lr_qat_layer.hpp>
#include <qlr/train/lrq_layer.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/matmul.hpp>
#include <support/oracles.hpp>
#include <train/rounding_examples.hpp>

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

struct export_case {
  index_t rows;
  index_t cols;
  index_t rank;
  std::string_view format;
  index_t group_size;
};

/// Rows below, at and beyond the 64 of a tile.
constexpr export_case cases[] = {{1, 1, 0, "int4", group_per_row},
                                 {1, 70, 1, "uint3", 16},
                                 {70, 1, 1, "int3", group_per_row},
                                 {129, 33, 5, "uint2", 5},
                                 {64, 20, 3, "int2", 20},
                                 {65, 20, 0, "uint4", group_per_row},
                                 {63, 65, 7, "int8", 64},
                                 {70, 12, 7, "minmax4", 4},
                                 {130, 6, 2, "minmax2", group_per_row},
                                 {66, 9, 2, "int4", group_per_tensor},
                                 {5, 64, 4, "mxint4", 32},
                                 {80, 11, 2, "uint8", 11},
                                 {67, 9, 2, "uint5", group_per_tensor},
                                 {6, 64, 2, "q8_0", 32},
                                 {65, 32, 3, "q4_0", 32}};

/// Scales and zero points for the shape; those of weights whose rows lie far from zero are large.
quantized_matrix start_for(const export_case& c) {
  matrix<float> weight = weight_like_matrix(c.rows, c.cols, 7);
  for (index_t j = 0; j < c.cols; ++j) weight(c.rows / 2, j) += 3.0F;
  return quantized_start(weight, c.format, c.group_size);
}

template <class Layer>
void check_export(const Layer& layer) {
  const quantized_matrix found = layer.to_quantized();
  const matrix<float> decoded = slow_dequantize(found);
  const matrix<float> expected = forward_weight(layer);
  REQUIRE(found.rows() == layer.rows());
  REQUIRE(found.cols() == layer.cols());
  for (index_t i = 0; i < expected.rows(); ++i) {
    for (index_t j = 0; j < expected.cols(); ++j) {
      CAPTURE(i, j, decoded(i, j), expected(i, j));
      REQUIRE(decoded(i, j) == expected(i, j)); // zeros may differ in sign
    }
  }
}

} // namespace

TEMPLATE_TEST_CASE("to_quantized: decodes to what forward multiplies with, bit for bit", "[train]",
                   lrq_layer<float>, lrq_layer<bfloat16>, lr_qat_layer<float>, lr_qat_layer<bfloat16>) {
  for (const export_case& c : cases) {
    CAPTURE(c.rows, c.cols, c.rank, c.format, c.group_size);
    const quantized_matrix start = start_for(c);
    TestType layer = make_layer<TestType>(slow_dequantize(start), start, c.rank);
    check_export(layer);
    move(layer);
    check_export(layer);
  }
}

TEMPLATE_TEST_CASE("to_quantized: weights between two levels go where forward has them", "[train]",
                   lrq_layer<float>, lr_qat_layer<float>) {
  for (const export_case& c : cases) {
    CAPTURE(c.rows, c.cols, c.rank, c.format, c.group_size);
    const quantized_matrix start = start_for(c);
    TestType layer = make_layer<TestType>(undecided_weight<TestType>(start, c.rank), start, c.rank);
    move(layer);
    check_export(layer);
  }
}

TEMPLATE_TEST_CASE("to_quantized: the matrix has the start's codes, groups and zero points", "[train]",
                   lrq_layer<double>, lr_qat_layer<double>) {
  for (const export_case& c : cases) {
    CAPTURE(c.rows, c.cols, c.rank, c.format, c.group_size);
    const quantized_matrix start = start_for(c);
    const TestType layer = make_layer<TestType>(slow_dequantize(start), start, c.rank);
    const quantized_matrix found = layer.to_quantized();
    CHECK(found.layout().bits == start.layout().bits);
    CHECK(found.layout().zeros == start.layout().zeros);
    CHECK(found.layout().order == code_order::lsb_first);
    CHECK(found.layout().scales == scale_format{scale_coding::plain, scale_type::fp32});
    CHECK(found.layout().group_size == (c.group_size == group_per_tensor ? group_per_row : c.group_size));
    CHECK(found.levels() == start.levels());
    const slow_grid before(start);
    const slow_grid after(found);
    for (index_t i = 0; i < c.rows; ++i) {
      for (index_t j = 0; j < c.cols; ++j) {
        REQUIRE(after.zero(i, j) == before.zero(i, j));
        REQUIRE(is_near(after.scale(i, j), before.scale(i, j), 1e-7 * std::fabs(before.scale(i, j))));
        REQUIRE(code_of(found, i, j) == code_of(start, i, j)); // levels themselves stay
      }
    }
  }
}

TEMPLATE_TEST_CASE("to_quantized: scales are rounded to the storage that is asked for", "[train]",
                   lrq_layer<float>, lr_qat_layer<float>) {
  const export_case c{66, 20, 3, "uint4", 7};
  const quantized_matrix start = start_for(c);
  TestType layer = make_layer<TestType>(slow_dequantize(start), start, c.rank);
  move(layer);
  const slow_grid exact(layer.to_quantized());
  const quantized_matrix exact_codes = layer.to_quantized();
  const quantized_matrix found = layer.to_quantized({scale_coding::plain, scale_type::fp16});
  CHECK(found.layout().scales == scale_format{scale_coding::plain, scale_type::fp16});
  const slow_grid rounded(found);
  for (index_t i = 0; i < c.rows; ++i) {
    for (index_t j = 0; j < c.cols; ++j) {
      const auto nearest = slow_value(to_float16(static_cast<float>(exact.scale(i, j))));
      REQUIRE(rounded.scale(i, j) == nearest);
      REQUIRE(code_of(found, i, j) == code_of(exact_codes, i, j));
    }
  }
}

TEMPLATE_TEST_CASE("to_quantized: the matrix is packed and multiplied with as any other", "[train]",
                   lrq_layer<float>, lr_qat_layer<float>) {
  for (const export_case& c : {export_case{129, 70, 5, "uint3", 16},
                               {65, 64, 4, "int4", 64},
                               {66, 36, 4, "minmax4", 12},
                               {3, 9, 0, "int2", group_per_row}}) {
    CAPTURE(c.rows, c.cols, c.format);
    const quantized_matrix start = start_for(c);
    TestType layer = make_layer<TestType>(slow_dequantize(start), start, c.rank);
    move(layer);
    const quantized_matrix exported = layer.to_quantized();
    const packed_weights packed = prepack(exported.view(), default_isa());
    const matrix<float> x = normal_numbers<float>(5, c.cols, 8);
    matrix<float> y = unset<float>(5, c.rows);
    matrix<float> y_of_layer = unset<float>(5, c.rows);
    matmul<float>(packed, x.view(), y.view(), {});
    layer.forward(x.view(), y_of_layer.view());
    const matrix<double> weight = to_double(slow_dequantize(exported).view());
    check_product(y_of_layer.view(), to_double(x.view()), weight);
    // The kernels take the zero point out of the sum, which then has larger terms: 2^-20 of the largest.
    for (index_t t = 0; t < 5; ++t) {
      for (index_t i = 0; i < c.rows; ++i) {
        const slow_sum sum = entry_of_product(to_double(x.view()), weight, t, i);
        CHECK(is_near(static_cast<double>(y(t, i)), sum.value, 1e-4 * (1e-3 + sum.magnitude)));
      }
    }
  }
}
