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
