// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/codebook_grid.hpp>
#include <qlr/quant/minifloat_grid.hpp>
#include <qlr/quant/normal_float.hpp>
#include <qlr/quant/uniform_grid.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

/// Calls visit(name, grid, unused codes) for one grid of every kind that the library ships.
template <class Visit>
void for_each_grid(Visit&& visit) {
  using unused = std::set<int>;
  for (int bits = 1; bits <= 8; ++bits) {
    const std::string width = std::to_string(bits);
    visit("signed" + width, signed_grid(bits), unused{});
    visit("signed half up" + width, signed_grid<tie_rule::half_up>(bits), unused{});
    visit("unsigned" + width, unsigned_grid(bits), unused{});
    if (bits >= 2) visit("symmetric" + width, symmetric_grid<tie_rule::half_away>(bits), unused{0});
    if (bits >= 2) visit("mantissa" + width, mantissa_grid(bits), unused{0});
  }
  using construction = normal_float_construction;
  for (const construction made : {construction::bitsandbytes, construction::loftq, construction::lq_lora}) {
    visit("nf2", codebook_grid<2>(normal_float_levels(2, made)), unused{});
    visit("nf3", codebook_grid<3>(normal_float_levels(3, made)), unused{});
    visit("nf4", codebook_grid<4>(normal_float_levels(4, made)), unused{});
    visit("nf8", codebook_grid<8>(normal_float_levels(8, made)), unused{});
  }
  visit("iq4_nl", codebook_grid<4>(iq4_nl_levels, midpoint_rule::upper), unused{});
  visit("sign", codebook_grid<1>(sign_levels, midpoint_rule::upper), unused{});
  visit("five levels", codebook_grid<3>(std::array<float, 5>{-2, -0.5F, 0, 1, 4}), unused{5, 6, 7});
  visit("e2m1", e2m1_grid{}, unused{8});
}

template <class Grid>
std::vector<double> used_levels(const Grid& grid, const std::set<int>& unused) {
  std::vector<double> levels;
  for (int code = 0; code < (1 << grid.bits()); ++code) {
    if (!unused.contains(code)) levels.push_back(static_cast<double>(grid.decode(static_cast<code_t>(code))));
  }
  std::sort(levels.begin(), levels.end());
  return levels;
}

template <class Grid>
float quantized(const Grid& grid, float value) {
  return grid.decode(grid.encode(value));
}

} // namespace

TEST_CASE("grids: decoding then encoding returns the code", "[quant][property]") {
  for_each_grid([](const std::string& name, const auto& grid, const std::set<int>& unused) {
    CAPTURE(name);
    for (int code = 0; code < grid.num_codes(); ++code) {
      if (unused.contains(code)) continue;
      CHECK(int(grid.encode(grid.decode(static_cast<code_t>(code)))) == code);
    }
  });
}

TEST_CASE("grids: unused codes decode to a number and are never produced", "[quant]") {
  CHECK(e2m1_grid::decode(8) == 0.0F);
  CHECK(e2m1_grid::encode(-0.0F) == 0);
  CHECK(e2m1_grid::encode(-0.25F) == 0);
  for (int bits = 2; bits <= 8; ++bits) {
    const int half = 1 << (bits - 1);
    CHECK(mantissa_grid(bits).decode(0) == static_cast<float>(-half));
    CHECK(mantissa_grid(bits).encode(static_cast<float>(-half)) == 1); // saturates at 1 - half
  }
  const codebook_grid<3> five(std::array<float, 5>{-2, -0.5F, 0, 1, 4});
  CHECK(five.num_codes() == 5);
  for (code_t code = 5; code < 8; ++code) CHECK(five.decode(code) == 4.0F);
  for_each_grid([](const std::string& name, const auto& grid, const std::set<int>& unused) {
    CAPTURE(name);
    random_source random(5);
    int num_wrong = 0;
    for (int i = 0; i < 3000; ++i) {
      const int code =
          grid.encode(i % 2 == 0 ? random.any_finite_float() : static_cast<float>(random.between(-9, 9)));
      if (unused.contains(code) || code >= grid.num_codes()) ++num_wrong;
    }
    CHECK(num_wrong == 0);
  });
}

