// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (grid_policy)

#include <qlr/quant/quantizer.hpp>

struct half_a_grid {
  [[nodiscard]] static int bits() { return 1; }
  [[nodiscard]] static int num_codes() { return 2; }
#ifndef QLR_MISTAKE
  [[nodiscard]] static qlr::code_t encode(float value) {
    return value > 0.0F ? qlr::code_t{1} : qlr::code_t{0};
  }
#endif
  [[nodiscard]] static float decode(qlr::code_t code) {
    return code != 0 ? 1.0F : -1.0F;
  }
  [[nodiscard]] static float absmax_level() {
    return 1.0F;
  }
  [[nodiscard]] static float lowest_level() {
    return -1.0F;
  }
};

using mine = qlr::quantizer<half_a_grid, qlr::absmax_rule>;

std::string name(const mine& quantizer) {
  return quantizer.name();
}
