// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// What the original authors' code gives on shared inputs; see the README.md beside the data.
#include "../support/golden.hpp"

#include "../support/catch.hpp"
#include "../support/oracles.hpp"

#include <qlr/quant/formats.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr scale_format fp32{scale_coding::plain, scale_type::fp32};
using construction = normal_float_construction;

quantizer_options groups_of(index_t group_size, const scale_format& scales) {
  quantizer_options options;
  options.group_size = group_size;
  options.scales = scales;
  return options;
}

/// Thresholds of a sorted table of levels, in double precision.
std::vector<double> thresholds_of(const std::vector<float>& levels) {
  std::vector<double> thresholds;
  for (std::size_t i = 0; i + 1 < levels.size(); ++i) {
    thresholds.push_back(0.5 * (static_cast<double>(levels[i]) + static_cast<double>(levels[i + 1])));
  }
  return thresholds;
}

double distance_to(const std::vector<double>& thresholds, double value) {
  double least = 1e9;
  for (const double threshold : thresholds) least = std::min(least, std::fabs(value - threshold));
  return least;
}

/// How a decoded matrix differs from the original's.
struct comparison {
  index_t num_ties = 0;  ///< elements that differ while their normalised value is within 1e-6 of a threshold
  index_t num_wrong = 0; ///< elements that differ otherwise
};

/// A difference is excused only on a threshold: the normalised value x / scale must be within 1e-6 of it.
comparison compare(const quantized_matrix& q, const matrix<float>& weight, const matrix<float>& original,
                   const std::vector<double>& thresholds) {
  REQUIRE(original.rows() == weight.rows());
  REQUIRE(original.cols() == weight.cols());
  const matrix<float> values = dequantize(q);
  comparison result;
  for (index_t i = 0; i < weight.rows(); ++i) {
    for (index_t j = 0; j < weight.cols(); ++j) {
      if (values(i, j) == original(i, j)) continue;
      const double normalised = static_cast<double>(weight(i, j)) / block_of(q, i, j).scale;
      if (distance_to(thresholds, normalised) <= 1e-6) {
        ++result.num_ties;
      } else if (result.num_wrong++ == 0) {
        UNSCOPED_INFO("(" << i << ", " << j << ") of " << weight(i, j) << ": " << values(i, j)
                          << ", original " << original(i, j));
      }
    }
  }
  return result;
}

void check_equal_but_for_ties(const comparison& found, index_t size) {
  CHECK(found.num_wrong == 0);
  CHECK(found.num_ties < size / 10000);
}

void check_table(std::string_view name, const std::vector<float>& levels) {
  CAPTURE(name);
  CHECK(golden_values<float>(name) == levels);
}

template <int Bits>
void check_lq_lora(std::string_view name, const scale_format& scales, index_t group) {
  CAPTURE(name);
  const matrix<float> weight = golden_inputs().read_matrix("W");
  const std::vector<float> levels = normal_float_levels(Bits, construction::lq_lora);
  const codebook_grid<Bits> grid(levels);
  const matrix<float> original = golden_outputs().read_matrix(name);
  const quantizer exact("nf", grid, largest_magnitude_rule{}, groups_of(group, scales));
  const quantized_matrix q = quantize(weight.view(), exact);
  check_equal_but_for_ties(compare(q, weight, original, thresholds_of(levels)), weight.size());
}

/// Half-way points of the integers that a mantissa of `bits` bits (sign included) reaches.
std::vector<double> mantissa_thresholds(int bits) {
  std::vector<double> thresholds;
  const int top = (1 << (bits - 1)) - 1;
  for (int i = -top; i < top; ++i) thresholds.push_back(i + 0.5);
  return thresholds;
}

} // namespace

TEST_CASE("golden: level tables equal the originals to the last bit", "[quant][golden]") {
  if (!has_golden_data()) return;
  check_table("codebook.nf4.bitsandbytes", normal_float_levels(4, construction::bitsandbytes));
  check_table("codebook.nf2.loftq", normal_float_levels(2, construction::loftq));
  check_table("codebook.nf3.loftq", normal_float_levels(3, construction::loftq));
  check_table("codebook.nf4.loftq", normal_float_levels(4, construction::loftq));
  check_table("codebook.nf2.lqlora", normal_float_levels(2, construction::lq_lora));
  check_table("codebook.nf3.lqlora", normal_float_levels(3, construction::lq_lora));
  check_table("codebook.nf4.lqlora", normal_float_levels(4, construction::lq_lora));
  check_table("codebook.nf8.lqlora", normal_float_levels(8, construction::lq_lora));
}

TEST_CASE("golden: the dynamic map equals bitsandbytes' to the last bit", "[quant][golden]") {
  if (!has_golden_data()) return;
  std::vector<float> map;
  for (int code = 0; code < 256; ++code) map.push_back(dynamic_map().decode(static_cast<code_t>(code)));
  check_table("codebook.dynamic8.bitsandbytes", map);
}

TEST_CASE("golden: bitsandbytes NF4 gives the same bytes and absmax", "[quant][golden]") {
  if (!has_golden_data()) return;
  const matrix<float> weight = golden_inputs().read_matrix("W");
  const quantizer<codebook_grid<4>, absmax_rule, msb_first_packing> nf4(
      "nf4", codebook_grid<4>(nf4_bitsandbytes_levels), {}, groups_of(64, fp32));
  const quantized_matrix q = quantize(weight.view(), nf4);
  CHECK(q.codes() == golden_values<std::uint8_t>("bnb.nf4.block64.packed"));
  CHECK(q.scales().codes == golden_values<std::uint8_t>("bnb.nf4.block64.absmax"));
}

