// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <story/evaluate.hpp>
#include <story/sampler.hpp>

#include <algorithm>
#include <cmath>

namespace {

using qlr::index_t;

constexpr index_t num_texts = 8;
constexpr index_t longest_text = 512;

/// Sums over predictions, of which evaluation holds the means.
struct sums {
  double loss_exact = 0;
  double loss_other = 0;
  double divergence = 0;
  index_t num_agreements = 0;
  index_t num_tokens = 0;
};

std::vector<token_t> write_text(session& writer, index_t context, std::uint64_t seed) {
  std::vector<token_t> text{tokenizer::begin_of_text};
  writer.clear();
  const generation end = generate(writer, text, context - 1, sampler(1.0, seed));
  if (end.end && static_cast<index_t>(text.size()) < context) text.push_back(*end.end);
  return text;
}

/// Adds one prediction by both models.
void compare(std::span<const float> exact, std::span<const float> other, token_t next, sums& total) {
  const double log_sum_exact = log_sum_exp(exact);
  const double log_sum_other = log_sum_exp(other);
  const auto at = static_cast<std::size_t>(next);
  total.loss_exact += log_sum_exact - static_cast<double>(exact[at]);
  total.loss_other += log_sum_other - static_cast<double>(other[at]);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double log_p = static_cast<double>(exact[i]) - log_sum_exact;
    const double log_q = static_cast<double>(other[i]) - log_sum_other;
    total.divergence += std::exp(log_p) * (log_p - log_q);
  }
  total.num_agreements += likeliest(exact) == likeliest(other) ? 1 : 0;
  ++total.num_tokens;
}

/// Both models read a text in chunks, so that logits of a few tokens are in memory at a time.
void compare_on(std::span<const token_t> text, session& exact, session& other, sums& total) {
  constexpr auto chunk = static_cast<std::size_t>(session::chunk_tokens);
  qlr::matrix<float> exact_logits(session::chunk_tokens, exact.num_tokens());
  qlr::matrix<float> other_logits(session::chunk_tokens, other.num_tokens());
  exact.clear();
  other.clear();
  for (std::size_t first = 0; first + 1 < text.size(); first += chunk) {
    const std::size_t count = std::min(chunk, text.size() - 1 - first);
    const auto rows = static_cast<index_t>(count);
    exact.read(text.subspan(first, count), {exact_logits.data(), rows, exact_logits.cols()});
    other.read(text.subspan(first, count), {other_logits.data(), rows, other_logits.cols()});
    for (index_t t = 0; t < rows; ++t) {
      const auto cols = static_cast<std::size_t>(exact_logits.cols());
      compare({&exact_logits(t, 0), cols}, {&other_logits(t, 0), cols},
              text[first + static_cast<std::size_t>(t) + 1], total);
    }
  }
}

} // namespace

evaluation evaluate(const model& exact, const model& other, qlr::precision mode, const qlr::executor& run,
                    std::uint64_t first_seed) {
  const index_t context = std::min(longest_text, exact.weights.config().context);
  session exact_reader(exact, context, qlr::precision::exact, run);
  session other_reader(other, context, mode, run);
  sums total;
  for (index_t i = 0; i < num_texts; ++i) {
    const auto text = write_text(exact_reader, context, first_seed + static_cast<std::uint64_t>(i));
    compare_on(text, exact_reader, other_reader, total);
  }
  const auto mean = [&](double sum) {
    return sum / static_cast<double>(std::max<index_t>(1, total.num_tokens));
  };
  evaluation result;
  result.perplexity_fp32 = std::exp(mean(total.loss_exact));
  result.perplexity = std::exp(mean(total.loss_other));
  result.kl_divergence = mean(total.divergence);
  result.top1_agreement = mean(static_cast<double>(total.num_agreements));
  result.num_texts = num_texts;
  result.num_tokens = total.num_tokens;
  return result;
}
