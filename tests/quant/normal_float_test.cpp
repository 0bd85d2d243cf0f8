// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/normal_float.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <qlr/quant/codebook_grid.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr normal_float_construction all_constructions[] = {normal_float_construction::bitsandbytes,
                                                           normal_float_construction::loftq,
                                                           normal_float_construction::lq_lora};

/// algorithms.md, section 3.1: the formula in double precision.
const std::vector<std::vector<double>> published_levels{
    {-1, 0, 0.3379151935, 1},
    {-1, -0.4786291601, -0.2171418178, 0, 0.1609301727, 0.3379151935, 0.5626169701, 1},
    {-1, -0.6961928906, -0.5250730387, -0.3949174907, -0.2844413576, -0.1847734352, -0.0910499921, 0,
     0.0795803291, 0.1609301727, 0.2461122939, 0.3379151935, 0.4407098024, 0.5626169701, 0.7229567279, 1}};

} // namespace

TEST_CASE("normal_quantile: agrees with 25-digit values", "[quant]") {
  // Computed with mpmath at 60 digits for the double nearest to each probability.
  const std::pair<double, double> known[] = {
      {1e-300, -37.04709629936119923654704},     {1e-100, -21.27345356096532429417952},
      {1e-20, -9.262340089798407579572095},      {1e-10, -6.361340902404056199100397},
      {1e-5, -4.264890793922824610233749},       {0.001, -3.090232306167813535358005},
      {0.01, -2.326347874040841093075096},       {0.02425, -1.972961051311884837602748},
      {0.025, -1.959963984540054211779584},      {0.1, -1.281551565544600435334517},
      {0.25, -0.674489750196081743202227},       {0.4, -0.2533471031357997413246887},
      {0.45, -0.1256613468550740061604284},      {0.499, -0.002506630899571766231698791},
      {0.49999, -2.506628274896000852684996e-5}, {0.4999999999, -2.506628482030353902220789e-10}};
  for (const auto& [probability, quantile] : known) {
    CAPTURE(probability);
    // Relative 1e-15 in the tail; near the middle erfc is 1 to within a unit, so the error is absolute.
    const double tolerance = std::max(1e-15 * std::fabs(quantile), 3e-16);
    CHECK(is_near(normal_quantile(probability), quantile, tolerance));
  }
  CHECK(is_near(normal_quantile(0.9677083), 1.84813095975737336928808, 2e-15));
  CHECK(normal_quantile(0.5) == 0.0);
}

TEST_CASE("normal_quantile: is odd about one half and ascending", "[quant][property]") {
  random_source random(8);
  for (int i = 0; i < 2000; ++i) {
    const double p = std::ldexp(1.0 + static_cast<double>(random.below(1 << 20)), -21); // 1 - p is exact
    if (p < 1.0 && normal_quantile(p) != -normal_quantile(1.0 - p)) FAIL(p);
  }
  double last = -std::numeric_limits<double>::infinity();
  for (int i = 1; i < 4096; ++i) {
    const double z = normal_quantile(i / 4096.0);
    if (!(z > last)) FAIL(i);
    last = z;
  }
}

TEST_CASE("normal_float_levels: agree with the published values", "[quant]") {
  for (int bits = 2; bits <= 4; ++bits) {
    const std::vector<double>& expected = published_levels[static_cast<std::size_t>(bits - 2)];
    for (const normal_float_construction made : all_constructions) {
      CAPTURE(bits, static_cast<int>(made));
      const std::vector<float> levels = normal_float_levels(bits, made);
      REQUIRE(levels.size() == expected.size());
      // The constructions agree to 1.2e-7 (two units in the last place of 1); LoftQ's is the formula,
      // rounded.
      for (std::size_t i = 0; i < levels.size(); ++i) {
        CHECK(is_near(static_cast<double>(levels[i]), expected[i], 1.2e-7));
      }
    }
  }
  for (const normal_float_construction made : all_constructions) {
    const std::vector<float> levels = normal_float_levels(8, made);
    REQUIRE(levels.size() == 256);
    const std::pair<std::size_t, double> expected[] = {
        {0, -1},       {1, -0.9736547},  {2, -0.9494339}, {126, -0.0049949911}, {127, 0}, {128, 0.0049559666},
        {253, 0.9498}, {254, 0.9738518}, {255, 1}};
    for (const auto& [code, level] : expected) {
      CAPTURE(code, static_cast<int>(made));
      // Half a unit of the published digits, and what single precision loses: probabilities are rounded to
      // 3e-8, which the quantile's slope at 0.96 turns into 2e-7; LQ-LoRA's erfinv is up to 6 units in the
      // last place off.
      const double published = code == 253 ? 5e-5 : 5e-8;
      const double difference = made == normal_float_construction::lq_lora ? 3.6e-7 : 2.4e-7;
      CHECK(is_near(static_cast<double>(levels[code]), level, published + difference));
    }
  }
}

