// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// What quantizing on a device takes and refuses, and its steps one by one.
#include <cuda/quantize_support.hpp>
#include <qlr/quant/normal_float.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

using nf4_quantizer = quantizer<codebook_grid<4>, absmax_rule>;

nf4_quantizer nf4(quantizer_options options = {}) {
  options.allow_short_group = true;
  return {"nf4", codebook_grid<4>(nf4_bitsandbytes_levels), absmax_rule{}, options};
}

quantizer_options stored_as(const scale_format& scales, index_t group_size = 16) {
  quantizer_options options;
  options.group_size = group_size;
  options.scales = scales;
  return options;
}

constexpr scale_format fp16_scales{};
constexpr scale_format fp32_scales{scale_coding::plain, scale_type::fp32};

} // namespace

// Not in the nameless namespace, where compilers object to what only templates call.
namespace user {

using namespace qlr;

/// A grid and a rule of a user.
struct power_of_two_grid {
  int smallest = -3; ///< exponent of the smallest magnitude

  QLR_HOST_DEVICE static int bits() { return 3; }
  QLR_HOST_DEVICE static int num_codes() { return 8; }
  QLR_HOST_DEVICE code_t encode(float value) const {
    const float magnitude = value < 0 ? -value : value;
    int exponent = 0;
    for (int i = 3; i > 0; --i) exponent += magnitude > 0.75F * decode(static_cast<code_t>(i)) ? 1 : 0;
    return static_cast<code_t>(exponent + (value < 0 ? 4 : 0));
  }
  QLR_HOST_DEVICE float decode(code_t code) const {
    const float magnitude = static_cast<float>(1 << (code & 3)) / static_cast<float>(1 << -smallest);
    return (code & 4) != 0 ? -magnitude : magnitude;
  }
  QLR_HOST_DEVICE float absmax_level() const { return decode(3); }
  QLR_HOST_DEVICE float lowest_level() const { return -decode(3); }
};

struct half_largest_rule {
  static constexpr zero_point zeros = zero_point::none;

  template <class Block, grid_policy Grid>
  [[nodiscard]] QLR_HOST_DEVICE block_scale find(const Block& block, const Grid& grid) const {
    return {0.5F * largest_magnitude(block) / grid.absmax_level(), 0.0F};
  }
};

} // namespace user

TEST_CASE("quantize on a device: a user's grid and rule", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(2, 1050, 41);
  for (const index_t group : {index_t{25}, group_per_row}) {
    const quantizer own("own", user::power_of_two_grid{}, user::half_largest_rule{},
                        stored_as(fp32_scales, group));
    check_same(quantize_on_device(own, w), own.quantize(w.view(), {}, {}));
  }
}

TEST_CASE("quantize on a device: column weights and the scales of an earlier matrix guide the search",
          "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(12, 75, 43);
  matrix<float> before = w;
  for (index_t i = 0; i < w.size(); ++i) before.data()[i] *= 0.93F;
  std::vector<float> weights(75);
  random_source random(5);
  for (float& weight : weights) weight = static_cast<float>(random.between(0.0, 10.0));
  for (const scale_format& scales : {fp16_scales, double_quantized(4)}) {
    const quantizer<uniform_grid<>, absmax_rule> quantizer("int6", mantissa_grid(6), absmax_rule{},
                                                           stored_as(scales));
    const quantized_matrix previous = quantizer.quantize(before.view(), {}, {});
    const auto device_previous = cuda::to_device(previous);
    const auto device_weights = cuda::to_device(std::span<const float>(weights));
    const quantize_hints hints{weights.data(), &previous, scale_search_mode::on};
    const cuda::device_quantize_hints device_hints{device_weights.data(), &device_previous,
                                                   scale_search_mode::on};
    const quantized_matrix expected = quantizer.quantize(w.view(), hints, {});
    check_same(quantize_on_device(quantizer, w, device_hints), expected);
    if (scales.is_double()) continue; // four bits hide small differences of scales
    // Each of the hints matters.
    const quantize_hints unweighted{nullptr, &previous, scale_search_mode::on};
    const quantize_hints alone{weights.data(), nullptr, scale_search_mode::on};
    for (const quantize_hints& fewer : {unweighted, alone}) {
      const bool is_same_without = expected.codes() == quantizer.quantize(w.view(), fewer, {}).codes();
      CHECK_FALSE(is_same_without);
    }
  }
}

