// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/scale_codec.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr scale_type double_types[] = {scale_type::fp32, scale_type::fp16, scale_type::bf16};

scale_format plain(scale_type type) {
  return {scale_coding::plain, type};
}

/// Scales as real weights have them: positive, within about two decades.
std::vector<float> typical_scales(index_t count, std::uint64_t seed) {
  random_source random(seed);
  std::vector<float> scales;
  for (index_t i = 0; i < count; ++i) scales.push_back(static_cast<float>(0.02 * std::exp(random.normal())));
  return scales;
}

struct round_trip {
  stored_scales stored;
  std::vector<float> before;
  std::vector<float> after;
};

/// Stores scales and checks what holds for every format: sizes, and that the values handed back are what
/// decode_scale reads.
round_trip store(const std::vector<float>& scales, const scale_format& format, float base = 1.0F) {
  std::vector<float> values = scales;
  stored_scales stored = encode_scales(values, format, base);
  CHECK(stored.count == static_cast<index_t>(scales.size()));
  CHECK(static_cast<index_t>(stored.codes.size()) == scale_code_bytes(format, stored.count));
  CHECK(static_cast<index_t>(stored.supers.size()) == scale_super_bytes(format, stored.count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!is_same(values[i], decode_scale(stored.view(), static_cast<index_t>(i)))) FAIL("scale " << i);
  }
  return {std::move(stored), scales, std::move(values)};
}

/// Largest |after - before| / before.
double worst_relative(const round_trip& trip) {
  double worst = 0;
  for (std::size_t i = 0; i < trip.before.size(); ++i) {
    const auto before = static_cast<double>(trip.before[i]);
    worst = std::max(worst, std::fabs(static_cast<double>(trip.after[i]) - before) / std::fabs(before));
  }
  return worst;
}

} // namespace

TEST_CASE("scale_codec: a plain scale is off by at most half a unit of its type", "[quant][property]") {
  for (const index_t count : {0, 1, 2, 300}) {
    const std::vector<float> scales = typical_scales(count, 1);
    CHECK(worst_relative(store(scales, plain(scale_type::fp32))) == 0.0);
    CHECK(worst_relative(store(scales, plain(scale_type::fp16))) <= 0x1p-11);
    CHECK(worst_relative(store(scales, plain(scale_type::bf16))) <= 0x1p-8);
    CHECK(worst_relative(store(scales, plain(scale_type::e8m0))) <= 1.0 / 3.0);
    std::vector<float> normal = scales; // E4M3 is subnormal below 2^-6
    for (float& scale : normal) scale = 0.02F + std::min(scale, 4.0F);
    CHECK(worst_relative(store(normal, plain(scale_type::e4m3))) <= 0x1p-4);
  }
  const std::vector<float> negative{-0.5F, -0.3F, 0.7F};
  CHECK(worst_relative(store(negative, plain(scale_type::fp16))) <= 0x1p-11);
  CHECK(worst_relative(store(negative, plain(scale_type::bf16))) <= 0x1p-8);
}

TEST_CASE("scale_codec: plain numbers lie in memory as their type says", "[quant]") {
  const round_trip trip = store({1.5F, 0.3F, 2.0F, 1e-3F, 0.0F}, plain(scale_type::fp16));
  for (index_t i = 0; i < 5; ++i) {
    CHECK(slow_number(scale_type::fp16, trip.stored.codes.data(), i) ==
          static_cast<double>(trip.after[static_cast<std::size_t>(i)]));
  }
  CHECK(trip.stored.codes[0] == 0x00); // 1.5 = 0x3E00, little-endian
  CHECK(trip.stored.codes[1] == 0x3E);
  CHECK(store({1.5F}, plain(scale_type::bf16)).stored.codes == std::vector<std::uint8_t>{0xC0, 0x3F});
  CHECK(store({0.25F}, plain(scale_type::e8m0)).stored.codes == std::vector<std::uint8_t>{125});
  CHECK(store({448.0F}, plain(scale_type::e4m3)).stored.codes == std::vector<std::uint8_t>{0x7E});
}

