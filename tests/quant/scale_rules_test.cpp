// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/scale_rules.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <qlr/quant/codebook_grid.hpp>
#include <qlr/quant/minifloat_grid.hpp>
#include <qlr/quant/uniform_grid.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float max_float = std::numeric_limits<float>::max();
constexpr float tiny = std::numeric_limits<float>::denorm_min();

matrix_view<const float> row_of(const std::vector<float>& values) {
  return {values.data(), 1, static_cast<index_t>(values.size())};
}

template <class Rule, class Grid>
float scale_of(const Rule& rule, const Grid& grid, const std::vector<float>& values) {
  const block_scale found = rule.find(row_of(values), grid);
  CHECK(found.zero == 0.0F);
  return found.scale;
}

} // namespace

TEST_CASE("block_statistics: agree with loops in double precision on any block", "[quant][property]") {
  random_source random(10);
  for (const index_t rows : {1, 2, 5}) {
    for (const index_t cols : {1, 2, 7, 16, 65}) {
      const matrix<float> values = normal_matrix(rows, cols, static_cast<std::uint64_t>(rows + 9 * cols),
                                                 random.uniform() < 0.5 ? 1e-30 : 1e20);
      const placed_matrix<float> placed(values.view(), placement::padded_rows); // NaN between the rows
      const matrix_view<const float> block = placed.view();
      float smallest = values(0, 0);
      float largest = values(0, 0);
      double sum = 0;
      for (index_t i = 0; i < values.size(); ++i) {
        smallest = std::min(smallest, values.data()[i]);
        largest = std::max(largest, values.data()[i]);
        sum += std::fabs(static_cast<double>(values.data()[i]));
      }
      CHECK(largest_magnitude(block) == std::max(-smallest, largest));
      CHECK(smallest_and_largest(block).first == smallest);
      CHECK(smallest_and_largest(block).second == largest);
      CHECK(largest_signed(block) == (-smallest > largest ? smallest : largest));
      const double mean = sum / static_cast<double>(values.size());
      CHECK(is_near(mean_magnitude(block), mean, 1e-13 * mean));
    }
  }
}

TEST_CASE("block_statistics: order numbers of all magnitudes and signs", "[quant]") {
  const std::vector<float> values{0.0F, -tiny, 1e-40F, -0.0F, 3.0F, -max_float, max_float, -1e-39F};
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (std::size_t j = 0; j < values.size(); ++j) {
      const std::vector<float> pair{values[i], values[j]};
      CHECK(smallest_and_largest(row_of(pair)).first == std::min(values[i], values[j]));
      CHECK(smallest_and_largest(row_of(pair)).second == std::max(values[i], values[j]));
      CHECK(largest_magnitude(row_of(pair)) == std::max(std::fabs(values[i]), std::fabs(values[j])));
    }
  }
  CHECK(largest_signed(row_of({1, -2, 2})) == -2.0F); // the first of equals
  CHECK(largest_signed(row_of({1, 2, -2})) == 2.0F);
  CHECK(largest_signed(row_of({-0.0F, 0.0F})) == 0.0F);
}

TEST_CASE("block_statistics: an empty block has magnitude zero", "[quant]") {
  const matrix_view<const float> empty(nullptr, 0, 0);
  CHECK(largest_magnitude(empty) == 0.0F);
  CHECK(largest_signed(empty) == 0.0F);
  CHECK(mean_magnitude(empty) == 0.0);
}

TEST_CASE("absmax_rule: brings the largest magnitude to the grid's reach", "[quant]") {
  CHECK(scale_of(absmax_rule{}, signed_grid(4), {1, -14, 3}) == 2.0F);
  CHECK(scale_of(absmax_rule{}, signed_grid(8), {127, 3}) == 1.0F);
  CHECK(scale_of(absmax_rule{}, e2m1_grid{}, {3, -12}) == 2.0F);
  CHECK(scale_of(absmax_rule{}, codebook_grid<1>(sign_levels), {3, -12}) == 12.0F);
}

TEST_CASE("signed_max_rule: meets the element of largest magnitude exactly", "[quant]") {
  const auto grid = signed_grid<tie_rule::half_up>(4);
  CHECK(scale_of(signed_max_rule{}, grid, {0.9F, -0.3F}) == 0.9F / -8.0F);
  CHECK(scale_of(signed_max_rule{}, grid, {0.3F, -0.8F}) == 0.8F / 8.0F);
  CHECK(scale_of(signed_max_rule{}, grid, {8, -8}) == -1.0F);
}