TEST_CASE("grids: encoding finds the nearest level", "[quant][property]") {
  for_each_grid([](const std::string& name, const auto& grid, const std::set<int>& unused) {
    CAPTURE(name);
    const std::vector<double> levels = used_levels(grid, unused);
    std::vector<float> values;
    for (std::size_t i = 0; i + 1 < levels.size(); ++i) { // around every threshold
      const auto middle = static_cast<float>(0.5 * (levels[i] + levels[i + 1]));
      for (const float value : {std::nextafter(middle, -1e9F), middle, std::nextafter(middle, 1e9F)}) {
        values.push_back(value);
      }
    }
    const double width = levels.back() - levels.front();
    random_source random(6);
    for (int i = 0; i < 5000; ++i) {
      values.push_back(
          static_cast<float>(random.between(levels.front() - 0.2 * width, levels.back() + 0.2 * width)));
    }
    int num_wrong = 0;
    for (const float value : values) {
      const auto x = static_cast<double>(value);
      double least = std::numeric_limits<double>::infinity();
      for (const double level : levels) least = std::min(least, std::fabs(level - x));
      const double distance = std::fabs(static_cast<double>(quantized(grid, value)) - x);
      // Thresholds are floats: an NF midpoint that is none is rounded by up to half a unit, which changes the
      // two distances by a unit together. With half_up the sum x + 2^(b-1) + 0.5 is rounded, as in ggml.
      // Midpoints of integer and E2M1 levels are floats, there the level must be the nearest exactly.
      double tolerance = 0;
      if (name.starts_with("nf")) tolerance = 0x1p-23 * std::fabs(x);
      if (name.starts_with("signed half up")) tolerance = std::ldexp(1.0, grid.bits() - 23);
      if (distance > least + tolerance && num_wrong++ == 0) {
        UNSCOPED_INFO(x << " is " << distance << " away from its level, another is at " << least);
      }
    }
    CHECK(num_wrong == 0);
  });
}

TEST_CASE("grids: values beyond the ends saturate", "[quant]") {
  for_each_grid([](const std::string& name, const auto& grid, const std::set<int>& unused) {
    CAPTURE(name);
    const std::vector<double> levels = used_levels(grid, unused);
    for (const float huge : {1e4F, 1e30F, std::numeric_limits<float>::max()}) {
      CHECK(static_cast<double>(quantized(grid, huge)) == levels.back());
      CHECK(static_cast<double>(quantized(grid, -huge)) == levels.front());
    }
    CHECK(static_cast<double>(grid.lowest_level()) == levels.front());
    // Integers: both signs reach absmax_level (0 for a signed bit). Codebooks: the farther end.
    const bool is_codebook = name == "iq4_nl" || name == "five levels";
    const double low = std::fabs(levels.front());
    const double high = levels.back();
    const bool takes_larger = is_codebook || levels.front() == 0;
    CHECK(static_cast<double>(grid.absmax_level()) ==
          (takes_larger ? std::max(low, high) : std::min(low, high)));
    CHECK(grid.num_codes() <= 1 << grid.bits());
  });
}

TEST_CASE("uniform_grid: a tie goes to the even integer", "[quant]") {
  for (int bits = 2; bits <= 8; ++bits) {
    const auto grid = signed_grid(bits);
    const int half = 1 << (bits - 1);
    for (int low = -half; low < half - 1; ++low) {
      const float middle = static_cast<float>(low) + 0.5F;
      CHECK(quantized(grid, middle) == static_cast<float>(low % 2 == 0 ? low : low + 1));
    }
  }
}

TEST_CASE("uniform_grid: with half_away eight bits encode as C's round", "[quant]") {
  const auto grid = symmetric_grid<tie_rule::half_away>(8);
  for (int twice = -254; twice <= 254; ++twice) {
    const float tie = 0.5F * static_cast<float>(twice);
    for (const float value : {tie, std::nextafter(tie, 0.0F), std::nextafter(tie, 500.0F)}) {
      CHECK(quantized(grid, value) == std::clamp(std::round(value), -127.0F, 127.0F));
    }
  }
}

TEST_CASE("uniform_grid: with half_up a tie goes to the larger integer", "[quant]") {
  for (int bits = 2; bits <= 8; ++bits) {
    const auto grid = signed_grid<tie_rule::half_up>(bits);
    const int half = 1 << (bits - 1);
    for (int low = -half; low < half - 1; ++low) {
      CHECK(quantized(grid, static_cast<float>(low) + 0.5F) == static_cast<float>(low + 1));
    }
  }
}

