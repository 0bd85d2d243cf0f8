// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/core/types.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

/// The finite non-negative numbers of a format in ascending order; the index is the bit pattern.
struct number_table {
  std::vector<double> magnitudes;
  double beyond = 0; ///< the number that would follow if the exponent range went on
  bool saturates = false;
  int sign_bit = 0;
};

/// Bit pattern of the nearest number, ties to the even pattern; `infinity` follows the last finite one.
int nearest_pattern(const number_table& table, double value) {
  const double magnitude = std::fabs(value);
  const int sign = std::signbit(value) ? table.sign_bit : 0;
  const auto& numbers = table.magnitudes;
  const int above = static_cast<int>(std::lower_bound(numbers.begin(), numbers.end(), magnitude) -
                                     numbers.begin()); // first >= magnitude
  const int last = static_cast<int>(numbers.size()) - 1;
  if (above == 0) return sign;
  const double high = above > last ? table.beyond : numbers[static_cast<std::size_t>(above)];
  const double low = numbers[static_cast<std::size_t>(above - 1)];
  const double to_low = magnitude - low;
  const double to_high = high - magnitude;
  const bool is_up = to_high < to_low || (to_high == to_low && above % 2 == 0);
  const int nearest = is_up ? above : above - 1;
  return sign | (table.saturates ? std::min(nearest, last) : nearest);
}

template <class Number>
number_table make_table(int count, double beyond, bool saturates, int sign_bit) {
  number_table table{{}, beyond, saturates, sign_bit};
  for (int bits = 0; bits < count; ++bits) {
    table.magnitudes.push_back(slow_value(Number{static_cast<decltype(Number::bits)>(bits)}));
  }
  return table;
}

/// Values where narrowing is most likely to go wrong, both signs: every number, every midpoint of neighbours
/// and their neighbours in float, powers of two, random bit patterns.
template <class Visit>
void for_each_hard_value(const number_table& table, Visit&& visit) {
  const auto visit_both = [&](float value) {
    visit(value);
    visit(-value);
  };
  const float infinity = std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < table.magnitudes.size(); ++i) {
    const double low = table.magnitudes[i];
    const double high = i + 1 < table.magnitudes.size() ? table.magnitudes[i + 1] : table.beyond;
    for (const double exact : {low, 0.5 * (low + high)}) {
      const auto value = static_cast<float>(exact);
      visit_both(value);
      visit_both(std::nextafter(value, 0.0F));
      if (value < std::numeric_limits<float>::max()) visit_both(std::nextafter(value, infinity));
    }
  }
  for (int exponent = -149; exponent <= 127; ++exponent) visit_both(std::ldexp(1.0F, exponent));
  visit_both(std::numeric_limits<float>::max());
  visit_both(infinity);
  random_source random(1);
  for (int i = 0; i < 200000; ++i) visit(random.any_finite_float());
  for (int i = 0; i < 200000; ++i) { // the range of the small formats
    visit(static_cast<float>(std::ldexp(random.between(-2, 2), static_cast<int>(random.below(48)) - 30)));
  }
}

template <class Number>
index_t count_wrong(const number_table& table, const std::function<Number(float)>& narrow) {
  index_t wrong = 0;
  for_each_hard_value(table, [&](float value) {
    const int expected = nearest_pattern(table, static_cast<double>(value));
    if (narrow(value).bits != expected) {
      if (wrong++ == 0) UNSCOPED_INFO(value << " gives " << int(narrow(value).bits) << ", not " << expected);
    }
  });
  return wrong;
}

const float nan_value = std::numeric_limits<float>::quiet_NaN();

} // namespace

TEST_CASE("float16: widening reads sign, exponent and mantissa of all 65536 numbers", "[core]") {
  for (int bits = 0; bits < 65536; ++bits) {
    const float16 number{static_cast<std::uint16_t>(bits)};
    const double expected = slow_value(number);
    const auto wide = static_cast<double>(to_float(number));
    const bool is_right =
        std::isnan(expected) ? std::isnan(wide) : wide == expected && std::signbit(wide) == (bits >= 32768);
    if (!is_right) FAIL("bits " << bits << " give " << wide << ", not " << expected);
  }
  CHECK(to_float(float16{0x3C00}) == 1.0F);
  CHECK(to_float(float16{0x7BFF}) == 65504.0F);
  CHECK(to_float(float16{0x0001}) == 0x1p-24F);
}

