// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/decompose/options.hpp>

#include <array>
#include <string>
#include <string_view>

namespace qlr {

/// What a method takes from the calibration; see make_metric, make_fisher_metric and make_covariance_metric.
enum class calibration_use {
  none,
  fisher,        ///< a Fisher matrix
  mean_abs,      ///< largest batch mean of |x| for each input (LQER)
  rms,           ///< root mean square of each input
  covariance,    ///< of the inputs
  whatever_given ///< the covariance, else a Fisher matrix, else the RMS
};

/// A published method: its schedule, and what it is usually combined with.
struct preset {
  std::string_view name;
  std::string_view source;
  std::string_view summary;
  std::string_view quantizer; ///< format used when the caller names none
  calibration_use uses;       ///< taken where it is given; without it errors are Frobenius norms
  schedule steps;
  /// Of the covariance that errors are measured with, see root_options::damping.
  double damping = 0;
};

/// Every method; a new paper is one entry here.
inline constexpr auto presets = std::to_array<preset>({
    {"qlora",
     "Dettmers et al., arXiv 2305.14314",
     "Q only; the adapter starts at zero",
     "nf4",
     calibration_use::none,
     {.has_low_rank = false}},
    {"loftq",
     "Li et al., arXiv 2310.08659, algorithm 1",
     "Q, then SVD of the error, repeated",
     "nf4",
     calibration_use::none,
     {.iterations = 5}},
    {"lq-lora",
     "Guo et al., arXiv 2311.12023, algorithm 2",
     "SVD, then Q, until the error rises",
     "nf4",
     calibration_use::fisher,
     // A rise of the fifth digit ends the original's loop at random; its results are met with a second try.
     {.first = half_step::low_rank, .iterations = 100, .stop = stop_rule::error_rises, .patience = 2}},
    {"zeroquant-v2",
     "Yao et al., arXiv 2303.08302 (LoRC)",
     "Q, then one SVD of the error",
     "int4",
     calibration_use::none,
     {}},
    {"lqer",
     "Zhang et al., arXiv 2402.02446",
     "Q in block floating point, then one SVD of the error",
     "bfp4",
     calibration_use::none,
     {.split = sigma_split::left}},
    {"l2qer",
     "Zhang et al., arXiv 2402.02446",
     "LQER with the error weighted by the mean magnitude of the inputs",
     "bfp4",
     calibration_use::mean_abs,
     {.split = sigma_split::left}},
    {"qera-approx",
     "Zhang et al., arXiv 2410.06040, theorem 2",
     "Q, then one SVD of the error weighted by the RMS of the inputs",
     "mxint4",
     calibration_use::rms,
     {.split = sigma_split::left}},
    {"qera-exact",
     "Zhang et al., arXiv 2410.06040, theorem 1",
     "Q, then the best L R for the covariance of the inputs",
     "mxint4",
     calibration_use::covariance,
     {.split = sigma_split::left}},
    {"eora",
     "Liu et al., arXiv 2410.21271",
     "the same product as qera-exact, split evenly between the factors",
     "int4",
     calibration_use::covariance,
     {}},
    {"gptq",
     "Frantar et al., arXiv 2210.17323",
     "Q only, with error feedback",
     "uint4",
     calibration_use::covariance,
     {.has_low_rank = false, .step = quantize_step::feedback}},
    {"caldera",
     "Saha et al., arXiv 2405.18886, algorithm 1",
     "L R with rounded factors, then Q by LDLQ, 20 times",
     "int2",
     calibration_use::covariance,
     {.first = half_step::low_rank,
      .iterations = 20,
      .split = sigma_split::right,
      .step = quantize_step::feedback,
      .feedback = {.order = column_order::descending},
      .judges_half_steps = true,
      .factor_refits = 5}},
    {"svdquant",
     "Li et al., arXiv 2411.05007",
     "inputs smoothed, SVD of the smoothed W, then Q, until the output error rises",
     "int4",
     calibration_use::covariance,
     {.first = half_step::low_rank,
      .iterations = 100,
      .stop = stop_rule::error_rises,
      .split = sigma_split::left,
      .smooths_inputs = true,
      .ignores_metric = true}},
    {"srr",
     "Cho et al., arXiv 2602.02001",
     "k leading directions of W kept from quantization, the other r - k of L R for the error",
     "mxint3",
     calibration_use::covariance,
     {.start = low_rank_start::preserved, .split = sigma_split::left}},
    {"odlri",
     "Cho et al., arXiv 2506.02077",
     "CALDERA from the input channels of largest variance, Q first",
     "int2",
     calibration_use::covariance,
     {.start = low_rank_start::outliers,
      .iterations = 15,
      .split = sigma_split::right,
      .step = quantize_step::feedback,
      .feedback = {.order = column_order::descending},
      .judges_half_steps = true,
      .factor_refits = 5}},
    {"gptq-intrinsic",
     "Pham and Gillis, arXiv 2606.01412",
     "Q by GPTQ that knows of L for R = the leading eigenvectors, then coordinate descent and L R by turns",
     "uint4",
     calibration_use::covariance,
     {.start = low_rank_start::eigenvectors,
      .split = sigma_split::left,
      .step = quantize_step::feedback,
      .feedback = {.knows_low_rank = true},
      .polish_rounds = 5}},
    {"best",
     "this library",
     "scale search and over-relaxed alternation from the SVD of W; error feedback with a covariance",
     "nf4",
     calibration_use::whatever_given,
     {.start = low_rank_start::weight,
      .iterations = 40,
      .stop = stop_rule::stalls,
      .searches_scales = true,
      .compares_plain = true,
      .relaxation = 0.25F,
      .relaxed_iterations = 22,
      .step = quantize_step::feedback,
      .feedback = {.order = column_order::importance, .knows_low_rank = true},
      .factor_refits = 5,
      .polish_rounds = 10},
     0.01},
});

/// @throws qlr::error invalid_argument: no method has this name; the message lists all
[[nodiscard]] inline const preset& find_preset(std::string_view name) {
  std::string names;
  for (const preset& method : presets) {
    if (method.name == name) return method;
    names += sentence(names.empty() ? "" : ", ", method.name);
  }
  fail(status_code::invalid_argument, "method is '", name, "', allowed are ", names);
}

} // namespace qlr
