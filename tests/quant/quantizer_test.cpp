// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/quantizer.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <qlr/quant/codebook_grid.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/quant/minifloat_grid.hpp>
#include <qlr/quant/normal_float.hpp>
#include <qlr/quant/uniform_grid.hpp>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr scale_format fp32{scale_coding::plain, scale_type::fp32};

quantizer_options groups_of(index_t group_size, const scale_format& scales = fp32) {
  quantizer_options options;
  options.group_size = group_size;
  options.scales = scales;
  return options;
}

matrix<float> row_matrix(const std::vector<float>& values) {
  matrix<float> row(1, static_cast<index_t>(values.size()));
  std::copy(values.begin(), values.end(), row.data());
  return row;
}

std::vector<int> codes_of(const quantized_matrix& q, index_t row = 0) {
  std::vector<int> codes;
  for (index_t j = 0; j < q.cols(); ++j) codes.push_back(code_of(q, row, j));
  return codes;
}

void check_values(const quantized_matrix& q, const std::vector<double>& expected, double tolerance) {
  const matrix<float> values = dequantize(q);
  for (std::size_t j = 0; j < expected.size(); ++j) {
    CAPTURE(j);
    CHECK(is_near(static_cast<double>(values(0, static_cast<index_t>(j))), expected[j], tolerance));
  }
}

quantized_matrix quantize_row(const char* format, const std::vector<float>& values, index_t group = 0) {
  format_options request;
  if (group != 0) request.group_size = group;
  const matrix<float> row = row_matrix(values);
  return quantize(row.view(), make_quantizer(format, request));
}

} // namespace

TEST_CASE("quantizer: worked example 1, one NF4 block of bitsandbytes", "[quant]") {
  const quantizer<codebook_grid<4>, absmax_rule, msb_first_packing> nf4(
      "nf4", codebook_grid<4>(nf4_bitsandbytes_levels), {}, groups_of(8));
  const matrix<float> block = row_matrix({0.5F, -1, 0.25F, 0, 2, -0.3F, 1.3F, -2});
  const quantized_matrix q = quantize(block.view(), nf4);
  CHECK(codes_of(q) == std::vector<int>{10, 2, 9, 7, 15, 5, 14, 0});
  CHECK(q.codes() == std::vector<std::uint8_t>{0xA2, 0x97, 0xF5, 0xE0});
  check_values(q, {0.4922246, -1.0501461, 0.3218604, 0, 2, -0.3695469, 1.4459137, -2}, 6e-8);
}

TEST_CASE("quantizer: worked example 2, LQ-LoRA's two levels of scales", "[quant]") {
  const std::vector<float> levels = normal_float_levels(4, normal_float_construction::lq_lora);
  const quantizer<codebook_grid<4>, absmax_rule> nf4("nf4", codebook_grid<4>(levels), {},
                                                     groups_of(4, double_quantized(8, scale_type::fp32, 2)));
  const matrix<float> row =
      row_matrix({0.5F, -1, 0.25F, 0, 2, -0.3F, 1.3F, -2, 0.1F, -0.4F, 0.2F, 0.05F, 0.8F, 0.6F, -0.7F, 0.3F});
  const quantized_matrix q = quantize(row.view(), nf4);
  CHECK(codes_of(q) == std::vector<int>{12, 0, 10, 7, 15, 5, 14, 0, 10, 0, 12, 9, 15, 14, 0, 11});
  CHECK(q.scales().codes == std::vector<std::uint8_t>{96, 255, 0, 255});
  check_values(q,
               {0.441747, -1.002353, 0.246691, 0, 2, -0.369547, 1.445914, -2, 0.098445, -0.4, 0.176284,
                0.064372, 0.8, 0.578365, -0.8, 0.270332},
               1e-6); // six published decimals; the end points of these levels are 1 to within 1.2e-7
}

TEST_CASE("quantizer: worked example 3, shared exponents of LQER and QERA", "[quant]") {
  const auto check = [](const std::vector<float>& block, const std::vector<double>& lqer,
                        const std::vector<double>& qera) {
    check_values(quantize_row("bfp4", block), lqer, 0.0);
    check_values(quantize_row("mxint4", block), qera, 0.0);
  };
  check({1, -0.3F, 0.05F, 0.4F}, {0.875, -0.25, 0, 0.375}, {1, -0.25, 0, 0.5});
  check({1.3F, -0.3F, 0.05F, 0.4F}, {1.25, -0.25, 0, 0.5}, {1.25, -0.25, 0, 0.5});
  check({0.9F, -0.3F, 0.05F, 0}, {0.875, -0.25, 0, 0}, {0.875, -0.25, 0, 0});
}