TEST_CASE("uniform_grid: with half_up four bits encode as ggml's min(15, trunc(v + 8.5))",
          "[quant][property]") {
  const auto grid = signed_grid<tie_rule::half_up>(4);
  const auto ggml = [](float value) { return std::min(15, static_cast<int>(value + 8.5F)); };
  int num_wrong = 0;
  const auto check = [&](float value) {
    if (value >= -8.0F && value <= 8.0F && grid.encode(value) != ggml(value)) ++num_wrong;
  };
  for (int twice = -16; twice <= 16; ++twice) {
    float up = 0.5F * static_cast<float>(twice);
    float down = up;
    for (int step = 0; step < 1000; ++step) {
      check(up);
      check(down);
      up = std::nextafter(up, 100.0F);
      down = std::nextafter(down, -100.0F);
    }
  }
  random_source random(7);
  for (int i = 0; i < 200000; ++i) check(static_cast<float>(random.between(-8, 8)));
  CHECK(num_wrong == 0);
}

TEST_CASE("codebook_grid: a midpoint goes where the rule says", "[quant]") {
  const std::array<float, 4> levels{-3, -1, 0, 4};
  const codebook_grid<2> lower(levels);
  const codebook_grid<2> upper(levels, midpoint_rule::upper);
  const float middles[] = {-2, -0.5F, 2};
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(quantized(lower, middles[i]) == levels[i]);
    CHECK(quantized(upper, middles[i]) == levels[i + 1]);
    CHECK(quantized(lower, std::nextafter(middles[i], 9.0F)) == levels[i + 1]);
    CHECK(quantized(upper, std::nextafter(middles[i], -9.0F)) == levels[i]);
  }
}

TEST_CASE("codebook_grid: the sign of zero is plus", "[quant]") {
  const codebook_grid<1> sign(sign_levels, midpoint_rule::upper);
  for (const float value : {0.0F, -0.0F, 1e-45F, 3.0F}) CHECK(quantized(sign, value) == 1.0F);
  for (const float value : {-1e-45F, -1e-30F, -3.0F}) CHECK(quantized(sign, value) == -1.0F);
}

TEST_CASE("codebook_grid: levels one unit in the last place apart stay apart", "[quant]") {
  for (const float start : {1.0F, 1.0000001F, -1.0000001F, -1.0F, 0.0F, 1e-45F, 3e-45F, -1e-45F}) {
    for (const midpoint_rule ties : {midpoint_rule::lower, midpoint_rule::upper}) {
      CAPTURE(start, static_cast<int>(ties));
      const std::array<float, 2> pair{start, std::nextafter(start, 9.0F)};
      const codebook_grid<1> grid(pair, ties);
      CHECK(grid.encode(pair[0]) == 0);
      CHECK(grid.encode(pair[1]) == 1);
    }
  }
}

TEST_CASE("codebook_grid: levels must be 2 to 2^bits ascending finite numbers", "[quant]") {
  const auto make = [](const std::vector<float>& levels) {
    return report_of([&] { codebook_grid<2> unused(levels); });
  };
  CHECK(make({}).says(status_code::invalid_argument, "levels has 0 entries, a 2-bit codebook needs 2 to 4"));
  CHECK(make({1}).says(status_code::invalid_argument, "levels has 1 entries"));
  CHECK(make({1, 2, 3, 4, 5}).says(status_code::invalid_argument, "levels has 5 entries"));
  CHECK(make({1, 1}).says(status_code::invalid_argument, "levels[1] is 1"));
  CHECK(make({0, 2, 1}).says(status_code::invalid_argument, "levels[2] is 1, levels must be finite and"));
  CHECK(make({0, std::numeric_limits<float>::quiet_NaN()}).says(status_code::invalid_argument, "levels[1]"));
  CHECK(make({-std::numeric_limits<float>::infinity(), 0}).says(status_code::invalid_argument, "levels[0]"));
  CHECK(make({-1, 1}).message.empty());
  CHECK(make({1, 2, 3}).message.empty());
  constexpr codebook_grid<2> by_compiler(std::array<float, 3>{-1, 0, 1});
  STATIC_REQUIRE(by_compiler.encode(0.75F) == 2);
  STATIC_REQUIRE(by_compiler.decode(0) == -1.0F);
}

TEST_CASE("e2m1_grid: levels and ties are those of OCP E2M1", "[quant]") {
  const float levels[] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
  for (int code = 0; code < 8; ++code) {
    CHECK(e2m1_grid::decode(static_cast<code_t>(code)) == levels[code]);
    CHECK(e2m1_grid::decode(static_cast<code_t>(code + 8)) == -levels[code]);
  }
  const float ties[][2] = {{0.25F, 0}, {0.75F, 1}, {1.25F, 1}, {1.75F, 2}, {2.5F, 2}, {3.5F, 4}, {5, 4}};
  for (const auto& [value, level] : ties) {
    CHECK(quantized(e2m1_grid{}, value) == level);
    CHECK(quantized(e2m1_grid{}, -value) == -level);
  }
}