TEST_CASE("float16: narrowing a widened number returns its bits", "[core][property]") {
  for (int bits = 0; bits < 65536; ++bits) {
    const float16 number{static_cast<std::uint16_t>(bits)};
    const float16 back = to_float16(to_float(number));
    const bool is_nan = (bits & 0x7FFF) > 0x7C00;
    const bool is_right =
        is_nan ? std::isnan(to_float(back)) && (back.bits >> 15) == (bits >> 15) : back == number;
    if (!is_right) FAIL("bits " << bits << " become " << back.bits);
  }
}

TEST_CASE("float16: narrowing takes the nearest number and the even one of two", "[core][property]") {
  // 65536 stands for infinity: from 65520 on values round to it.
  const number_table table = make_table<float16>(0x7C00, 65536.0, false, 0x8000);
  CHECK(count_wrong<float16>(table, [](float value) { return to_float16(value); }) == 0);
  CHECK(to_float16(65519.996F).bits == 0x7BFF);
  CHECK(to_float16(65520.0F).bits == 0x7C00);
}

TEST_CASE("bfloat16: widening and narrowing agree with a search of all numbers", "[core][property]") {
  for (int bits = 0; bits < 65536; ++bits) {
    const bfloat16 number{static_cast<std::uint16_t>(bits)};
    const double expected = slow_value(number);
    const float wide = to_float(number);
    const bool is_right = std::isnan(expected)
                              ? std::isnan(wide) && std::isnan(to_float(to_bfloat16(wide)))
                              : static_cast<double>(wide) == expected && to_bfloat16(wide) == number;
    if (!is_right) FAIL("bits " << bits << " give " << wide << ", not " << expected);
  }
  const number_table table = make_table<bfloat16>(0x7F80, 0x1p128, false, 0x8000);
  CHECK(count_wrong<bfloat16>(table, [](float value) { return to_bfloat16(value); }) == 0);
}

TEST_CASE("float8_e4m3: widening and narrowing agree with a search of all numbers", "[core][property]") {
  for (int bits = 0; bits < 256; ++bits) {
    const float8_e4m3 number{static_cast<std::uint8_t>(bits)};
    const double expected = slow_value(number);
    const float wide = to_float(number);
    const bool is_right = std::isnan(expected)
                              ? std::isnan(wide) && std::isnan(to_float(to_float8_e4m3(wide)))
                              : static_cast<double>(wide) == expected && to_float8_e4m3(wide) == number;
    if (!is_right) FAIL("bits " << bits << " give " << wide << ", not " << expected);
  }
  const number_table table = make_table<float8_e4m3>(0x7F, 480.0, true, 0x80);
  CHECK(table.magnitudes.back() == 448.0);
  CHECK(count_wrong<float8_e4m3>(table, [](float value) { return to_float8_e4m3(value); }) == 0);
}

TEST_CASE("float8_e8m0: widening gives all powers of two and narrowing clamps the exponent", "[core]") {
  for (int bits = 0; bits < 255; ++bits) {
    const float8_e8m0 number{static_cast<std::uint8_t>(bits)};
    CHECK(static_cast<double>(to_float(number)) == slow_value(number));
    CHECK(to_float8_e8m0(bits - 127) == number);
  }
  CHECK(std::isnan(to_float(float8_e8m0{255})));
  CHECK(to_float8_e8m0(-1000).bits == 0);
  CHECK(to_float8_e8m0(1000).bits == 254);
}

