// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/scale_search.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <qlr/quant/formats.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

std::vector<float> random_weights(index_t count, std::uint64_t seed) {
  random_source random(seed);
  std::vector<float> weights;
  for (index_t i = 0; i < count; ++i) weights.push_back(static_cast<float>(std::exp(2 * random.normal())));
  return weights;
}

/// Weighted squared error of a block at one scale, evaluated in double precision on the library's codes.
template <class Grid>
double slow_error(const Grid& grid, const matrix<float>& block, const std::vector<float>& weights,
                  block_scale scale) {
  matrix<float> decoded(block.rows(), block.cols());
  const scale_normaliser normalise(scale.scale);
  for (index_t i = 0; i < block.size(); ++i) {
    decoded.data()[i] =
        decode_value(grid.decode(encode_value(grid, normalise, scale.zero, block.data()[i])), scale);
  }
  return squared_error(decoded, block, weights);
}

double error_of(const any_quantizer& quantizer, const matrix<float>& weight,
                const std::vector<float>& weights, const quantized_matrix* previous = nullptr) {
  quantize_hints hints;
  hints.column_weights = weights.empty() ? nullptr : weights.data();
  hints.previous = previous;
  return squared_error(dequantize(quantizer.quantize(weight.view(), hints, {})), weight, weights);
}

/// The search adds errors in float, 64 terms at a time, and compares: it may choose a scale whose true error
/// is larger by that much.
constexpr double float_sums = 1 + 64 * 0x1p-24;

/// Compares the sums of one grid at scale 0.4 with double precision, for blocks around the lanes of the loop.
template <class Grid>
void check_fit(const Grid& grid, index_t rows, index_t cols, bool is_weighted) {
  const matrix<float> block = normal_matrix(rows, cols, static_cast<std::uint64_t>(cols));
  const placed_matrix<float> placed(block.view(), placement::padded_rows);
  const std::vector<float> weights = random_weights(cols, 3);
  const block_scale scale{0.4F, 0.0F};
  const scale_normaliser normalise(scale.scale);
  double error = 0;
  double cross = 0;
  double energy = 0;
  double magnitude = 0;
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < cols; ++j) {
      const auto x = static_cast<double>(block(i, j));
      const double w = is_weighted ? static_cast<double>(weights[static_cast<std::size_t>(j)]) : 1.0;
      const auto level = static_cast<double>(grid.decode(encode_value(grid, normalise, 0.0F, block(i, j))));
      error += w * 6.25 * (x - 0.4 * level) * (x - 0.4 * level); // in units of 1 / 2.5
      cross += w * x * level;
      energy += w * level * level;
      magnitude += w * (x * x + level * level);
    }
  }
  const scale_fit fit = fit_scale(grid, placed.view(), is_weighted ? weights.data() : nullptr, scale, 2.5F);
  // Terms and sums of 64 are float; 0.4 is rounded.
  CHECK(is_near(fit.error, error, 1e-5 * error + 1e-6 * magnitude));
  CHECK(is_near(fit.cross, cross, 1e-6 * magnitude));
  CHECK(is_near(fit.energy, energy, 1e-6 * energy));
  if (energy > 0)
    CHECK(is_near(static_cast<double>(fit.refitted()), cross / energy, 2e-6 * magnitude / energy));
}

} // namespace

TEST_CASE("fit_scale: sums agree with double precision on any block and grid", "[quant][property]") {
  const auto check = [](const char* name, const auto& grid) {
    for (const index_t rows : {1, 3}) {
      for (const index_t cols : {1, 15, 16, 17, 33, 63, 64, 65, 200}) {
        for (const bool is_weighted : {false, true}) {
          CAPTURE(name, rows, cols, is_weighted);
          check_fit(grid, rows, cols, is_weighted);
        }
      }
    }
  };
  check("int3", signed_grid(3));
  check("q4_0", signed_grid<tie_rule::half_up>(4));
  check("q8_0", symmetric_grid<tie_rule::half_away>(8));
  check("mxint4", mantissa_grid(4));
  check("sign", codebook_grid<1>(sign_levels, midpoint_rule::upper));
  check("nf2", codebook_grid<2>(normal_float_levels(2)));
  check("nf3", codebook_grid<3>(normal_float_levels(3)));
  check("nf4", codebook_grid<4>(normal_float_levels(4)));
  check("nf8", codebook_grid<8>(normal_float_levels(8)));
  check("fp4", e2m1_grid{});
}

TEST_CASE("scale_fit: the refitted scale is zero when there is none", "[quant]") {
  CHECK(scale_fit{1, 0, 0}.refitted() == 0.0F);
  CHECK(scale_fit{1, 1e300, 1e-30}.refitted() == 0.0F); // beyond float
  CHECK(scale_fit{1, -6, 3}.refitted() == -2.0F);
}

