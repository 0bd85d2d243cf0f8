// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <story/model.hpp>

#include <cstdint>

/// How a model predicts texts, against the model with uncompressed weights; means over all tokens of the
/// texts but the first of each.
struct evaluation {
  bool is_of_own_texts = false; ///< without the uncompressed model there is only `perplexity`
  double perplexity_fp32 = 0;   ///< of the uncompressed model
  double perplexity = 0;
  double kl_divergence = 0;  ///< in nats, of the predictions of the uncompressed model from the other's
  double top1_agreement = 0; ///< share of tokens where both find the same token the likeliest
  qlr::index_t num_texts = 0;
  qlr::index_t num_tokens = 0; ///< that were predicted
};

/// Seeds of the texts: reports and what is tuned must not look at the same ones.
inline constexpr std::uint64_t report_texts = 20260101;
inline constexpr std::uint64_t tuning_texts = 20270101;

/// Compares two models on texts that the uncompressed one writes at temperature 1, with a fixed seed: what it
/// was trained on is not needed, and no model predicts them better than itself.
///
/// @param exact       the uncompressed model
/// @param run         must outlive the call
/// @param first_seed  of the texts
[[nodiscard]] evaluation evaluate(const model& exact, const model& other, qlr::precision mode,
                                  const qlr::executor& run, std::uint64_t first_seed = report_texts);
