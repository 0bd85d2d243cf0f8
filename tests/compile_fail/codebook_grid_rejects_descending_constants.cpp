// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (call to non-|must be initialized by a constant expression|is not a constant expression)

#include <qlr/quant/codebook_grid.hpp>

#include <array>

#ifdef QLR_MISTAKE
constexpr std::array<float, 3> levels{-1, 1, 0};
#else
constexpr std::array<float, 3> levels{-1, 0, 1};
#endif
constexpr qlr::codebook_grid<2> grid(levels);
static_assert(grid.num_codes() == 3);