TEST_CASE("scale_codec: a zero scale stays zero, in E8M0 it becomes the smallest number", "[quant]") {
  for (const scale_type type : {scale_type::fp32, scale_type::fp16, scale_type::bf16, scale_type::e4m3}) {
    CHECK(store({0.0F, 1.0F}, plain(type)).after[0] == 0.0F);
  }
  CHECK(store({0.0F, 1.0F}, plain(scale_type::e8m0)).after[0] == 0x1p-127F);
  for (const scale_format& format :
       {double_quantized(), double_quantized(3, scale_type::fp16, 2), nested_bitsandbytes()}) {
    CHECK(store({0.0F, 0.0F, 0.0F}, format).after == std::vector<float>{0, 0, 0});
  }
  CHECK(store({0.0F, 0.5F, 1.0F}, double_quantized()).after[0] == 0.0F); // the minimum is exact
}

TEST_CASE("scale_codec: tiny scales round like numbers of their type", "[quant]") {
  const float least = std::numeric_limits<float>::denorm_min();
  CHECK(store({least, 1e-40F}, plain(scale_type::fp32)).after == std::vector<float>{least, 1e-40F});
  CHECK(store({0x1p-24F, 0x1.8p-24F, 0x1p-25F}, plain(scale_type::fp16)).after ==
        std::vector<float>{0x1p-24F, 0x1p-23F, 0.0F}); // ties to even
  CHECK(store({least, 1e-40F}, plain(scale_type::e8m0)).after == std::vector<float>{0x1p-127F, 0x1p-127F});
  CHECK(is_near(static_cast<double>(store({1e-40F}, plain(scale_type::bf16)).after[0]), 1e-40, 0x1p-134));
  for (const float value : store({1e-40F, 2e-40F, 1e-45F}, double_quantized()).after) CHECK(is_finite(value));
  for (const float value : store({1e-40F, 2e-40F, 1e-45F}, nested_bitsandbytes()).after)
    CHECK(is_finite(value));
}

TEST_CASE("scale_codec: a scale beyond the range of its type is refused with its block", "[quant]") {
  const auto about = [](std::vector<float> scales, const scale_format& format) {
    return report_of([&] { (void)encode_scales(scales, format); });
  };
  CHECK(about({1, 2, 70000, 80000}, plain(scale_type::fp16))
            .says(status_code::unsupported,
                  "the scale of block 2 is 70000, beyond the range of fp16; use fp32 or bf16 scales"));
  CHECK(about({65519.0F}, plain(scale_type::fp16)).message.empty());
  CHECK(about({65520.0F}, plain(scale_type::fp16)).says(status_code::unsupported, "block 0 is 65520"));
  CHECK(about({-1e5F}, plain(scale_type::fp16)).says(status_code::unsupported, "-100000"));
  CHECK(about({1, 3.4e38F}, plain(scale_type::bf16))
            .says(status_code::unsupported, "beyond the range of bf16"));
  CHECK(about({0, 1, 0, 70000}, double_quantized(8, scale_type::fp16, 2))
            .says(status_code::unsupported, "the scale of block 1 is 70000, beyond the range of fp16"));
  CHECK(about({3.4e38F}, plain(scale_type::fp32)).message.empty());
  CHECK(about({1e30F, 2e30F}, double_quantized()).message.empty());
}

TEST_CASE("scale_codec: tensor_scaled multiplies E4M3 numbers with one base", "[quant]") {
  const float base = 0.0007F;
  std::vector<float> scales = typical_scales(200, 3);
  scales[7] = 0;
  scales[8] = 448 * base;
  const round_trip trip = store(scales, {scale_coding::tensor_scaled, scale_type::e4m3}, base);
  CHECK(trip.stored.base == base);
  CHECK(trip.after[7] == 0.0F);
  CHECK(trip.after[8] == 448 * base);
  for (std::size_t i = 0; i < scales.size(); ++i) {
    CHECK(is_same(trip.after[i], static_cast<float>(slow_scale(trip.stored, static_cast<index_t>(i)))));
    const auto before = static_cast<double>(scales[i]);
    // Half a unit: relative 2^-4, in the subnormal range of E4M3 2^-10 of the base; and the rounding of x /
    // base.
    const double bound = std::max(0x1p-4 * before, 0x1p-10 * static_cast<double>(base)) * (1 + 1e-6);
    CHECK(is_near(static_cast<double>(trip.after[i]), before, bound));
  }
}

