// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (weight_scalar)

#include <qlr/quant/formats.hpp>

#ifdef QLR_MISTAKE
using element = int;
#else
using element = double;
#endif

qlr::quantized_matrix use(qlr::matrix_view<const element> weight) {
  return qlr::quantize(weight, qlr::make_quantizer("int4"));
}
