// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/factor_storage.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>
#include <string_view>

namespace qlr::io::detail {

/// Codes and scales of vectors (r,length) that round_factor made, without any loss.
///
/// @throws qlr::error invalid_argument: the storage cannot hold these values
[[nodiscard]] inline quantized_matrix encode_factor(matrix_view<const float> vectors, factor_storage storage,
                                                    std::string_view name) {
  quantized_matrix q = quantize_factor(vectors, storage);
  const matrix<float> decoded = dequantize(q);
  for (index_t i = 0; i < vectors.rows(); ++i) {
    require(std::equal(vectors.row(i), vectors.row(i) + vectors.cols(), decoded.view().row(i)),
            status_code::invalid_argument, "factor ", name, " has values in vector ", i, " that its storage ",
            to_string(storage), " cannot hold; round_factor makes them fit");
  }
  return q;
}

} // namespace qlr::io::detail
