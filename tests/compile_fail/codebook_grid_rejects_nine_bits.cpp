// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (template constraint failure|constraints not satisfied)

#include <qlr/quant/codebook_grid.hpp>

#ifdef QLR_MISTAKE
using grid = qlr::codebook_grid<9>;
#else
using grid = qlr::codebook_grid<8>;
#endif

int width(const grid& g) {
  return g.bits();
}
