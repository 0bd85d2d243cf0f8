// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (no matching function|could not find)

#include <qlr/host/decompose.hpp>

#include <type_traits>

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

// Declared only: the body takes long to compile.
using result =
    decltype(qlr::decompose(qlr::matrix_view<const float>(), quantizer(), qlr::decompose_options()));
static_assert(std::is_same_v<result, qlr::decompose_result>);