TEST_CASE("quantizer: worked example 4, MXFP4", "[quant]") {
  const quantized_matrix q = quantize_row("mxfp4", {0.9F, -0.3F, 0.05F, 0.2F});
  CHECK(q.scales().codes == std::vector<std::uint8_t>{124});
  check_values(q, {0.75, -0.25, 0.0625, 0.1875}, 0.0);
}

TEST_CASE("quantizer: worked example 5, ggml Q4_0", "[quant]") {
  std::vector<float> block(32, 0.0F);
  const float shown[] = {0.9F, -0.3F, 0.05F, 0.2F};
  std::copy(std::begin(shown), std::end(shown), block.begin());
  const quantized_matrix q = quantize_row("q4_0", block);
  const std::vector<int> codes = codes_of(q);
  CHECK(std::vector<int>(codes.begin(), codes.begin() + 4) == std::vector<int>{0, 11, 8, 6});
  CHECK(codes[4] == 8);
  CHECK(q.codes()[0] == 0x80); // element 0 low, element 16 high
  CHECK(q.codes()[1] == 0x8B);
  const double scale = slow_scale(q.scales(), 0);
  CHECK(is_near(scale, -0.1125, 0.1125 * 0x1p-11)); // fp16
  check_values(q, {-8 * scale, 3 * scale, 0, -2 * scale}, 1e-7);
}

TEST_CASE("quantizer: worked example 6, bits per weight", "[quant]") {
  const auto bits_per_weight = [](int bits, const scale_format& scales, index_t group_size) {
    const quantizer_options options = groups_of(group_size, scales);
    quantized_layout layout;
    if (bits == 2)
      layout =
          quantizer("", codebook_grid<2>(normal_float_levels(2)), absmax_rule{}, options).layout(4096, 4096);
    if (bits == 3)
      layout =
          quantizer("", codebook_grid<3>(normal_float_levels(3)), absmax_rule{}, options).layout(4096, 4096);
    if (bits == 4)
      layout =
          quantizer("", codebook_grid<4>(normal_float_levels(4)), absmax_rule{}, options).layout(4096, 4096);
    if (bits == 8)
      layout =
          quantizer("", codebook_grid<8>(normal_float_levels(8)), absmax_rule{}, options).layout(4096, 4096);
    return 8.0 * static_cast<double>(layout.storage_bytes()) / (4096.0 * 4096.0);
  };
  CHECK(bits_per_weight(2, double_quantized(), 64) == 2.126953125);
  CHECK(bits_per_weight(3, double_quantized(), 64) == 3.126953125);
  CHECK(bits_per_weight(4, double_quantized(), 64) == 4.126953125);
  CHECK(bits_per_weight(4, double_quantized(2, scale_type::fp16, 16), 16) == 4.1875);
  CHECK(bits_per_weight(8, double_quantized(8, scale_type::fp32, 16), 16) == 8.625);
  CHECK(bits_per_weight(4, fp32, 64) == 4.5);
  CHECK(bits_per_weight(4, nested_bitsandbytes(), 64) == 4.126953125);
}

TEST_CASE("quantizer: bits per weight of named formats are the published ones", "[quant]") {
  const std::pair<const char*, double> published[] = {{"mxint4", 4.25},
                                                      {"mxint3", 3.25},
                                                      {"mxint2", 2.25},
                                                      {"bfp4", 4.5},
                                                      {"bfp8", 8.5},
                                                      {"mxfp4", 4.25},
                                                      {"nvfp4", 4.5},
                                                      {"q4_0", 4.5},
                                                      {"iq4_nl", 4.5},
                                                      {"q8_0", 8.5},
                                                      {"nf4", 4.25},
                                                      {"sign", 1.25},
                                                      {"int8", 8.25},
                                                      {"uint4", 4 + (16 + 4) / 64.0},
                                                      {"uint3", 3 + (16 + 3) / 64.0},
                                                      {"minmax2", 2 + 64 / 64.0}};
  for (const auto& [name, bits] : published) {
    CAPTURE(name);
    const quantized_layout layout = make_quantizer(name).layout(256, 512);
    CHECK(8.0 * static_cast<double>(layout.storage_bytes()) / (256.0 * 512.0) == bits);
  }
}

