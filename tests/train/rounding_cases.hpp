// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/quantized_matrix.hpp>

#include <string_view>

namespace qlr::test {

/// A layer of learned rounding that tests look at.
struct rounding_case {
  index_t rows;
  index_t cols;
  index_t rank;
  std::string_view format;
  index_t group_size;
};

/// Zero points of both kinds and none; scales per tensor, row and group, the last of which may be short, and
/// of both signs.
inline constexpr rounding_case rounding_cases[] = {{1, 1, 0, "int4", group_per_row},
                                                   {1, 1, 1, "uint4", group_per_row},
                                                   {1, 70, 1, "uint3", 16},
                                                   {70, 1, 1, "int3", group_per_row},
                                                   {9, 14, 3, "uint2", 5},
                                                   {65, 20, 0, "uint4", group_per_row},
                                                   {6, 65, 6, "int8", 64},
                                                   {7, 12, 7, "minmax4", 4},
                                                   {8, 6, 2, "minmax2", group_per_row},
                                                   {5, 9, 2, "int4", group_per_tensor},
                                                   {5, 64, 4, "mxint4", 32},
                                                   {3, 11, 2, "uint8", 11},
                                                   {4, 64, 3, "q4_0", 32}};

} // namespace qlr::test