TEST_CASE("is_symmetric: is true when each level has its negative", "[quant]") {
  CHECK(is_symmetric(e2m1_grid{}));
  CHECK(is_symmetric(codebook_grid<1>(sign_levels)));
  CHECK_FALSE(is_symmetric(signed_grid(4)));
  CHECK_FALSE(is_symmetric(unsigned_grid(4)));
  CHECK_FALSE(is_symmetric(codebook_grid<4>(nf4_bitsandbytes_levels)));
  CHECK_FALSE(is_symmetric(codebook_grid<4>(iq4_nl_levels)));
}

TEST_CASE("scale search: is never worse than the rule with the same storage, in every format",
          "[quant][property]") {
  for (const auto& [rows, cols] :
       std::vector<std::pair<index_t, index_t>>{{1, 1}, {3, 7}, {5, 33}, {6, 256}}) {
    const matrix<float> weight = weight_like_matrix(rows, cols, static_cast<std::uint64_t>(cols));
    const std::vector<float> weights = random_weights(cols, 4);
    for (const format_description& format : named_formats) {
      for (const index_t group : {format.group_size, index_t{7}, group_per_row, group_per_tensor}) {
        if (group != format.group_size && (format.is_fixed || group > cols)) continue;
        format_options request;
        if (group != format.group_size) request.group_size = group;
        const any_quantizer rule = make_quantizer(format.name, request);
        request.scale_search = true;
        const any_quantizer search = make_quantizer(format.name, request);
        CAPTURE(format.name, group, rows, cols);
        CHECK(error_of(search, weight, {}) <= float_sums * error_of(rule, weight, {}));
        CHECK(error_of(search, weight, weights) <= float_sums * error_of(rule, weight, weights));
      }
    }
  }
}

TEST_CASE("scale search: gains where the rule wastes levels", "[quant]") {
  const matrix<float> weight = weight_like_matrix(16, 256, 5);
  const std::pair<const char*, double> expected[] = {{"int2", 0.6}, {"int3", 0.7},   {"nf2", 0.8},
                                                     {"nf3", 0.9},  {"uint2", 0.87}, {"mxint2", 0.95},
                                                     {"fp4", 0.96}};
  for (const auto& [name, ratio] : expected) {
    format_options request;
    const double rule = error_of(make_quantizer(name, request), weight, {});
    request.scale_search = true;
    CAPTURE(name);
    CHECK(error_of(make_quantizer(name, request), weight, {}) < ratio * rule);
  }
}

TEST_CASE("scale search: comes close to the best of a fine grid of scales", "[quant][property]") {
  const scale_search_context context{{scale_coding::plain, scale_type::fp32}, 1.0F, true};
  const auto check = [&](const auto& grid, double slack) {
    double total = 0;
    double best_total = 0;
    for (int seed = 0; seed < 40; ++seed) {
      const matrix<float> block = normal_matrix(1, 64, static_cast<std::uint64_t>(seed));
      const block_scale start = absmax_rule{}.find(block.view(), grid);
      const block_scale found = search_scale(grid, block.view(), nullptr, start, 0.0F, context);
      double best = slow_error(grid, block, {}, start);
      for (int i = 1; i <= 1200; ++i) {
        const float scale = start.scale * static_cast<float>(i) / 1000.0F;
        best = std::min(
            {best, slow_error(grid, block, {}, {scale, 0}), slow_error(grid, block, {}, {-scale, 0})});
      }
      total += slow_error(grid, block, {}, found);
      best_total += best;
      CHECK(slow_error(grid, block, {}, found) <= float_sums * slow_error(grid, block, {}, start));
    }
    CHECK(total <= slack * best_total);
  };
  // Descent from a few starts is not exhaustive. It was measured to miss 0.6, 1.8, 4.4, 0.03 and 2.7 %.
  check(signed_grid(2), 1.01);
  check(signed_grid(3), 1.03);
  check(signed_grid(4), 1.06);
  check(codebook_grid<2>(normal_float_levels(2)), 1.01);
  check(codebook_grid<4>(nf4_bitsandbytes_levels), 1.04);
}

TEST_CASE("scale search: finds a negative scale where it pays", "[quant]") {
  // Levels -2 ... 1: only a negative scale has a level twice as large for the positive outlier.
  matrix<float> block(1, 16);
  for (index_t j = 0; j < 16; ++j) block(0, j) = j % 2 == 0 ? 1.0F : -1.0F;
  block(0, 5) = 2;
  format_options request;
  request.group_size = 16;
  request.scale_search = true;
  const quantized_matrix q = quantize(std::as_const(block).view(), make_quantizer("int2", request));
  CHECK(slow_scale(q.scales(), 0) == -1.0);
  CHECK(squared_error(dequantize(q), block) == 0.0);
  for (index_t j = 0; j < 16; ++j) block(0, j) = -block(0, j); // mirrored, a positive scale does
  const quantized_matrix mirrored = quantize(std::as_const(block).view(), make_quantizer("int2", request));
  CHECK(slow_scale(mirrored.scales(), 0) == 1.0);
  CHECK(squared_error(dequantize(mirrored), block) == 0.0);
  request.scales = scale_format{scale_coding::plain, scale_type::e8m0}; // no sign to store
  const quantized_matrix unsigned_scale =
      quantize(std::as_const(block).view(), make_quantizer("int2", request));
  CHECK(slow_scale(unsigned_scale.scales(), 0) > 0);
}