TEST_CASE("quantizer: a user's codebook is a format like any other", "[quant]") {
  const codebook_grid<3> five(std::array<float, 5>{-2, -0.5F, 0, 1, 4});
  const quantizer mine("five", five, absmax_rule{}, groups_of(7));
  const matrix<float> weight = normal_matrix(5, 24, 7);
  const quantized_matrix q = quantize(weight.view(), mine);
  CHECK(q.format_name() == "five");
  CHECK(q.layout().bits == 3);
  CHECK(q.levels() == std::vector<float>{-2, -0.5F, 0, 1, 4, 4, 4, 4});
  for (index_t i = 0; i < 5; ++i) {
    for (const int code : codes_of(q, i)) CHECK(code < 5);
  }
  const matrix<float> back = dequantize(q);
  CHECK(squared_error(back, slow_dequantize(q)) == 0.0);
  for (index_t i = 0; i < 5; ++i) {
    for (index_t j = 0; j < 24; ++j) { // each value is the nearest of the five times the scale of its group
      const double scale = slow_scale(q.scales(), i * 4 + j / 7);
      double least = 1e9;
      for (const double level : {-2.0, -0.5, 0.0, 1.0, 4.0}) {
        least = std::min(least, std::fabs(level * scale - static_cast<double>(weight(i, j))));
      }
      CHECK(is_near(std::fabs(static_cast<double>(back(i, j)) - static_cast<double>(weight(i, j))), least,
                    1e-6));
    }
  }
}

TEST_CASE("quantizer: codes belong to the stored scale unless asked otherwise", "[quant]") {
  // 1.02 / 7 rounds down in bf16, so a value just below a threshold moves up.
  quantizer_options options = groups_of(0, {scale_coding::plain, scale_type::bf16});
  const float exact = 1.02F / 7;
  const float stored = round_to(scale_type::bf16, exact);
  REQUIRE(stored != exact);
  const float value = 2.5F * (0.5F * exact + 0.5F * stored); // between the two thresholds
  const matrix<float> row = row_matrix({1.02F, value});
  const auto code = [&](bool is_exact) {
    options.encode_with_exact_scale = is_exact;
    return codes_of(quantize(row.view(), quantizer("", signed_grid(4), absmax_rule{}, options)))[1] - 8;
  };
  CHECK(code(false) == (stored < exact ? 3 : 2));
  CHECK(code(true) == (stored < exact ? 2 : 3));
}

TEST_CASE("quantizer: an impossible group size is refused with what is allowed", "[quant]") {
  const auto make = [](index_t group) {
    return report_of([&] { quantizer unused("", signed_grid(4), absmax_rule{}, groups_of(group)); });
  };
  CHECK(make(-2).says(status_code::invalid_argument,
                      "group_size is -2, allowed are 1 and above, 0 (per row) and -1 (per tensor)"));
  CHECK(make(std::numeric_limits<index_t>::min()).says(status_code::invalid_argument, "group_size is -9"));
  CHECK(make(-1).message.empty());
  CHECK(make(0).message.empty());
  const quantizer eight("", signed_grid(4), absmax_rule{}, groups_of(8));
  const matrix<float> narrow(3, 7, 1.0F);
  CHECK(report_of([&] { (void)eight.layout(3, 7); })
            .says(status_code::invalid_argument,
                  "group_size is 8, allowed for 7 columns are 1 to 7, 0 (per row)"));
  CHECK(report_of([&] {
          (void)quantize(narrow.view(), eight);
        }).says(status_code::invalid_argument, "group_size is 8"));
  CHECK(eight.layout(3, 8).num_scales() == 3);
  CHECK(eight.layout(3, 0).num_scales() == 0);
  CHECK(report_of([] {
          quantizer unused("", signed_grid(4), absmax_rule{}, groups_of(8, double_quantized(1)));
        }).says(status_code::invalid_argument, "scale bits is 1"));
}

TEST_CASE("quantizer: NaN and infinity are refused with their position", "[quant]") {
  const quantizer four("", signed_grid(4), absmax_rule{}, groups_of(0));
  for (const placement where : all_placements) {
    placed_matrix<double> weight(normal_matrix(6, 9, 4).view(), where);
    weight.writable()(4, 7) = 1e300;
    weight.writable()(5, 0) = std::numeric_limits<double>::quiet_NaN();
    CHECK(report_of([&] {
            (void)quantize(weight.view(), four);
          }).says(status_code::non_finite, "weight(4, 7) is 1e+300, every element must be finite in float"));
    weight.writable()(4, 7) = 0;
    CHECK(report_of([&] {
            (void)quantize(weight.view(), four);
          }).says(status_code::non_finite, "weight(5, 0) is"));
  }
}