TEST_CASE("scale_codec: double_min agrees with a double-precision evaluation of LQ-LoRA's rule",
          "[quant][property]") {
  for (const scale_type type : double_types) {
    for (int bits = 2; bits <= 8; ++bits) {
      for (const index_t block : {1, 2, 7, 8, 16, 256}) {
        CAPTURE(scale_type_name(type), bits, block);
        const std::vector<float> scales = typical_scales(83, static_cast<std::uint64_t>(10 * bits + block));
        const round_trip trip = store(scales, double_quantized(bits, type, block));
        const double minimum = static_cast<double>(*std::min_element(scales.begin(), scales.end()));
        CHECK(static_cast<double>(trip.stored.base) == minimum);
        const double top = (1 << bits) - 1;
        int num_wrong = 0;
        for (std::size_t i = 0; i < scales.size(); ++i) {
          const std::size_t first = i / static_cast<std::size_t>(block) * static_cast<std::size_t>(block);
          const std::size_t last = std::min(scales.size(), first + static_cast<std::size_t>(block));
          double largest = 0;
          for (std::size_t j = first; j < last; ++j) {
            largest = std::max(largest, static_cast<double>(scales[j]) - minimum);
          }
          const double super = slow_number(type, trip.stored.supers.data(), static_cast<index_t>(i) / block);
          const double unit =
              type == scale_type::fp32 ? 0x1p-23 : (type == scale_type::fp16 ? 0x1p-11 : 0x1p-8);
          if (std::fabs(super - largest) > unit * largest + 0x1p-25) ++num_wrong; // 2^-25: fp16's subnormals
          const auto code =
              slow_code(code_order::lsb_first, trip.stored.codes.data(), 83, bits, static_cast<index_t>(i));
          double steps = super <= 0x1p-24 ? 0.0 : (static_cast<double>(scales[i]) - minimum) * top / super;
          steps = std::clamp(steps, 0.0, top);
          // Rounded to an integer, in float arithmetic with 3 roundings on up to 255 steps.
          if (std::fabs(static_cast<double>(code) - steps) > 0.5 + 255 * 0x1p-22) ++num_wrong;
          const double expected = slow_scale(trip.stored, static_cast<index_t>(i));
          if (std::fabs(static_cast<double>(trip.after[i]) - expected) > 0x1p-22 * expected) ++num_wrong;
          // What the user sees: half a step, and what rounding the block's number cuts off at its top.
          const double bound = super / top / 2 * (1 + 1e-4) + std::max(0.0, largest - super) + 1e-9;
          if (super > 0x1p-24 && std::fabs(static_cast<double>(trip.after[i] - scales[i])) > bound)
            ++num_wrong;
        }
        CHECK(num_wrong == 0);
      }
    }
  }
}

TEST_CASE("scale_codec: double_min gives worked example 2 of LQ-LoRA", "[quant]") {
  const round_trip trip = store({1, 2, 0.4F, 0.8F}, double_quantized(8, scale_type::fp32, 2));
  CHECK(trip.stored.base == 0.4F);
  CHECK(trip.stored.codes == std::vector<std::uint8_t>{96, 255, 0, 255});
  CHECK(is_near(slow_number(scale_type::fp32, trip.stored.supers.data(), 0), 1.6, 2e-7));
  CHECK(is_near(slow_number(scale_type::fp32, trip.stored.supers.data(), 1), 0.4, 1e-7));
  CHECK(is_near(static_cast<double>(trip.after[0]), 1.00235294, 2e-7));
  CHECK(trip.after[1] == 2.0F);
  CHECK(trip.after[2] == 0.4F);
  CHECK(trip.after[3] == 0.8F);
}

