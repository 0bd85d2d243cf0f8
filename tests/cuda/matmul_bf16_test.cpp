// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/matmul_cases.hpp>

namespace {
using namespace qlr::test;
using qlr::bfloat16;
} // namespace

TEST_CASE("fused_matmul bf16: every format and grouping", "[cuda]") {
  if (has_device()) check_formats<bfloat16>();
}

TEST_CASE("fused_matmul bf16: group sizes around steps, blocks and rows", "[cuda]") {
  if (has_device()) check_groups<bfloat16>();
}

TEST_CASE("fused_matmul bf16: shapes around tiles", "[cuda]") {
  if (has_device()) check_shapes<bfloat16>();
}

TEST_CASE("fused_matmul bf16: adapters, bias, input scales and parts of the reduction", "[cuda]") {
  if (has_device()) check_everything_at_once<bfloat16>();
}

TEST_CASE("fused_matmul bf16: strides and alignment", "[cuda]") {
  if (has_device()) check_placements<bfloat16>();
}

TEST_CASE("fused_matmul bf16: the same bits in any order", "[cuda]") {
  if (has_device()) check_determinism<bfloat16>();
}

TEST_CASE("fused_matmul bf16: numbers at the edges", "[cuda]") {
  if (has_device()) check_extremes<bfloat16>();
}