TEST_CASE("refitted_signed_max_rule: is the weighted least-squares scale of the first codes",
          "[quant][property]") {
  const codebook_grid<4> grid(iq4_nl_levels, midpoint_rule::upper);
  for (int seed = 0; seed < 20; ++seed) {
    const matrix<float> values = normal_matrix(1, 32, static_cast<std::uint64_t>(seed));
    const double start = static_cast<double>(largest_signed(values.view())) / -127.0;
    double cross = 0;
    double energy = 0;
    for (index_t j = 0; j < 32; ++j) {
      const auto x = static_cast<double>(values(0, j));
      double level = 0; // nearest by search, the upper one of two
      for (const float candidate : iq4_nl_levels) {
        const auto c = static_cast<double>(candidate);
        if (std::fabs(c - x / start) <= std::fabs(level - x / start) || candidate == -127) level = c;
      }
      cross += x * x * level * x;
      energy += x * x * level * level;
    }
    const float found = refitted_signed_max_rule{}.find(values.view(), grid).scale;
    CHECK(is_near(static_cast<double>(found), cross / energy, 1e-6 * std::fabs(cross / energy)));
  }
  const std::vector<float> constant(32, 0.37F);
  CHECK(
      is_near(static_cast<double>(scale_of(refitted_signed_max_rule{}, grid, constant)), 0.37 / -127, 1e-9));
}

TEST_CASE("mean_magnitude_rule: is the mean of the magnitudes", "[quant]") {
  const codebook_grid<1> sign(sign_levels, midpoint_rule::upper);
  CHECK(scale_of(mean_magnitude_rule{}, sign, {1, -2, 6}) == 3.0F);
  CHECK(scale_of(mean_magnitude_rule{}, sign, {max_float, max_float}) == max_float); // no overflow of the sum
}

TEST_CASE("shared_exponent_rule: takes floor or ceiling of the exponent of the largest", "[quant]") {
  const shared_exponent_rule<exponent_rounding::floor> floor{2};
  const shared_exponent_rule<exponent_rounding::ceil> ceil{3};
  const auto grid = mantissa_grid(4);
  CHECK(scale_of(floor, grid, {1, -0.3F}) == 0.25F);
  CHECK(scale_of(ceil, grid, {1, -0.3F}) == 0.125F);
  CHECK(scale_of(floor, grid, {-1.3F, 0.1F}) == 0.25F);
  CHECK(scale_of(ceil, grid, {-1.3F, 0.1F}) == 0.25F);
  CHECK(scale_of(floor, grid, {std::nextafter(2.0F, 0.0F)}) == 0.25F);
  CHECK(scale_of(ceil, grid, {std::nextafter(1.0F, 2.0F)}) == 0.25F);
  CHECK(scale_of(floor, grid, {max_float}) == 0x1p125F);
  CHECK(scale_of(ceil, grid, {max_float}) == 0x1p125F);
  CHECK(scale_of(floor, grid, {0x1p-126F}) == 0x1p-127F); // clamped to E8M0's smallest number
  CHECK(scale_of(floor, grid, {1e-40F}) == 0.0F);         // below the normal range counts as zero
}

TEST_CASE("min_max_rule: spans a range that includes zero", "[quant]") {
  const auto found = [](const std::vector<float>& values) {
    return min_max_rule{}.find(row_of(values), unsigned_grid(4));
  };
  const auto is_about = [](block_scale scale, double expected,
                           double zero) { // two quotients, each rounded once
    return is_near(static_cast<double>(scale.scale), expected, 1e-7 * expected) &&
           is_near(static_cast<double>(scale.zero), zero, 1e-6 * zero);
  };
  CHECK(is_about(found({-1, 2}), 0.2, 5));
  CHECK(is_about(found({1, 3}), 0.2, 0));
  CHECK(is_about(found({-3, -1}), 0.2, 15));
  CHECK(found({0, 0}).scale == 0.0F);
  const block_scale widest = found({-max_float, max_float});
  CHECK(is_finite(widest.scale));
  CHECK(is_near(static_cast<double>(widest.zero), 7.5, 1e-5));
}

