// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (no matching function|could not find)

#include <qlr/host/decompose.hpp>

/// Forgets what quantize() needs to know about the shape.
struct quantizer_without_layout {
  [[nodiscard]] static std::string name() { return "mine"; }
  [[nodiscard]] static qlr::quantized_matrix quantize(qlr::matrix_view<const float>,
                                                      const qlr::quantize_hints&, const qlr::executor&) {
    return {};
  }
};

struct quantizer_with_layout : quantizer_without_layout {
  [[nodiscard]] static qlr::quantized_layout layout(qlr::index_t rows, qlr::index_t cols) {
    return {rows, cols};
  }
};

#ifdef QLR_MISTAKE
using quantizer = quantizer_without_layout;
#else
using quantizer = quantizer_with_layout;
#endif

qlr::decompose_result run(qlr::matrix_view<const float> weight, const quantizer& mine) {
  return qlr::decompose(weight, mine, qlr::decompose_options());
}
