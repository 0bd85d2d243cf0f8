// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/decompose/factor_storage.hpp>
#include <qlr/decompose/options.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <string_view>
#include <vector>

namespace qlr {

/// W ~= Q diag(1 / input_scales) + scale * L R. The entries of L and R are what their storage decodes to.
struct decomposition {
  quantized_matrix quantized; ///< Q (m,n)
  matrix<float> left;         ///< L (m,r)
  matrix<float> right;        ///< R (r,n)
  factor_storage factors = factor_storage::fp16;
  float scale = 1.0F; ///< s, LoRA's alpha / r; never folded into the factors
  /// What the inputs of Q, not those of R, are divided by (n), positive (SVDQuant's smoothing); empty = ones.
  std::vector<float> input_scales{};

  [[nodiscard]] index_t rows() const { return quantized.rows(); }
  [[nodiscard]] index_t cols() const { return quantized.cols(); }
  [[nodiscard]] index_t rank() const { return right.rows(); }

  /// Bytes of codes, scales, factors and input scales as stored.
  [[nodiscard]] index_t storage_bytes() const {
    return quantized.layout().storage_bytes() + factor_bytes(rank(), rows(), factors) +
           factor_bytes(rank(), cols(), factors) + 4 * static_cast<index_t>(input_scales.size());
  }
};

/// Why the loop ended.
enum class stop_reason {
  iterations_done, ///< all iterations ran
  error_rose,      ///< stop_rule::error_rises
  stalled,         ///< stop_rule::stalls
  exact            ///< the error reached zero
};

[[nodiscard]] constexpr std::string_view to_string(stop_reason reason) {
  switch (reason) {
  case stop_reason::iterations_done:
    return "iterations done";
  case stop_reason::error_rose:
    return "error rose";
  case stop_reason::stalled:
    return "error stalled";
  case stop_reason::exact:
    return "exact";
  }
  return "";
}

/// A decomposition and how it came about.
struct decompose_result {
  decomposition best; ///< the iterate with the lowest error in the metric, not necessarily the last
  std::vector<iteration_report> history;
  int iterations_run = 0;
  int best_iteration = 0;
  stop_reason reason = stop_reason::iterations_done;
  double relative_error = 0; ///< of `best`, Frobenius
  double weighted_error = 0; ///< of `best`, in the metric
  double seconds_total = 0;
  double seconds_svd = 0;
  double seconds_quantize = 0;
};

} // namespace qlr
