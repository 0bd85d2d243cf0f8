// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace qlr::train::detail {

/// Names all numbers of a quantized matrix to an archive of state.hpp; its layout stays.
template <class Archive>
void visit_quantized(Archive& archive, const std::string& prefix, quantized_matrix& q) {
  std::vector<std::uint8_t> codes = q.codes();
  std::vector<std::uint8_t> zeros = q.zeros();
  stored_scales scales = q.scales();
  matrix<float> levels(1, static_cast<index_t>(q.levels().size()));
  std::ranges::copy(q.levels(), levels.data());
  matrix<float> base(1, 1, scales.base);
  archive.bytes(prefix + "codes", codes);
  archive.bytes(prefix + "scales", scales.codes);
  archive.bytes(prefix + "scales_of_scales", scales.supers);
  archive.values(prefix + "base_of_scales", base);
  archive.bytes(prefix + "zeros", zeros);
  archive.values(prefix + "levels", levels);
  if (!archive.is_loading()) return;
  scales.base = base(0, 0);
  q = quantized_matrix(q.format_name(), q.layout(), {levels.data(), levels.data() + levels.size()},
                       std::move(codes), std::move(scales), std::move(zeros));
}

} // namespace qlr::train::detail
