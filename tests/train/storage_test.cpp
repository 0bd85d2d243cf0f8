// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/storage.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

static_assert(storage_scalar<float> && storage_scalar<double> && storage_scalar<bfloat16>);
static_assert(!storage_scalar<float16> && !storage_scalar<int> && !storage_scalar<const float>);
static_assert(std::same_as<compute_t<float>, float> && std::same_as<compute_t<bfloat16>, float> &&
              std::same_as<compute_t<double>, double>);

namespace {

constexpr std::uint32_t num_words = 1U << 16U;

bool is_nan(bfloat16 number) {
  return std::isnan(slow_value(number));
}

bfloat16 toward_zero(float value) {
  return {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16U)};
}
bfloat16 away_from_zero(float value) {
  return {static_cast<std::uint16_t>(toward_zero(value).bits + 1)};
}

/// What all random words together give; exact, as neighbours have 8 bits and counts 17.
struct outcome {
  std::uint32_t num_toward_zero = 0;
  std::uint32_t num_away = 0;
  std::uint32_t num_others = 0;
  double mean = 0;
};

outcome round_with_all_words(float value) {
  outcome found;
  for (std::uint32_t word = 0; word < num_words; ++word) {
    const bfloat16 rounded = to_bfloat16_at_random(value, word);
    if (rounded == toward_zero(value)) {
      ++found.num_toward_zero;
    } else if (rounded == away_from_zero(value)) {
      ++found.num_away;
    } else {
      ++found.num_others;
    }
  }
  found.mean = (found.num_toward_zero * slow_value(toward_zero(value)) +
                found.num_away * slow_value(away_from_zero(value))) /
               num_words;
  return found;
}

std::vector<float> values_to_round() {
  std::vector<float> values = {1.00390625F, 1.0F + 0x1p-23F, 0x1.FFFFFEp0F,   -3.1415927F,
                               0.1F,        -1e-3F,          0x1.FDFFFEp127F, -0x1.FDFFFEp127F,
                               1e-40F,      -0x1p-149F,      0x1.FFFFFEp-127F};
  random_source random(1);
  while (values.size() < 40) {
    const float value = random.any_finite_float();
    if (std::fabs(value) < 0x1.FEp127F) values.push_back(value);
  }
  return values;
}

} // namespace

TEST_CASE("to_bfloat16_at_random: what bf16 holds exactly stays for every random word", "[train]") {
  for (std::uint32_t bits = 0; bits < num_words; ++bits) {
    const bfloat16 exact{static_cast<std::uint16_t>(bits)};
    if (is_nan(exact)) continue;
    for (const std::uint32_t word : {0U, 1U, 0x7FFFU, 0x8000U, 0xFFFFU, 0xFFFFFFFFU}) {
      if (to_bfloat16_at_random(to_float(exact), word) == exact) continue;
      CAPTURE(bits, word);
      FAIL("an exact value moved");
    }
  }
}

TEST_CASE("to_bfloat16_at_random: both neighbours come as often as their distances say", "[train]") {
  for (const float value : values_to_round()) {
    CAPTURE(value);
    const outcome found = round_with_all_words(value);
    const double gap = slow_value(away_from_zero(value)) - slow_value(toward_zero(value));
    const double share = (static_cast<double>(value) - slow_value(toward_zero(value))) / gap;
    CHECK(found.num_others == 0);
    CHECK(found.num_away == share * num_words); // both sides are exact
    CHECK(found.mean == static_cast<double>(value));
  }
}

TEST_CASE("to_bfloat16_at_random: only the lower 16 bits of the random word count", "[train]") {
  random_source random(2);
  for (int i = 0; i < 10000; ++i) {
    const float value = random.any_finite_float();
    const auto word = static_cast<std::uint32_t>(random.word());
    REQUIRE(to_bfloat16_at_random(value, word) == to_bfloat16_at_random(value, word & 0xFFFFU));
  }
}

TEST_CASE("to_bfloat16_at_random: the two signs are rounded alike", "[train]") {
  random_source random(3);
  for (int i = 0; i < 10000; ++i) {
    const float value = random.any_finite_float();
    const auto word = static_cast<std::uint32_t>(random.word());
    const bfloat16 rounded = to_bfloat16_at_random(value, word);
    REQUIRE(to_bfloat16_at_random(-value, word).bits == (rounded.bits ^ 0x8000U));
  }
}

TEST_CASE("to_bfloat16_at_random: beyond the largest finite number it rounds to nearest", "[train]") {
  constexpr float largest_bf16 = 0x1.FEp127F;
  for (const std::uint32_t word : {0U, 1U, 0x7FFFU, 0x8000U, 0xFFFFU}) {
    CAPTURE(word);
    for (const float sign : {1.0F, -1.0F}) {
      // Halfway to 2^128 and more is infinite, as everywhere in binary formats.
      CHECK(slow_value(to_bfloat16_at_random(sign * largest_bf16, word)) == sign * largest_bf16);
      CHECK(slow_value(to_bfloat16_at_random(sign * 0x1.FEFFFCp127F, word)) == sign * largest_bf16);
      CHECK(std::isinf(slow_value(to_bfloat16_at_random(sign * 0x1.FFp127F, word))));
      CHECK(std::isinf(slow_value(to_bfloat16_at_random(sign * 0x1.FFFFFEp127F, word))));
      const bfloat16 infinite = to_bfloat16_at_random(sign * std::numeric_limits<float>::infinity(), word);
      CHECK(slow_value(infinite) == static_cast<double>(sign) * std::numeric_limits<double>::infinity());
    }
    // A payload in the lower half only must not become an infinity, nor a full one wrap to a zero.
    for (const std::uint32_t bits : {0x7F800001U, 0xFF800001U, 0x7FC00000U, 0x7FFFFFFFU, 0xFFFFFFFFU})
      CHECK(is_nan(to_bfloat16_at_random(std::bit_cast<float>(bits), word)));
  }
}

TEST_CASE("load: bf16 is widened exactly, the others stay", "[train]") {
  for (std::uint32_t bits = 0; bits < num_words; ++bits) {
    const bfloat16 number{static_cast<std::uint16_t>(bits)};
    if (!is_nan(number)) REQUIRE(static_cast<double>(load(number)) == slow_value(number));
  }
  CHECK(is_same(load(-0.1F), -0.1F));
  CHECK(load(0.1) == 0.1);
}

TEST_CASE("store: bf16 is rounded to the nearest, ties to even, the others stay", "[train]") {
  for (const float value : values_to_round()) {
    CAPTURE(value);
    const double low = std::fabs(slow_value(toward_zero(value)) - static_cast<double>(value));
    const double high = std::fabs(slow_value(away_from_zero(value)) - static_cast<double>(value));
    const bool is_even = toward_zero(value).bits % 2 == 0;
    const bool goes_low = low < high || (low == high && is_even);
    CHECK(store<bfloat16>(value) == (goes_low ? toward_zero(value) : away_from_zero(value)));
    CHECK(is_same(store<float>(value), value));
  }
  CHECK(store<bfloat16>(1.01171875F) == bfloat16{0x3F82}); // a tie whose lower neighbour is odd
  CHECK(store<double>(0.1) == 0.1);
}