TEST_CASE("scale_codec: double_min takes differences of 2^-24 and below as zero", "[quant]") {
  CHECK(store({1, 1, 1}, double_quantized()).after == std::vector<float>{1, 1, 1});
  CHECK(store({0, 0x1p-24F}, double_quantized()).after == std::vector<float>{0, 0});
  CHECK(store({0, 0x1.000002p-24F}, double_quantized()).after[1] > 0.0F);
  // Also where a file holds codes that are not zero.
  stored_scales read{double_quantized(), 1, {255}, {0, 0, 0x80, 0x33}, 0.5F}; // 0x33800000 is 2^-24
  CHECK(decode_scale(read.view(), 0) == 0.5F);
  read.supers[3] = 0x34; // 2^-22
  CHECK(decode_scale(read.view(), 0) == 0.5F + 0x1p-22F);
}

TEST_CASE("scale_codec: double_mean agrees with a search of bitsandbytes' map", "[quant][property]") {
  const std::vector<double> map = slow_dynamic_map();
  for (const index_t count : {1, 2, 255, 256, 257, 600}) {
    CAPTURE(count);
    const std::vector<float> scales = typical_scales(count, static_cast<std::uint64_t>(count));
    const round_trip trip = store(scales, nested_bitsandbytes());
    double mean = 0;
    for (const float scale : scales) mean += static_cast<double>(scale) / static_cast<double>(count);
    CHECK(is_near(static_cast<double>(trip.stored.base), mean, 0x1p-23 * mean));
    int num_wrong = 0;
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const double super =
          slow_number(scale_type::fp32, trip.stored.supers.data(), static_cast<index_t>(i) / 256);
      const double off = static_cast<double>(scales[i] - trip.stored.base);
      double least = 1e9;
      for (const double level : map) least = std::min(least, std::fabs(level * super - off));
      const double distance = std::fabs(map[trip.stored.codes[i]] * super - off);
      if (distance > least + 0x1p-22 * std::fabs(off)) ++num_wrong; // the quotient and the map are floats
      const double expected = slow_scale(trip.stored, static_cast<index_t>(i));
      // Two float roundings, of the product and of the sum (one where they are fused).
      const double rounding = 0x1p-23 * (std::fabs(expected) + super);
      if (std::fabs(static_cast<double>(trip.after[i]) - expected) > rounding) ++num_wrong;
      // What the user sees: half the widest gap of the map, 0.9 / 64 at its ends (and -1 is 0.00703 beyond).
      if (std::fabs(static_cast<double>(trip.after[i] - scales[i])) > 0.0070313 * super + rounding)
        ++num_wrong;
    }
    CHECK(num_wrong == 0);
  }
}

TEST_CASE("dynamic_map: has the 256 levels of bitsandbytes", "[quant]") {
  // The table has the rounding of a single-precision linspace: up to two units in the last place.
  const std::vector<double> expected = slow_dynamic_map();
  REQUIRE(expected.size() == 256);
  for (int code = 0; code < 256; ++code) {
    const auto level = static_cast<double>(dynamic_map().decode(static_cast<code_t>(code)));
    const double wanted = expected[static_cast<std::size_t>(code)];
    CHECK(is_near(level, wanted, 0x1p-22 * std::fabs(wanted)));
  }
  CHECK(dynamic_map().decode(0) == -0.99296875F);
  CHECK(is_near(static_cast<double>(dynamic_map().decode(126)), -5.5e-7, 1e-13));
  CHECK(dynamic_map().decode(127) == 0.0F);
  CHECK(is_near(static_cast<double>(dynamic_map().decode(128)), 5.5e-7, 1e-13));
  CHECK(is_near(static_cast<double>(dynamic_map().decode(129)), 3.25e-6, 1e-12));
  CHECK(dynamic_map().decode(254) == 0.99296875F);
  CHECK(dynamic_map().decode(255) == 1.0F);
}