TEST_CASE("quantize on a device: elements that are not finite are named", "[cuda]") {
  if (!has_device()) return;
  in_every_order([] {
    matrix<float> w = normal_matrix(5, 600, 3);
    w(4, 0) = std::numeric_limits<float>::infinity();
    w(3, 599) = std::numeric_limits<float>::quiet_NaN();
    w(3, 17) = -std::numeric_limits<float>::infinity();
    const auto quantizer = nf4();
    const report failure = report_of([&] { (void)quantize_on_device(quantizer, w); });
    CHECK(failure.says(status_code::non_finite,
                       "weight(3, 17) is -inf, every element must be finite in float"));
  });
  matrix<double> w(2, 3, 1.0);
  w(1, 2) = 1e39;
  const auto on_device = cuda::to_device(w.view());
  const cuda::device_view<const double> view = on_device.view();
  CHECK(report_of([&] {
          cuda::require_finite<test_launcher>(view, "W", nullptr);
        }).says(status_code::non_finite, "W(1, 2) is 1e+39"));
  CHECK(report_of([&] {
          cuda::require_finite<test_launcher>(view.transposed(), "W", nullptr);
        }).says(status_code::non_finite, "W(2, 1) is 1e+39"));
  CHECK(report_of([&] {
          cuda::require_finite<test_launcher>(view.middle_rows(0, 1), "W", nullptr);
        }).message.empty());
  CHECK(report_of([&] {
          cuda::require_finite<test_launcher>(view.middle_rows(0, 0), "W", nullptr);
        }).message.empty());
}

TEST_CASE("quantize on a device: a scale beyond the range of its format is reported", "[cuda]") {
  if (!has_device()) return;
  matrix<float> w = normal_matrix(40, 64, 3);
  w(21, 20) = -3e6F;
  w(37, 5) = 4e6F;
  const auto message_of = [](auto&& call) { return report_of(call).message; };
  for (const scale_format& scales : {fp16_scales, double_quantized(8, scale_type::fp16, 3)}) {
    const auto quantizer = nf4(stored_as(scales));
    const std::string expected = message_of([&] { (void)quantizer.quantize(w.view(), {}, {}); });
    CHECK(expected.find("beyond the range of fp16") != std::string::npos);
    in_every_order([&] {
      CHECK(message_of([&] { (void)quantize_on_device(quantizer, w); }) == expected);
      // The asynchronous form reports when it is asked.
      const auto on_device = cuda::to_device(w.view());
      const auto q = cuda::quantize_async<test_launcher>(quantizer, read_only(on_device), {}, nullptr);
      CHECK(message_of([&] { q.check(); }) == expected);
      CHECK(message_of([&] { (void)cuda::to_host(q); }) == expected);
    });
  }
  CHECK(message_of([&] { (void)quantize_on_device(nf4(stored_as(fp32_scales)), w); }).empty());
}

TEST_CASE("quantize on a device: what does not fit is refused before a kernel runs", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = normal_matrix(4, 64, 3);
  const auto on_device = cuda::to_device(w.view());
  quantizer_options wide;
  wide.group_size = 65;
  const nf4_quantizer too_wide("nf4", codebook_grid<4>(nf4_bitsandbytes_levels), absmax_rule{}, wide);
  CHECK(report_of([&] {
          (void)quantize_on_device(too_wide, w);
        }).says(status_code::invalid_argument, "group_size is 65"));
  const auto previous = cuda::to_device(nf4(stored_as({}, 32)).quantize(w.view(), {}, {}));
  CHECK(report_of([&] {
          (void)quantize_on_device(nf4(stored_as({}, 16)), w, {nullptr, &previous, scale_search_mode::on});
        }).says(status_code::shape_mismatch, "hints.previous has 8 scales, the layout has 16"));
  const quantizer unknown("own", user::power_of_two_grid{}, user::half_largest_rule{}, quantizer_options{});
  CHECK(report_of([&] {
          cuda::visit_device_quantizer(any_quantizer(unknown), [](const auto&) {});
        }).says(status_code::unsupported, "quantizer own is of a type without device code"));
  // The visitor finds what is known.
  CHECK(cuda::visit_device_quantizer(make_quantizer("q4_0"), [](const auto& concrete) {
    return std::same_as<std::remove_cvref_t<decltype(concrete)>,
                        quantizer<uniform_grid<tie_rule::half_up>, signed_max_rule, split_half_packing>>;
  }));
}

