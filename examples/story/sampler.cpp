// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <story/sampler.hpp>

#include <qlr/core/random.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

double log_sum_exp(std::span<const float> values, double factor) {
  const double largest = static_cast<double>(*std::max_element(values.begin(), values.end()));
  double sum = 0;
  for (const float value : values) sum += std::exp(factor * (static_cast<double>(value) - largest));
  return factor * largest + std::log(sum);
}

token_t likeliest(std::span<const float> values) {
  return static_cast<token_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

token_t sampler::operator()(std::span<const float> logits) {
  const token_t best = likeliest(logits);
  if (temperature_ == 0) return best;
  // Differences from the largest, so that even a temperature whose reciprocal overflows gives no NaN.
  const double largest = static_cast<double>(logits[static_cast<std::size_t>(best)]);
  const auto weight = [&](float logit) {
    return std::exp((static_cast<double>(logit) - largest) / temperature_);
  };
  double sum = 0;
  for (const float logit : logits) sum += weight(logit);
  const double target = sum * qlr::to_unit_interval(qlr::philox(seed_, num_draws_++)[0]);
  double reached = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    reached += weight(logits[i]);
    if (reached > target) return static_cast<token_t>(i);
  }
  return best; // target is below the sum, but not always in floating point
}

generation generate(session& reader, std::vector<token_t>& text, qlr::index_t count, sampler choose,
                    const std::function<void()>& on_token) {
  using clock = std::chrono::steady_clock;
  generation result;
  qlr::matrix<float> logits(1, reader.num_tokens());
  const std::span<const float> row(logits.data(), static_cast<std::size_t>(logits.cols()));
  text.reserve(text.size() + static_cast<std::size_t>(count));
  reader.read(text, logits.view());
  const auto start = clock::now();
  for (qlr::index_t i = 0; i < count; ++i) {
    const token_t token = choose(row);
    if (token == tokenizer::begin_of_text || token == tokenizer::end_of_text) {
      result.end = token;
      break;
    }
    text.push_back(token);
    if (on_token) on_token();
    if (i + 1 < count) reader.read({&text.back(), 1}, logits.view());
  }
  result.seconds = std::chrono::duration<double>(clock::now() - start).count();
  return result;
}
