// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/types.hpp>
#include <qlr/decompose/factor_storage.hpp>
#include <qlr/lowrank/randomized_svd.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <cstdint>
#include <functional>
#include <optional>
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
  left,     ///< L = U S, R = V^T
  right     ///< L = U, R = S V^T
};

/// How singular triplets are found.
enum class svd_method {
  exact,     ///< full decomposition
  randomized ///< block power iteration, warm-started between iterations
};

/// What L R is before the first half-step.
enum class low_rank_start {
  zero,
  weight,       ///< the best rank-r approximation of W in the metric
  eigenvectors, ///< R = the r leading eigenvectors of the covariance, L = 0 (GPTQ-intrinsic LoRA)
  outliers,     ///< R selects the input channels of largest variance, L = those columns of W (ODLRI)
  preserved     ///< the k leading directions of W, which stay; Q, then the other r - k (SRR)
};

/// How Q is found for a given W - L R.
enum class quantize_step {
  nearest, ///< each element to the nearest level
  feedback ///< column by column, later columns make up for the errors of earlier ones (GPTQ, LDLQ); needs a
           ///< covariance, without one it is `nearest`
};

/// In which order error feedback visits the columns.
enum class column_order {
  ascending,
  descending, ///< last column first (LDLQ)
  importance  ///< largest variance first (GPTQ's activation order)
};

/// Error feedback and coordinate descent in the metric of an input covariance H.
struct feedback_options {
  column_order order = column_order::ascending;
  double damping = 0.01; ///< times the mean of the diagonal, added to it; tenfold while H is not definite
  /// H without what a refit of L makes up for: H - H R^T (R H R^T)^-1 R H.
  bool knows_low_rank = false;
  int descents = 0; ///< passes of coordinate descent on the scales found, after each quantize step
  /// knows_low_rank: relative rounding error of a stored factor, which a refit of L cannot make up for; set
  /// by the decomposer.
  double factor_noise = 0;
};

/// What the coupling of columns is made for.
enum class coupling_use {
  feedback, ///< a first pass, and the descents that follow it
  descent   ///< coordinate descent alone
};

/// What is looked for.
enum class decomposition_form {
  joint,  ///< Q, L and R
  fixed_q ///< L and R for a given Q, or for the nearest one
};

/// The schedule of the alternating loop: what distinguishes the published methods.
struct schedule {
  half_step first = half_step::quantize;
  low_rank_start start = low_rank_start::zero;
  /// low_rank_start::preserved: k; without it SRR's criterion decides, see detail::preserved_rank.
  std::optional<index_t> preserved_rank{};
  int iterations = 1; ///< at most this many
  stop_rule stop = stop_rule::never;
  int patience = 1;            ///< stop_rule::error_rises: 1 stops at the first rise
  double tolerance_rel = 2e-4; ///< stop_rule::stalls
  sigma_split split = sigma_split::balanced;
  bool has_low_rank = true;     ///< false: Q only, L R = 0
  bool searches_scales = false; ///< error-minimising scales, whatever the quantizer's own options say
  bool compares_plain = false;  ///< also consider plain quantization of W without a low-rank part
  /// Over-relaxation of the quantizer's target: Q is fitted to Q_old + w (W - L R - Q_old) with
  /// w = 1 + relaxation * max(0, 1 - t / relaxed_iterations) in iteration t = 0, 1, ...
  /// Not with error feedback.
  float relaxation = 0;
  int relaxed_iterations = 0;
  quantize_step step = quantize_step::nearest;
  feedback_options feedback{};
  /// Iterates between the half-steps, once Q and L R exist, count too; the history has a line for each.
  bool judges_half_steps = false;
  bool smooths_inputs = false; ///< Q is found for W diag(input_scales), see smoothing_options
  bool ignores_metric =
      false; ///< the low-rank step minimises the Frobenius norm, whatever errors are judged by
  /// Factors stored in 8 or 4 bits: alternating least squares with rounding, this many times per low-rank
  /// step (LPLR); the best pair is kept.
  int factor_refits = 0;
  /// After the loop: at most this many times coordinate descent of the best Q on its scales, then a refit of
  /// L R; until a round gains less than tolerance_rel.
  int polish_rounds = 0;
};

/// One line of the history: errors relative to the norm of W in the same norm.
struct iteration_report {
  int iteration = 0;         ///< 1, 2, ...; 0 for plain quantization
  double relative_error = 0; ///< || W - Q - L R ||_F / || W ||_F
  double weighted_error = 0; ///< the same in the metric
  bool is_best = false;      ///< lowest weighted error so far
};

/// What smoothing of the inputs is chosen by (SVDQuant); see decompose/smoothing.hpp.
struct smoothing_options {
  std::vector<float> largest; ///< largest |x_j| (n); empty = the root of the covariance's diagonal
  matrix_view<const float>
      activations{};             ///< X (t,n), needed where inputs are quantized; must outlive the call
  int activation_bits = 16;      ///< 16: W4A16; 2 to 8: inputs in symmetric integers of this width
  index_t activation_group = 64; ///< inputs per scale
  int grid_steps = 20;           ///< exponents tried between 0 and 1
};

/// Everything the decomposer can be told besides the matrix, the quantizer and the metric.
struct decompose_options {
  index_t rank = 16; ///< 0 to min(m,n)
  schedule steps{};  ///< see presets.hpp
  svd_method svd = svd_method::randomized;
  factor_storage factors = factor_storage::fp16;
  randomized_svd_options sketch{}; ///< oversampling, power iterations and seed of the randomized SVD
  smoothing_options smoothing{};
  decomposition_form form = decomposition_form::joint;
  const quantized_matrix* given = nullptr; ///< fixed_q: this Q (m,n); null = W rounded by the quantizer
  /// Judges iterates instead of the error in the metric: a relative error of Q, L transposed (r,m) and R
  /// (r,n).
  std::function<double(const quantized_matrix&, const matrix<float>&, const matrix<float>&)> judge{};
  /// Called after every iteration.
  std::function<void(const iteration_report&)> on_iteration{};
};

} // namespace qlr
