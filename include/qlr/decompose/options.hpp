// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>
#include <qlr/decompose/factor_storage.hpp>
#include <qlr/lowrank/randomized_svd.hpp>

#include <cstdint>
#include <functional>
#include <string_view>

namespace qlr {

/// Which half-step an iteration begins with.
enum class half_step { quantize, low_rank };

/// When the loop ends before its last iteration.
enum class stop_rule {
  never,       ///< all iterations
  error_rises, ///< after `patience` iterations in a row without a new lowest error
  stalls       ///< when two iterations together gain less than `tolerance_rel`
};

/// Where the singular values go; only the product is determined.
enum class sigma_split {
  balanced, ///< L = U sqrt(S), R = sqrt(S) V^T
  left      ///< L = U S, R = V^T
};

/// How singular triplets are found.
enum class svd_method {
  exact,     ///< full decomposition
  randomized ///< block power iteration, warm-started between iterations
};

/// The schedule of the alternating loop: what distinguishes the published methods.
struct schedule {
  half_step first = half_step::quantize;
  bool starts_from_weight = false; ///< begin with L R = the best rank-r approximation of W instead of 0
  int iterations = 1;              ///< at most this many
  stop_rule stop = stop_rule::never;
  int patience = 1;            ///< stop_rule::error_rises: 1 stops at the first rise
  double tolerance_rel = 2e-4; ///< stop_rule::stalls
  sigma_split split = sigma_split::balanced;
  bool has_low_rank = true;     ///< false: Q only, L R = 0
  bool searches_scales = false; ///< error-minimising scales, whatever the quantizer's own options say
  bool compares_plain = false;  ///< also consider plain quantization of W without a low-rank part
  /// Over-relaxation of the quantizer's target: Q is fitted to Q_old + w (W - L R - Q_old) with
  /// w = 1 + relaxation * max(0, 1 - t / relaxed_iterations) in iteration t = 0, 1, ...
  float relaxation = 0;
  int relaxed_iterations = 0;
};

/// One line of the history: errors relative to the norm of W in the same norm.
struct iteration_report {
  int iteration = 0;         ///< 1, 2, ...; 0 for plain quantization
  double relative_error = 0; ///< || W - Q - L R ||_F / || W ||_F
  double weighted_error = 0; ///< the same in the metric
  bool is_best = false;      ///< lowest weighted error so far
};

/// Everything the decomposer can be told besides the matrix, the quantizer and the metric.
struct decompose_options {
  index_t rank = 16; ///< 0 to min(m,n)
  schedule steps{};  ///< see presets.hpp
  svd_method svd = svd_method::randomized;
  factor_storage factors = factor_storage::fp16;
  randomized_svd_options sketch{}; ///< oversampling, power iterations and seed of the randomized SVD
  /// Called after every iteration.
  std::function<void(const iteration_report&)> on_iteration{};
};

} // namespace qlr
