// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/matmul_cases.hpp>

namespace {
using namespace qlr::test;
using qlr::float16;
} // namespace

TEST_CASE("fused_matmul fp16: every format and grouping", "[cuda]") {
  if (has_device()) check_formats<float16>();
}

TEST_CASE("fused_matmul fp16: group sizes around steps, blocks and rows", "[cuda]") {
  if (has_device()) check_groups<float16>();
}

TEST_CASE("fused_matmul fp16: shapes around tiles", "[cuda]") {
  if (has_device()) check_shapes<float16>();
}

TEST_CASE("fused_matmul fp16: adapters, bias, input scales and parts of the reduction", "[cuda]") {
  if (has_device()) check_everything_at_once<float16>();
}

TEST_CASE("fused_matmul fp16: strides and alignment", "[cuda]") {
  if (has_device()) check_placements<float16>();
}

TEST_CASE("fused_matmul fp16: the same bits in any order", "[cuda]") {
  if (has_device()) check_determinism<float16>();
}

TEST_CASE("fused_matmul fp16: numbers at the edges", "[cuda]") {
  if (has_device()) check_extremes<float16>();
}

TEST_CASE("fused_matmul: no tokens, and a workspace that is too small", "[cuda]") {
  if (!has_device()) return;
  const auto p = make_device_problem<float16>("nf4", 32, 20, 64, 4, 3);
  const packed_problem<float16> packed(p);
  qlr::cuda::matmul_workspace small(1000);
  const report refused =
      report_of([&] { (void)run_product<float16, float>(packed, p.x, packed.options(), small); });
  CHECK(refused.says(qlr::status_code::invalid_argument, "workspace has 1000 bytes, 3 tokens need"));
  const qlr::matrix<float16> none(0, 64);
  CHECK(run_product<float16, float>(packed, none, packed.options(), small).is_intact);
}

TEST_CASE("fused_matmul: more than 1024 tiles of tokens take several launches", "[cuda]") {
  if (!has_device()) return;
  auto p = make_device_problem<float16>("int8", 0, 3, 16, 1, 8 * 1024 + 3);
  p.adapters.push_back(make_low_rank(3, 16, 2, 9));
  for (qlr::index_t t = 0; t < p.x.rows(); ++t) p.adapter_of_token.push_back(t == 5 || t > 8190 ? 0 : -1);
  const packed_problem<float16> packed(p);
  qlr::cuda::matmul_options<float16> options = packed.options();
  options.variant = "decode_8";
  auto workspace = make_workspace(packed, p.x.rows(), options);
  const device_output y = run_product<float16, float>(packed, p.x, options, workspace);
  CHECK(worst_ratio(y.values, slow_device_product(p, false, false)) <= 1.0);
  CHECK(y.is_intact);
}
