// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "support.hpp"

#include <qlr/quant/dequantize.hpp>

#include <string_view>

using namespace qlr;
using namespace qlr::test;

namespace {

/// Every row, decoded from packed codes on every instruction set, has the bits that row_decoder gives.
void check_rows(const any_quantizer& quantizer, index_t rows, index_t cols) {
  const problem p = make_problem(quantizer, rows, cols, 2);
  row_decoder decode(p.q.view());
  std::vector<float> expected(static_cast<std::size_t>(cols));
  const std::vector<float> input_scales(static_cast<std::size_t>(cols), 3.0F);
  for (const isa set : available_sets()) {
    CAPTURE(p.q.format_name(), p.q.layout().group_size, rows, cols, to_string(set));
    const packed_weights packed =
        prepack(p.q.view(), p.left.view(), p.right.view(), p.scale, set, input_scales);
    for (index_t i = 0; i < rows; ++i) {
      std::vector<float> row(static_cast<std::size_t>(cols) + 1, nan_value);
      row.back() = 7;
      packed.decode_row(i, row.data());
      decode(i, expected.data());
      CHECK(std::equal(expected.begin(), expected.end(), row.begin(), is_same));
      CHECK(row.back() == 7);
    }
  }
}

} // namespace

TEST_CASE("packed_weights: a decoded row has the bits of row_decoder, for every format",
          "[matmul][property]") {
  for (const format_description& format : named_formats) {
    check_rows(make_quantizer(format.name), 5, 70); // groups of 16, 32 and 64 end in a short one
    check_rows(make_quantizer(format.name), 1, 1);
  }
}

TEST_CASE("packed_weights: a decoded row has the bits of row_decoder, for every grouping",
          "[matmul][property]") {
  for (const std::string_view name : {"nf4", "uint3", "minmax4", "int8", "sign"}) {
    for (const index_t group : {group_per_row, group_per_tensor, index_t{1}, index_t{7}, index_t{65}}) {
      for (const index_t cols : {65, 130, 201})
        check_rows(make_quantizer(name, {.group_size = group}), 3, cols);
    }
  }
}

TEST_CASE(
    "packed_weights: a decoded row has the bits of row_decoder, beyond one panel and with nested scales",
    "[matmul]") {
  for (const index_t rows : {15, 64, 65}) { // panels have 16, 32 or 64 rows
    check_rows(make_quantizer("uint4", {.group_size = 16}), rows, 33);
    check_rows(make_quantizer("nf4", {.scales = nested_bitsandbytes()}), rows, 129);
    check_rows(make_quantizer("nf3", {.group_size = 8, .scales = double_quantized()}), rows, 63);
  }
}