TEST_CASE("golden: bitsandbytes' nested absmax gives the same codes but for thresholds", "[quant][golden]") {
  if (!has_golden_data()) return;
  const std::vector<float> absmax = golden_values<float>("bnb.nf4.block64.absmax");
  const std::vector<std::uint8_t> codes = golden_values<std::uint8_t>("bnb.nf4.block64.nested.codes");
  const std::vector<float> supers = golden_values<float>("bnb.nf4.block64.nested.absmax");
  const float offset = golden_values<float>("bnb.nf4.block64.nested.offset").at(0);
  std::vector<float> values = absmax;
  const stored_scales stored = encode_scales(values, nested_bitsandbytes());

  // The original adds 3072 numbers in single precision; pairwise, that is off by a few units in the last
  // place.
  const auto mean = static_cast<double>(offset);
  CHECK(is_near(static_cast<double>(stored.base), mean, 4 * 0x1p-24 * mean));
  REQUIRE(stored.supers.size() == 4 * supers.size());
  for (std::size_t i = 0; i < supers.size(); ++i) {
    const auto super = static_cast<double>(supers[i]); // moved by the offset, and rounded itself
    CHECK(is_near(slow_number(scale_type::fp32, stored.supers.data(), static_cast<index_t>(i)), super,
                  4 * 0x1p-24 * mean + 0x1p-23 * super));
  }
  REQUIRE(stored.codes.size() == codes.size());
  std::vector<float> map;
  for (int code = 0; code < 256; ++code) map.push_back(dynamic_map().decode(static_cast<code_t>(code)));
  const std::vector<double> thresholds = thresholds_of(map);
  index_t num_ties = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    if (codes[i] == stored.codes[i]) continue;
    const double value = static_cast<double>(absmax[i] - offset) / static_cast<double>(supers[i / 256]);
    CAPTURE(i, value, int(codes[i]), int(stored.codes[i]));
    CHECK(std::abs(codes[i] - stored.codes[i]) == 1);
    CHECK(distance_to(thresholds, value) <= 1e-6 * std::fabs(value));
    ++num_ties;
  }
  INFO("codes that differ on a threshold: " << num_ties);
  CHECK(num_ties <= 3); // 0.1 %
}

TEST_CASE("golden: LQ-LoRA's quantizer gives the same values but for thresholds", "[quant][golden]") {
  if (!has_golden_data()) return;
  check_lq_lora<4>("lqlora.q.4_8_fp32_64_256", double_quantized(8, scale_type::fp32, 256), 64);
  check_lq_lora<3>("lqlora.q.3_8_fp32_64_256", double_quantized(8, scale_type::fp32, 256), 64);
  check_lq_lora<2>("lqlora.q.2_8_fp32_64_256", double_quantized(8, scale_type::fp32, 256), 64);
  check_lq_lora<3>("lqlora.q.3_4_bf16_32_16", double_quantized(4, scale_type::bf16, 16), 32);
  check_lq_lora<2>("lqlora.q.2_3_fp16_16_64", double_quantized(3, scale_type::fp16, 64), 16);
  check_lq_lora<8>("lqlora.q.8_8_fp32_64_256", double_quantized(8, scale_type::fp32, 256), 64);
}

TEST_CASE("golden: block floating point of LQER and QERA gives the same values but for thresholds",
          "[quant][golden]") {
  if (!has_golden_data()) return;
  const matrix<float> weight = golden_inputs().read_matrix("W");
  const auto check = [&](std::string_view name, const char* format, index_t group, int bits) {
    CAPTURE(name);
    format_options request;
    request.group_size = group;
    const quantized_matrix q = quantize(weight.view(), make_quantizer(format, request));
    const matrix<float> original = golden_outputs().read_matrix(name);
    check_equal_but_for_ties(compare(q, weight, original, mantissa_thresholds(bits)), weight.size());
  };
  check("mxint.mxint4_block_16_(lqer_block_fp)", "bfp4", 16, 4);
  check("mxint.mxint3_block_32_(qera)", "mxint3", 32, 3);
  check("mxint.mxint4_block_32_(qera)", "mxint4", 32, 4);
}

TEST_CASE("golden: LoftQ's levels give the Q of its first iteration but for thresholds", "[quant][golden]") {
  if (!has_golden_data()) return;
  const matrix<float> weight = golden_inputs().read_matrix("W");
  const auto check = [&](std::string_view name, const std::vector<float>& levels, const auto& grid) {
    CAPTURE(name);
    const quantizer nf("nf", grid, absmax_rule{}, groups_of(64, fp32));
    const quantized_matrix q = quantize(weight.view(), nf);
    check_equal_but_for_ties(compare(q, weight, golden_outputs().read_matrix(name), thresholds_of(levels)),
                             weight.size());
  };
  const std::vector<float> nf2 = normal_float_levels(2, construction::loftq);
  const std::vector<float> nf4 = normal_float_levels(4, construction::loftq);
  const std::vector<float> bnb = normal_float_levels(4);
  check("loftq.nf2.r16.t1.Q", nf2, codebook_grid<2>(nf2));
  check("loftq.nf4.r16.t1.Q", nf4, codebook_grid<4>(nf4));
  check("loftq.bnbnf4.r16.t1.Q", bnb, codebook_grid<4>(bnb));
}
