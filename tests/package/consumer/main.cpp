// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/core/matrix.hpp>
#include <qlr/core/types.hpp>

int main() {
  const qlr::matrix<float> weight(2, 3, qlr::to_float(qlr::to_bfloat16(1.5F)));
  return weight(1, 2) == 1.5F ? 0 : 1;
}