TEST_CASE("normal_float_levels: are ascending from -1 to 1 with an exact zero", "[quant][property]") {
  for (const int bits : {2, 3, 4, 8}) {
    for (const normal_float_construction made : all_constructions) {
      const std::vector<float> levels = normal_float_levels(bits, made);
      CAPTURE(bits, static_cast<int>(made));
      REQUIRE(levels.size() == std::size_t{1} << bits);
      CHECK(std::adjacent_find(levels.begin(), levels.end(), [](float a, float b) { return a >= b; }) ==
            levels.end());
      CHECK(levels[(std::size_t{1} << (bits - 1)) - 1] == 0.0F); // one negative level less than positive ones
      if (made == normal_float_construction::lq_lora) {
        CHECK(is_near(static_cast<double>(levels.back()), 1.0, 1.2e-7));
        CHECK(levels.front() == -levels.back());
      } else {
        CHECK(levels.front() == -1.0F);
        CHECK(levels.back() == 1.0F);
      }
    }
  }
}

TEST_CASE("normal_float_levels: NF4 is the table of bitsandbytes with its thresholds", "[quant]") {
  const std::vector<float> levels = normal_float_levels(4);
  CHECK(std::equal(levels.begin(), levels.end(), nf4_bitsandbytes_levels.begin(),
                   nf4_bitsandbytes_levels.end()));
  CHECK(levels[1] == -0.6961928009986877F);
  CHECK(levels[14] == 0.7229568362236023F);
  const float thresholds[] = {-0.8480964004993439F,   -0.6106329262256622F,  -0.4599952697753906F,
                              -0.33967943489551544F,  -0.23460740596055984F, -0.13791173323988914F,
                              -0.045525018125772476F, 0.03979014977812767F,  0.1202552504837513F,
                              0.2035212516784668F,    0.2920137718319893F,   0.3893125355243683F,
                              0.5016634166240692F,    0.6427869200706482F,   0.8614784181118011F};
  const codebook_grid<4> grid(levels);
  for (std::size_t i = 0; i < 15; ++i) {
    CAPTURE(i);
    const auto middle =
        static_cast<float>(0.5 * (static_cast<double>(levels[i]) + static_cast<double>(levels[i + 1])));
    CHECK(grid.encode(middle) == i); // a threshold belongs to the lower code
    CHECK(grid.encode(std::nextafter(middle, 2.0F)) == i + 1);
    // Four midpoints lie half-way between two floats; there the printed decimals are on the other side of the
    // tie than round to even, hence one unit in the last place.
    CHECK((middle == thresholds[i] || middle == std::nextafter(thresholds[i], 2.0F) ||
           middle == std::nextafter(thresholds[i], -2.0F)));
  }
}

TEST_CASE("normal_float_levels: NF2 and NF3 have the published thresholds", "[quant]") {
  const codebook_grid<2> nf2(normal_float_levels(2));
  const codebook_grid<3> nf3(normal_float_levels(3));
  const auto check = [](const auto& grid, const std::vector<double>& thresholds) {
    for (std::size_t i = 0; i < thresholds.size(); ++i) {
      CAPTURE(i);
      CHECK(grid.encode(static_cast<float>(thresholds[i] - 1e-6)) == i);
      CHECK(grid.encode(static_cast<float>(thresholds[i] + 1e-6)) == i + 1);
    }
  };
  check(nf2, {-0.5, 0.1689575968, 0.6689575968});
  check(nf3, {-0.7393145801, -0.3478854890, -0.1085709089, 0.0804650864, 0.2494226831, 0.4502660818,
              0.7813084850});
}

TEST_CASE("normal_float_levels: other widths are refused", "[quant]") {
  for (const int bits : {-1, 0, 1, 5, 6, 7, 9}) {
    for (const normal_float_construction made : all_constructions) {
      CHECK(report_of([&] { (void)normal_float_levels(bits, made); })
                .says(status_code::invalid_argument,
                      sentence("bits is ", bits, ", normal-float codebooks exist for 2, 3, 4 and 8")));
    }
  }
}
