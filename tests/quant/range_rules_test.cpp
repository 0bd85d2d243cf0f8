// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/range_rules.hpp>
#include <qlr/quant/uniform_grid.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

matrix<float> row_of(std::initializer_list<float> values) {
  matrix<float> row(1, static_cast<index_t>(values.size()));
  std::copy(values.begin(), values.end(), row.data());
  return row;
}

/// Squared error of a block at a scale and zero point by the definition, in double.
double slow_block_error(const matrix<float>& x, int bits, double scale, double zero) {
  const double top = std::exp2(bits) - 1;
  double sum = 0;
  for (index_t i = 0; i < x.size(); ++i) {
    const auto value = static_cast<double>(x.data()[i]);
    const double code = scale > 0 ? std::clamp(std::nearbyint(value / scale + zero), 0.0, top) : zero;
    sum += std::pow(value - scale * (code - zero), 2);
  }
  return sum;
}

/// The least error over all zero points and a fine net of scales.
double least_error(const matrix<float>& x, int bits) {
  double largest = 0;
  for (index_t i = 0; i < x.size(); ++i)
    largest = std::max(largest, std::fabs(static_cast<double>(x.data()[i])));
  double least = slow_block_error(x, bits, 0, 0);
  for (int zero = 0; zero < 1 << bits; ++zero) {
    for (int step = 1; step <= 400; ++step)
      least = std::min(least, slow_block_error(x, bits, 2 * largest * step / 400, zero));
  }
  return least;
}

} // namespace

TEST_CASE("tight_range_rule: takes the range as it is, never less than 1e-5", "[quant]") {
  const uniform_grid<> grid = unsigned_grid(2);
  const block_scale usual = tight_range_rule{}.find(row_of({-1, 0.5F, 2}).view(), grid);
  CHECK(usual.scale == 1.0F);
  CHECK(usual.zero == 1.0F);
  CHECK(tight_range_rule{}.find(row_of({3, 3, 6}).view(), grid).scale == 1.0F); // zero point -3, no code
  CHECK(tight_range_rule{}.find(row_of({2, 2}).view(), grid).scale == 1e-5F / 3);
  CHECK(tight_range_rule{}.find(row_of({0, 0}).view(), grid).scale == 0.0F);
}

TEST_CASE("padded_mean_rule: dilutes the mean of a short group only", "[quant]") {
  const uniform_grid<> grid = unsigned_grid(1);
  const matrix<float> x = row_of({-1, 2, 3});
  CHECK(padded_mean_rule{4}.find(x.view(), grid).scale == 1.5F);
  CHECK(padded_mean_rule{3}.find(x.view(), grid).scale == 2.0F);
  CHECK(padded_mean_rule{0}.find(x.view(), grid).scale == 2.0F);
}

TEST_CASE("searched_range_rule: is near the least error that any scale and zero point reach", "[quant]") {
  for (const int bits : {2, 3, 4}) {
    double found = 0;
    double least = 0;
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
      matrix<float> x = normal_matrix(1, 37, seed);
      for (index_t j = 0; j < x.size() && seed % 3 == 0; ++j) x.data()[j] += 1.5F; // mostly one sign
      const block_scale scale = searched_range_rule{scale_type::fp32}.find(x.view(), unsigned_grid(bits));
      const double error =
          slow_block_error(x, bits, static_cast<double>(scale.scale), static_cast<double>(scale.zero));
      const block_scale plain = min_max_rule{}.find(x.view(), unsigned_grid(bits));
      CHECK(error <= 1.0001 * slow_block_error(x, bits, static_cast<double>(plain.scale),
                                               std::nearbyint(static_cast<double>(plain.zero))));
      found += error;
      least += least_error(x, bits);
    }
    // The alternation ends in a local minimum now and then.
    CHECK(found <= 1.03 * least);
  }
}

TEST_CASE("searched_range_rule: blocks of one sign, constants, zeros and denormals", "[quant]") {
  for (const scale_type type : {scale_type::fp32, scale_type::fp16, scale_type::bf16}) {
    const searched_range_rule rule{type};
    const uniform_grid<> grid = unsigned_grid(2);
    CHECK(rule.find(row_of({0, 0, 0}).view(), grid).scale == 0.0F);
    CHECK(rule.find(row_of({1e-40F, -1e-40F}).view(), grid).scale == 0.0F);
    CHECK(rule.find(row_of({}).view(), grid).scale == 0.0F);
    for (const float value : {1.0F, -4.0F}) {
      const matrix<float> constant = row_of({value, value, value});
      const block_scale scale = rule.find(constant.view(), grid);
      CHECK(slow_block_error(constant, 2, static_cast<double>(scale.scale), static_cast<double>(scale.zero)) <
            1e-4);
    }
    const block_scale scale = rule.find(row_of({0.1F, -0.7F, 0.33F, 1.9F}).view(), grid);
    CHECK(round_to(type, scale.scale) == scale.scale);
    CHECK(scale.zero == std::floor(scale.zero));
  }
}