TEST_CASE("quantized_layout: counts groups, scales and bytes", "[quant]") {
  const auto layout = [](index_t rows, index_t cols, index_t group, int bits, zero_point zeros) {
    return quantized_layout{rows, cols, group, bits, code_order::lsb_first, zeros, {}};
  };
  const quantized_layout short_group = layout(3, 20, 8, 3, zero_point::integer); // groups of 8, 8, 4
  CHECK(short_group.groups_per_row() == 3);
  CHECK(short_group.num_scales() == 9);
  CHECK(short_group.scale_index(2, 1) == 7);
  CHECK(short_group.row_bytes() == 8);  // 60 bits
  CHECK(short_group.zero_bytes() == 4); // 27 bits
  CHECK(short_group.storage_bytes() == 24 + 4 + 18);
  CHECK(layout(3, 20, group_per_row, 4, zero_point::real).storage_bytes() == 30 + 12 + 6);
  const quantized_layout tensor = layout(3, 20, group_per_tensor, 4, zero_point::real);
  CHECK(tensor.storage_bytes() == 30 + 4 + 2);
  CHECK(tensor.scale_index(2, 0) == 0);
  CHECK(layout(3, 5, 8, 4, zero_point::none).num_scales() == 3); // one short group per row
  for (const index_t group : {-1, 0, 4}) {
    CHECK(layout(0, 20, group, 4, zero_point::real).storage_bytes() == 0);
    CHECK(layout(20, 0, group, 4, zero_point::integer).storage_bytes() == 0);
  }
}

TEST_CASE("quantized_matrix: parts that do not fit the layout are refused by name", "[quant]") {
  const quantized_layout layout{
      4, 10, 5, 4, code_order::lsb_first, zero_point::integer, double_quantized(3, scale_type::fp16, 4)};
  struct parts {
    std::vector<float> levels = std::vector<float>(16);
    std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(20);
    stored_scales scales{double_quantized(3, scale_type::fp16, 4), 8, std::vector<std::uint8_t>(3),
                         std::vector<std::uint8_t>(4), 0.0F};
    std::vector<std::uint8_t> zeros = std::vector<std::uint8_t>(4);
  };
  const auto make = [&](parts p) {
    return report_of([&] { quantized_matrix q("x", layout, p.levels, p.codes, p.scales, p.zeros); });
  };
  CHECK(make({}).message.empty());
  const auto refuses = [&](auto&& change, const char* message) {
    parts wrong;
    change(wrong);
    CHECK(make(wrong).says(status_code::shape_mismatch, message));
  };
  refuses([](parts& p) { p.levels.pop_back(); },
          "quantized_matrix: levels has 15 entries, the layout needs 16");
  refuses([](parts& p) { p.levels.push_back(0); }, "levels has 17 entries");
  refuses([](parts& p) { p.codes.pop_back(); }, "codes has 19 entries, the layout needs 20");
  refuses([](parts& p) { p.zeros.push_back(0); }, "zeros has 5 entries, the layout needs 4");
  refuses([](parts& p) { p.zeros.clear(); }, "zeros has 0 entries");
  refuses([](parts& p) { p.scales.count = 7; }, "scales has 7 entries, the layout needs 8");
  refuses([](parts& p) { p.scales.codes.pop_back(); }, "scales.codes has 2 entries, the layout needs 3");
  refuses([](parts& p) { p.scales.supers.push_back(0); }, "scales.supers has 5 entries, the layout needs 4");
}

TEST_CASE("dequantize: writes through any strides and refuses another shape", "[quant]") {
  const matrix<float> weight = normal_matrix(7, 19, 5);
  const quantized_matrix q = quantize(weight.view(), make_quantizer("nf3", {.group_size = 8, .scales = {}}));
  const matrix<float> expected = dequantize(q);
  for (const placement where : all_placements) {
    placed_matrix<float> out(matrix<float>(7, 19, std::numeric_limits<float>::quiet_NaN()).view(), where);
    dequantize(q.view(), out.writable());
    CHECK(squared_error(to_row_major(out.view()), expected) == 0.0);
  }
  matrix<float> wrong(19, 7);
  CHECK(report_of([&] {
          dequantize(q.view(), wrong.view());
        }).says(status_code::shape_mismatch, "dequantize: out is 19 x 7, the matrix is 7 x 19"));
}
