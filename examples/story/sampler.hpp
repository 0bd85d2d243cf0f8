// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <story/model.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

/// log(sum_i exp(factor * values[i]))
[[nodiscard]] double log_sum_exp(std::span<const float> values, double factor = 1.0);

/// The index of the largest value, of several the first.
[[nodiscard]] token_t likeliest(std::span<const float> values);

/// Chooses tokens: the likeliest at temperature 0, else at random; the same ones for the same seed.
class sampler {
public:
  sampler(double temperature, std::uint64_t seed) : temperature_(temperature), seed_(seed) {}

  [[nodiscard]] token_t operator()(std::span<const float> logits);

private:
  double temperature_;
  std::uint64_t seed_;
  std::uint64_t num_draws_ = 0;
};

/// How a text came about.
struct generation {
  std::optional<token_t> end; ///< the token that ended the text, unless it was cut
  double seconds = 0;         ///< for the tokens after the prompt
};

/// Reads a prompt, then appends tokens until the text ends or `count` were appended.
///
/// @param text      begins with the prompt; receives what is appended, without the token that ends the text
/// @param on_token  called after every token appended
/// @throws qlr::error invalid_argument: the text does not fit into the reader's context
generation generate(session& reader, std::vector<token_t>& text, qlr::index_t count, sampler choose,
                    const std::function<void()>& on_token = {});
