// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (scale_policy)

#include <qlr/quant/quantizer.hpp>
#include <qlr/quant/uniform_grid.hpp>

struct unit_rule {
#ifndef QLR_MISTAKE
  static constexpr qlr::zero_point zeros = qlr::zero_point::none;
#endif
  template <qlr::grid_policy Grid>
  [[nodiscard]] qlr::block_scale find(qlr::matrix_view<const float> /*block*/, const Grid& /*grid*/) const {
    return {1.0F, 0.0F};
  }
};

using mine = qlr::quantizer<qlr::uniform_grid<>, unit_rule>;

std::string name(const mine& quantizer) {
  return quantizer.name();
}