TEST_CASE("scale search: a previous result is a further start", "[quant][property]") {
  for (const char* const name : {"int3", "nf4", "uint4", "minmax2", "mxint4", "nvfp4", "iq4_nl", "sign"}) {
    CAPTURE(name);
    const matrix<float> weight = weight_like_matrix(6, 192, 6);
    const matrix<float> nearby = [&] {
      matrix<float> moved = weight;
      const matrix<float> noise = normal_matrix(6, 192, 7, 2e-4);
      for (index_t i = 0; i < moved.size(); ++i) moved.data()[i] += noise.data()[i];
      return moved;
    }();
    format_options request;
    request.scale_search = true;
    const any_quantizer search = make_quantizer(name, request);
    const quantized_matrix previous = search.quantize(weight.view(), {}, {});
    CHECK(error_of(search, nearby, {}, &previous) <= float_sums * error_of(search, nearby, {}));
    CHECK(error_of(search, weight, {}, &previous) <= float_sums * error_of(search, weight, {}));
  }
}

TEST_CASE("scale search: a hint switches it on or off for one call", "[quant]") {
  const matrix<float> weight = weight_like_matrix(4, 128, 11);
  format_options request;
  const any_quantizer rule = make_quantizer("int3", request);
  request.scale_search = true;
  const any_quantizer search = make_quantizer("int3", request);
  const auto run = [&](const any_quantizer& quantizer, scale_search_mode mode) {
    quantize_hints hints;
    hints.search = mode;
    return quantizer.quantize(weight.view(), hints, {});
  };
  const quantized_matrix without = quantize(weight.view(), rule);
  const quantized_matrix with = quantize(weight.view(), search);
  CHECK_FALSE(has_same_bytes(without, with));
  for (const any_quantizer& quantizer : {rule, search}) {
    CHECK(has_same_bytes(run(quantizer, scale_search_mode::on), with));
    CHECK(has_same_bytes(run(quantizer, scale_search_mode::off), without));
  }
  CHECK(has_same_bytes(run(rule, scale_search_mode::as_configured), without));
  CHECK(has_same_bytes(run(search, scale_search_mode::as_configured), with));
}

TEST_CASE("scale search: a heavier column comes out better", "[quant]") {
  const matrix<float> weight = normal_matrix(64, 16, 8);
  std::vector<float> weights(16, 1.0F);
  weights[3] = 1000;
  format_options request;
  request.group_size = 16;
  request.scale_search = true;
  const any_quantizer search = make_quantizer("int2", request);
  const auto column_error = [&](const float* column_weights) {
    quantize_hints hints;
    hints.column_weights = column_weights;
    const matrix<float> back = dequantize(search.quantize(weight.view(), hints, {}));
    double sum = 0;
    for (index_t i = 0; i < 64; ++i)
      sum += std::pow(static_cast<double>(back(i, 3)) - static_cast<double>(weight(i, 3)), 2);
    return sum;
  };
  CHECK(column_error(weights.data()) < 0.5 * column_error(nullptr));
}

TEST_CASE("scale search: extreme magnitudes stay finite", "[quant]") {
  for (const float size : {1e-45F, 1e-38F, 1e-30F, 1e18F, 1e30F, 1e37F}) {
    const matrix<float> weight = scaled(normal_matrix(2, 64, 9), size);
    for (const format_description& format : named_formats) {
      if (format.is_fixed) continue;
      format_options request;
      request.scales = scale_format{scale_coding::plain, scale_type::fp32};
      request.scale_search = true;
      CAPTURE(format.name, size);
      const matrix<float> back = dequantize(quantize(weight.view(), make_quantizer(format.name, request)));
      int num_bad = 0;
      for (index_t i = 0; i < back.size(); ++i) {
        if (!is_finite(back.data()[i]) || std::fabs(back.data()[i]) > 8 * size) ++num_bad;
      }
      CHECK(num_bad == 0);
    }
  }
}

TEST_CASE("threads: the search gives the same bytes on any number of threads", "[quant][threads]") {
  thread_pool three(3);
  const matrix<float> weight = weight_like_matrix(3, 40007, 10); // one row is one task
  for (const char* const name : {"int4", "nf2", "iq4_nl"}) {
    format_options request;
    request.scale_search = true;
    const any_quantizer search = make_quantizer(name, request);
    CHECK(has_same_bytes(quantize(weight.view(), search, three), quantize(weight.view(), search)));
  }
}
