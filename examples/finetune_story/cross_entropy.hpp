// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/batch.hpp>
#include <finetune_story/elementwise.hpp>

#include <qlr/core/status.hpp>

#include <cmath>
#include <span>

/// Targets that count.
[[nodiscard]] inline qlr::index_t count_targets(std::span<const token_t> targets) {
  qlr::index_t count = 0;
  for (const token_t target : targets) count += target == token_batch::not_counted ? 0 : 1;
  return count;
}

/// The mean cross entropy of the counted targets, and in place of the logits its gradient to them:
/// (softmax(logits) - one_hot(target)) / count, zero in rows that are not counted.
///
/// The largest logit is subtracted before exponentials are taken, so that none overflows.
/// @param logits  (t, vocabulary)
/// @throws qlr::error invalid_argument: no target counts
template <class T>
double differentiate_cross_entropy(qlr::matrix_view<T> logits, std::span<const token_t> targets) {
  const qlr::index_t count = count_targets(targets);
  qlr::require(count > 0, qlr::status_code::invalid_argument, "the batch has no target that counts");
  const T weight = T{1} / static_cast<T>(count);
  double sum = 0;
  for (qlr::index_t t = 0; t < logits.rows(); ++t) {
    const token_t target = targets[static_cast<std::size_t>(t)];
    T* row = logits.row(t);
    if (target == token_batch::not_counted) {
      for (qlr::index_t i = 0; i < logits.cols(); ++i) row[i] = T{0};
      continue;
    }
    const T of_target = row[target];
    sum += static_cast<double>(apply_softmax(row, logits.cols(), T{1}) - of_target);
    for (qlr::index_t i = 0; i < logits.cols(); ++i) row[i] *= weight;
    row[target] -= weight;
  }
  return sum / static_cast<double>(count);
}