TEST_CASE("small floats: NaN stays NaN when narrowed", "[core]") {
  for (const float value : {nan_value, -nan_value, std::bit_cast<float>(0x7F800001U),
                            std::bit_cast<float>(0xFFFFFFFFU), std::bit_cast<float>(0x7FFFE000U)}) {
    CHECK(std::isnan(slow_value(to_float16(value))));
    CHECK(std::isnan(slow_value(to_bfloat16(value))));
    CHECK(std::isnan(slow_value(to_float8_e4m3(value))));
  }
}

TEST_CASE("floor_log2, ceil_log2: agree with frexp for every kind of positive number", "[core][property]") {
  const auto check = [](float value) {
    int exponent = 0;
    const double fraction = std::frexp(static_cast<double>(value), &exponent); // in [0.5, 1)
    const int floor = exponent - 1;
    const int ceil = fraction == 0.5 ? exponent - 1 : exponent;
    if (floor_log2(value) != floor || ceil_log2(value) != ceil) {
      FAIL(value << " gives " << floor_log2(value) << ", " << ceil_log2(value) << ", not " << floor << ", "
                 << ceil);
    }
  };
  for (int exponent = -149; exponent <= 127; ++exponent) {
    const float power = std::ldexp(1.0F, exponent);
    check(power);
    check(std::nextafter(power, std::numeric_limits<float>::max()));
    if (exponent > -149) check(std::nextafter(power, 0.0F));
  }
  check(std::numeric_limits<float>::max());
  random_source random(2);
  for (int i = 0; i < 300000; ++i) {
    const float value = std::fabs(random.any_finite_float());
    if (value > 0) check(value);
  }
  for (std::uint32_t word = 1; word < 0x00800000U; word += 97) check(std::bit_cast<float>(word)); // subnormal
}

TEST_CASE("round_half_even: agrees with nearbyint below 2^22", "[core][property]") {
  REQUIRE(std::fegetround() == FE_TONEAREST);
  const auto check = [](float value) {
    if (round_half_even(value) != static_cast<int>(std::nearbyint(value))) {
      FAIL(value << " gives " << round_half_even(value));
    }
  };
  for (int twice = -20001; twice <= 20001; ++twice) { // integers and ties, with their neighbours
    const float value = 0.5F * static_cast<float>(twice);
    check(value);
    check(std::nextafter(value, 1e9F));
    check(std::nextafter(value, -1e9F));
  }
  random_source random(3);
  for (int i = 0; i < 300000; ++i) {
    check(static_cast<float>(random.between(-4194303.5, 4194303.5)));
    check(static_cast<float>(random.between(-300, 300)));
  }
  check(4194303.75F);
  check(-4194303.75F);
}

TEST_CASE("is_finite: is false for NaN and infinities only", "[core]") {
  random_source random(4);
  for (int i = 0; i < 100000; ++i) {
    const float single = random.any_float();
    const auto wide = std::bit_cast<double>(random.word());
    if (is_finite(single) != std::isfinite(single)) FAIL(single);
    if (is_finite(wide) != std::isfinite(wide)) FAIL(wide);
  }
  for (const float value : {0.0F, -0.0F, 1e-45F, std::numeric_limits<float>::max()}) {
    CHECK(is_finite(value));
    CHECK(is_finite(static_cast<double>(value)));
  }
  for (const float value : {nan_value, -nan_value, HUGE_VALF, -HUGE_VALF}) {
    CHECK_FALSE(is_finite(value));
    CHECK_FALSE(is_finite(static_cast<double>(value)));
  }
  CHECK(is_finite(std::numeric_limits<double>::max()));
}

TEST_CASE("scalar conversions: can be evaluated by the compiler", "[core]") {
  STATIC_REQUIRE(to_float(to_float16(1.5F)) == 1.5F);
  STATIC_REQUIRE(to_float(to_bfloat16(-3.0F)) == -3.0F);
  STATIC_REQUIRE(to_float(to_float8_e4m3(1000.0F)) == 448.0F);
  STATIC_REQUIRE(round_half_even(2.5F) == 2);
  STATIC_REQUIRE(floor_log2(0.75F) == -1);
  STATIC_REQUIRE(ceil_log2(0.75F) == 0);
}
