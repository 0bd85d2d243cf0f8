// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/matmul_support.hpp>

namespace {
using namespace qlr::test;
using qlr::float16;
} // namespace

TEST_CASE("fused_matmul: every variant gives the product", "[cuda]") {
  if (!has_device()) return;
  for (const auto& variant : qlr::cuda::detail::matmul_variants) {
    const auto p = make_device_problem<float16>("nf4", 64, 40, 200, 24, 9);
    const double ratio = check_device_product(p, {variant.name});
    std::printf("%s %g\n", std::string(variant.name).c_str(), ratio);
  }
}
