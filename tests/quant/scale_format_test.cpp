// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/scale_format.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("scale_format: parsing what was printed gives the same format", "[quant][property]") {
  for (const char* const text : {"fp32", "fp16", "bf16", "e8m0", "e4m3-tensor", "dq-bnb", "dq:8,fp32,256",
                                 "dq:2,bf16,16", "dq:3,fp16,64", "dq:8,fp32,999999999", "dq:4,fp32,1"}) {
    CAPTURE(text);
    const scale_format format = parse_scale_format(text);
    CHECK(to_string(format) == text);
    CHECK(parse_scale_format(to_string(format)) == format);
  }
}

TEST_CASE("scale_format: names stand for their formats", "[quant]") {
  CHECK(parse_scale_format("fp16") == scale_format{});
  CHECK(parse_scale_format("fp32") == scale_format{scale_coding::plain, scale_type::fp32});
  CHECK(parse_scale_format("dq") == double_quantized(8, scale_type::fp32, 256));
  CHECK(parse_scale_format("dq:3,bf16,16") == double_quantized(3, scale_type::bf16, 16));
  CHECK(parse_scale_format("dq-bnb") == nested_bitsandbytes());
  CHECK(nested_bitsandbytes().coding == scale_coding::double_mean);
  CHECK(nested_bitsandbytes().block == 256);
}

TEST_CASE("scale_format: other text is refused and the allowed forms are listed", "[quant]") {
  for (const char* const text :
       {"", "fp8", "FP16", "fp16 ", "dq:", "dq:8", "dq:8,fp32", "dq:8,fp32,", "dq:,fp32,256", "dq:8,fp64,256",
        "dq:8,fp32,256,1", "dq:-8,fp32,256", "dq:8,fp32,2x", "dq:8,fp32,1000000000", "dq:0x8,fp32,256", "dq-",
        "dqbnb", "double"}) {
    CAPTURE(text);
    const report caught = report_of([&] { (void)parse_scale_format(text); });
    CHECK(caught.says(status_code::invalid_argument,
                      sentence("scale is '", text, "', allowed are fp32, fp16, ")));
    CHECK(caught.message.find("dq-bnb") != std::string::npos);
  }
}

TEST_CASE("scale_format: impossible numbers are refused by name", "[quant]") {
  const auto about = [](const char* text) { return report_of([&] { (void)parse_scale_format(text); }); };
  CHECK(about("dq:1,fp32,256")
            .says(status_code::invalid_argument, "scale bits is 1, double quantization takes 2 to 8"));
  CHECK(about("dq:9,fp32,256").says(status_code::invalid_argument, "scale bits is 9"));
  CHECK(about("dq:8,fp32,0").says(status_code::invalid_argument, "scale block is 0"));
  CHECK(about("dq:8,e8m0,256").says(status_code::invalid_argument, "scale type is e8m0"));
  const auto check = [](const scale_format& format) { return report_of([&] { validate(format); }); };
  CHECK(
      check(double_quantized(8, scale_type::e4m3)).says(status_code::invalid_argument, "scale type is e4m3"));
  CHECK(check(double_quantized(8, scale_type::fp32, -4))
            .says(status_code::invalid_argument, "scale block is -4"));
  CHECK(check({scale_coding::plain, scale_type::e8m0, 77, -1}).message.empty()); // not used by plain formats
}

TEST_CASE("scale_format: knows its size, whether it is double and whether it has a sign", "[quant]") {
  const std::pair<scale_type, int> sizes[] = {{scale_type::fp32, 4},
                                              {scale_type::fp16, 2},
                                              {scale_type::bf16, 2},
                                              {scale_type::e8m0, 1},
                                              {scale_type::e4m3, 1}};
  for (const auto& [type, bytes] : sizes) {
    CHECK(scale_type_bytes(type) == bytes);
    CHECK(scale_format{scale_coding::plain, type}.is_signed() == (type != scale_type::e8m0));
  }
  CHECK(double_quantized().is_double());
  CHECK(nested_bitsandbytes().is_double());
  CHECK_FALSE(scale_format{}.is_double());
  CHECK_FALSE(double_quantized().is_signed());
  CHECK_FALSE(nested_bitsandbytes().is_signed());
  CHECK_FALSE(scale_format{scale_coding::tensor_scaled, scale_type::e4m3}.is_signed());
}

TEST_CASE("round_to: gives the nearest number of the type", "[quant][property]") {
  random_source random(9);
  for (int i = 0; i < 5000; ++i) {
    const auto value =
        static_cast<float>(std::ldexp(random.between(1, 2), static_cast<int>(random.below(12)) - 8));
    const auto x = static_cast<double>(value);
    const auto off = [&](scale_type type) {
      return std::fabs(static_cast<double>(round_to(type, value)) - x);
    };
    if (round_to(scale_type::fp32, value) != value || off(scale_type::fp16) > 0x1p-11 * x ||
        off(scale_type::bf16) > 0x1p-8 * x || off(scale_type::e4m3) > std::max(0x1p-4 * x, 0x1p-10)) {
      FAIL(value);
    }
    int exponent =
        0; // value = fraction * 2^exponent, fraction in [0.5, 1): its neighbours among powers of two
    const double fraction = std::frexp(x, &exponent);
    const double power = std::ldexp(1.0, fraction >= 0.75 ? exponent : exponent - 1);
    if (static_cast<double>(round_to(scale_type::e8m0, value)) != power) FAIL(value);
  }
}

TEST_CASE("round_to: E8M0 takes the nearest power of two within its range", "[quant]") {
  const auto power = [](float value) { return round_to(scale_type::e8m0, value); };
  CHECK(power(1.0F) == 1.0F);
  CHECK(power(1.4999999F) == 1.0F);
  CHECK(power(1.5F) == 2.0F);
  CHECK(power(0.0F) == 0.0F);
  CHECK(power(-3.0F) == 0.0F);
  CHECK(power(1e-45F) == 0x1p-127F);
  CHECK(power(std::numeric_limits<float>::max()) == 0x1p127F);
}