TEST_CASE("quantize on a device: fitting, rounding and assembling give what quantize gives", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(5, 75, 47);
  const quantizer<uniform_grid<>, min_max_rule> affine("uint3", unsigned_grid(3), min_max_rule{},
                                                       stored_as({}));
  const auto check = [&](const auto& quantizer) {
    const auto on_device = cuda::to_device(w.view());
    const quantized_layout layout = quantizer.layout(w.rows(), w.cols());
    cuda::device_scales scales =
        cuda::fit_scales<test_launcher>(quantizer, read_only(on_device), {}, nullptr);
    const fitted_scales expected = quantizer.fit_scales(w.view(), {}, {});
    std::vector<block_scale> blocks(static_cast<std::size_t>(layout.num_scales()));
    cuda::copy_to_host(std::as_const(scales).blocks.data(), std::span<block_scale>(blocks), nullptr);
    matrix<code_t> codes(w.rows(), w.cols());
    for (index_t i = 0; i < w.rows(); ++i) {
      for (index_t j = 0; j < w.cols(); ++j) {
        const index_t index = layout.scale_index(i, j / layout.group_cols());
        const block_scale& block = blocks[static_cast<std::size_t>(index)];
        CHECK(is_same(block.scale, expected.blocks[static_cast<std::size_t>(index)].scale));
        CHECK(is_same(block.zero, expected.blocks[static_cast<std::size_t>(index)].zero));
        codes(i, j) = round_value(quantizer.grid(), block, w(i, j)).code;
      }
    }
    const auto device_codes = cuda::to_device(codes.view());
    const cuda::device_view<const code_t> codes_view = device_codes.view();
    const auto q = cuda::assemble<test_launcher>(quantizer, layout, std::move(scales), codes_view, nullptr);
    check_same(cuda::to_host(q), quantizer.quantize(w.view(), {}, {}));
    // The scales of a matrix serve again.
    cuda::device_scales own = cuda::scales_of<test_launcher>(q, nullptr);
    std::vector<block_scale> own_blocks(blocks.size());
    cuda::copy_to_host(std::as_const(own).blocks.data(), std::span<block_scale>(own_blocks), nullptr);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      CHECK(is_same(own_blocks[i].scale, blocks[i].scale));
      CHECK(is_same(own_blocks[i].zero, blocks[i].zero));
    }
    const auto again = cuda::assemble<test_launcher>(quantizer, layout, std::move(own), codes_view, nullptr);
    check_same(cuda::to_host(again), cuda::to_host(q));
  };
  in_every_order([&] {
    check(nf4(stored_as(double_quantized(5, scale_type::fp32, 3))));
    check(affine);
  });
  const matrix<code_t> few(4, 75, 0);
  const auto device_few = cuda::to_device(few.view());
  const cuda::device_view<const code_t> view = device_few.view();
  CHECK(report_of([&] {
          (void)cuda::assemble<test_launcher>(affine, affine.layout(5, 75), {}, view, nullptr);
        }).says(status_code::shape_mismatch, "assemble: codes are 4 x 75, the layout is 5 x 75"));
}

TEST_CASE("device_quantized_matrix: comes back from the device as it was, or says what does not fit",
          "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(5, 75, 53);
  for (const scale_format& scales : {fp16_scales, double_quantized(5), nested_bitsandbytes()}) {
    const quantized_matrix q = nf4(stored_as(scales)).quantize(w.view(), {}, {});
    check_same(cuda::to_host(cuda::to_device(q)), q);
  }
  const quantized_layout layout = nf4(stored_as({})).layout(5, 75);
  CHECK(report_of([&] {
          (void)cuda::device_quantized_matrix("nf4", layout, cuda::device_buffer<float>(16),
                                              cuda::device_buffer<std::uint8_t>(189), {}, {}, {}, {});
        })
            .says(status_code::shape_mismatch,
                  "device_quantized_matrix: codes has 189 entries, the layout needs 190"));
}