TEST_CASE("exact_range_rule: meets both ends of the range", "[quant][property]") {
  random_source random(11);
  for (int bits = 2; bits <= 8; ++bits) {
    const auto grid = unsigned_grid(bits);
    for (int i = 0; i < 200; ++i) {
      const std::vector<float> values{static_cast<float>(random.normal()),
                                      static_cast<float>(random.normal()),
                                      static_cast<float>(random.normal())};
      const auto [smallest, largest] = smallest_and_largest(row_of(values));
      const block_scale found = exact_range_rule{}.find(row_of(values), grid);
      const float low = decode_value(grid.decode(0), found);
      const float high = decode_value(grid.decode(static_cast<code_t>(grid.num_codes() - 1)), found);
      // Scale and zero point are rounded once each, and cancel where the range is small against its offset.
      const double unit = 0x1p-22 * std::max(std::fabs(static_cast<double>(smallest)),
                                             std::fabs(static_cast<double>(largest)));
      CHECK(is_near(static_cast<double>(low), static_cast<double>(smallest), unit));
      CHECK(is_near(static_cast<double>(high), static_cast<double>(largest), unit));
    }
  }
}

TEST_CASE("exact_range_rule: a constant block is its offset", "[quant]") {
  for (const float value : {0.37F, -0.37F, 1e30F, -max_float, 1e-40F, 0.0F}) {
    const block_scale found = exact_range_rule{}.find(row_of({value, value}), unsigned_grid(4));
    const scale_normaliser normalise(found.scale);
    const code_t code = encode_value(unsigned_grid(4), normalise, found.zero, value);
    const float back = decode_value(unsigned_grid(4).decode(code), found);
    CHECK(is_near(static_cast<double>(back), static_cast<double>(value), 1e-38)); // exact but for denormals
    if (std::fabs(value) > 1e-37F) CHECK(back == value);
  }
}

TEST_CASE("scale rules: a block of zeros gives scale zero", "[quant]") {
  const std::vector<float> zeros{0.0F, -0.0F, 0.0F};
  const auto check = [&](const auto& rule, const auto& grid) {
    CHECK(rule.find(row_of(zeros), grid).scale == 0.0F);
  };
  check(absmax_rule{}, signed_grid(4));
  check(signed_max_rule{}, signed_grid<tie_rule::half_up>(4));
  check(refitted_signed_max_rule{}, codebook_grid<4>(iq4_nl_levels, midpoint_rule::upper));
  check(mean_magnitude_rule{}, codebook_grid<1>(sign_levels));
  check(shared_exponent_rule<exponent_rounding::floor>{2}, mantissa_grid(4));
  check(shared_exponent_rule<exponent_rounding::ceil>{3}, mantissa_grid(4));
  check(min_max_rule{}, unsigned_grid(4));
  check(exact_range_rule{}, unsigned_grid(4));
}

TEST_CASE("scale_normaliser: divides within two units in the last place by any normal scale",
          "[quant][property]") {
  random_source random(12);
  int num_checked = 0;
  for (int i = 0; i < 100000; ++i) {
    const float scale = random.any_finite_float();
    if (std::fabs(scale) < smallest_normal_float) continue;
    const auto value = static_cast<float>(static_cast<double>(scale) * random.between(-300, 300));
    const double exact = static_cast<double>(value) / static_cast<double>(scale);
    // Values below the normal range have fewer digits, and 2^-64 of them may be lost.
    if (!is_finite(value) || std::fabs(value) < 0x1p-62F) continue;
    ++num_checked;
    if (!is_near(static_cast<double>(scale_normaliser(scale)(value)), exact, 0x1p-22 * std::fabs(exact))) {
      FAIL(value << " / " << scale);
    }
  }
  CHECK(num_checked > 50000);
  CHECK(scale_normaliser(max_float)(max_float) == 1.0F);
  CHECK(scale_normaliser(0x1p126F)(-0x1p127F) == -2.0F);
  CHECK(scale_normaliser(smallest_normal_float)(smallest_normal_float) == 1.0F);
}

TEST_CASE("scale_normaliser: a scale of zero or below the normal range gives zero", "[quant]") {
  for (const float scale : {0.0F, -0.0F, tiny, -tiny, 1e-38F, -1e-38F}) {
    CHECK(scale_normaliser(scale)(1.0F) == 0.0F);
    CHECK(scale_normaliser(scale)(max_float) == 0.0F);
  }
}
