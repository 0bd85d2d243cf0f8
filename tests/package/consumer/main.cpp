// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/qlr.hpp>

int main() {
  const qlr::matrix<float> weight(2, 64, 7.0F);
  const qlr::quantized_matrix quantized = qlr::quantize(weight.view(), qlr::make_quantizer("int4"));
  return qlr::dequantize(quantized)(1, 2) == 7.0F ? 0 : 1;
}
