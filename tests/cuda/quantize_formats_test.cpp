// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Every format on a device against the CPU.
#include <cuda/quantize_support.hpp>
#include <qlr/decompose/adapter.hpp>
#include <qlr/quant/formats.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

struct shape {
  index_t rows;
  index_t cols;
};

/// Both ways of quantizing agree in every bit, or in what they refuse.
void check_against_cpu(const any_quantizer& quantizer, const matrix<float>& w,
                       scale_search_mode search = scale_search_mode::as_configured) {
  CAPTURE(quantizer.name(), w.rows(), w.cols(), search == scale_search_mode::on);
  quantize_hints hints;
  hints.search = search;
  cuda::device_quantize_hints device_hints;
  device_hints.search = search;
  quantized_matrix expected;
  const report refusal = report_of([&] { expected = quantizer.quantize(w.view(), hints, {}); });
  if (refusal.message.empty()) {
    check_same(quantize_on_device(quantizer, w, device_hints), expected);
  } else {
    const report on_device = report_of([&] { (void)quantize_on_device(quantizer, w, device_hints); });
    CHECK(on_device.message == refusal.message);
    CHECK(on_device.code == refusal.code);
  }
}

any_quantizer make(std::string_view format, std::optional<index_t> group_size, const scale_format& scales) {
  format_options request;
  request.group_size = group_size;
  request.scales = scales;
  return make_quantizer(format, request);
}

} // namespace

TEST_CASE("quantize on a device: every named format gives the CPU's codes and scales", "[cuda]") {
  if (!has_device()) return;
  for (const format_description& format : named_formats) {
    const any_quantizer quantizer = make_quantizer(format.name);
    for (const shape s : {shape{1, 1}, shape{1, 131}, shape{5, 67}, shape{2, 515}, shape{33, 8}}) {
      const matrix<float> w = awkward_matrix(s.rows, s.cols, 7);
      check_against_cpu(quantizer, w, scale_search_mode::off);
      check_against_cpu(quantizer, w, scale_search_mode::on);
    }
  }
}

TEST_CASE("quantize on a device: the result does not depend on the order of threads", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(5, 67, 11);
  const std::array<any_quantizer, 6> quantizers{make_quantizer("nf4"),
                                                make_quantizer("uint3"),
                                                make_quantizer("nvfp4"),
                                                make_quantizer("q4_0"),
                                                make("nf3", 16, nested_bitsandbytes()),
                                                make("int4", 16, double_quantized(3, scale_type::bf16, 5))};
  in_every_order([&] {
    for (const any_quantizer& quantizer : quantizers) check_against_cpu(quantizer, w, scale_search_mode::on);
  });
}

TEST_CASE("quantize on a device: every storage of scales", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(5, 100, 3);
  const std::array<scale_format, 11> storages{scale_format{scale_coding::plain, scale_type::fp32},
                                              scale_format{scale_coding::plain, scale_type::fp16},
                                              scale_format{scale_coding::plain, scale_type::bf16},
                                              scale_format{scale_coding::plain, scale_type::e8m0},
                                              scale_format{scale_coding::plain, scale_type::e4m3},
                                              scale_format{scale_coding::tensor_scaled, scale_type::e4m3},
                                              scale_format{scale_coding::tensor_scaled, scale_type::fp16},
                                              double_quantized(),
                                              double_quantized(3, scale_type::fp16, 7),
                                              double_quantized(5, scale_type::bf16, 1000),
                                              nested_bitsandbytes()};
  for (const scale_format& scales : storages) {
    for (const char* name : {"nf4", "int3", "uint5", "fp4", "sign"}) {
      CAPTURE(to_string(scales));
      const any_quantizer quantizer = make(name, 16, scales);
      check_against_cpu(quantizer, w, scale_search_mode::off);
      check_against_cpu(quantizer, w, scale_search_mode::on);
    }
  }
}

TEST_CASE("quantize on a device: groups of any size, a short last one included", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(2, 1100, 5);
  for (const index_t group : {1, 3, 31, 64, 255, 320, 321}) {
    for (const char* name : {"nf4", "uint3", "minmax2", "iq4_nl"}) {
      if (std::string_view(name) == "iq4_nl" && group != 64) continue;
      CAPTURE(group);
      const bool is_fixed = std::string_view(name) == "iq4_nl";
      const any_quantizer quantizer = is_fixed ? make_quantizer(name) : make(name, group, {});
      check_against_cpu(quantizer, w, scale_search_mode::off);
    }
  }
  check_against_cpu(make("nf4", 255, {}), w, scale_search_mode::on);
  check_against_cpu(make("uint4", 48, {}), w, scale_search_mode::on);
}

TEST_CASE("quantize on a device: quantizers of adapters", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(3, 139, 17);
  for (const int bits : {1, 2, 3, 8}) {
    for (const adapter_range range :
         {adapter_range::searched, adapter_range::extended, adapter_range::tight}) {
      adapter_options options;
      options.high_bits = bits;
      options.group_size = 32;
      CAPTURE(bits);
      check_against_cpu(make_high_quantizer(options, range), w);
      options.range = range;
      check_against_cpu(make_low_quantizer(options), w);
    }
  }
}

TEST_CASE("quantize on a device: other tools' forms of normal floats", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(3, 139, 19);
  quantizer_options options;
  options.scales = nested_bitsandbytes();
  options.encode_with_exact_scale = true;
  using msb_first = quantizer<codebook_grid<4>, absmax_rule, msb_first_packing>;
  const codebook_grid<4> nf4(nf4_bitsandbytes_levels);
  check_against_cpu(msb_first("bitsandbytes", nf4, absmax_rule{}, options), w);
  const auto levels = normal_float_levels(3, normal_float_construction::lq_lora);
  options.scales = double_quantized();
  check_against_cpu(quantizer("lq-lora", codebook_grid<3>(levels), largest_magnitude_rule{}, options), w);
}

TEST_CASE("quantize on a device: large groups are reduced by many threads", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(4, 700, 23);
  for (const index_t group : {group_per_row, group_per_tensor, index_t{350}}) {
    // Extremes do not depend on the order of reduction.
    for (const char* name : {"nf4", "int4", "uint3", "minmax4", "mxint4", "bfp3", "fp4"}) {
      CAPTURE(group);
      check_against_cpu(make(name, group, scale_format{scale_coding::plain, scale_type::fp32}), w,
                        scale_search_mode::off);
    }
  }
}

TEST_CASE("quantize on a device: sums over large groups differ from the CPU's by rounding alone", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = weight_like_matrix(3, 650, 29);
  const scale_format fp32{scale_coding::plain, scale_type::fp32};
  quantizer_options options;
  options.group_size = group_per_row;
  options.scales = fp32;
  const std::vector<any_quantizer> quantizers{
      make("sign", group_per_row, fp32),
      quantizer<codebook_grid<4>, refitted_signed_max_rule, split_half_packing>(
          "iq4", codebook_grid<4>(iq4_nl_levels, midpoint_rule::upper), refitted_signed_max_rule{}, options),
      quantizer("searched", unsigned_grid(2), searched_range_rule{scale_type::fp32}, options),
      quantizer("padded", codebook_grid<1>(sign_levels, midpoint_rule::upper), padded_mean_rule{700},
                options)};
  for (const any_quantizer& quantizer : quantizers) {
    CAPTURE(quantizer.name());
    const quantized_matrix actual = quantize_on_device(quantizer, w);
    const quantized_matrix expected = quantizer.quantize(w.view(), {}, {});
    for (index_t i = 0; i < 3; ++i) {
      const auto scale = static_cast<double>(expected.view().block(i).scale);
      // The CPU adds up to four terms in float before it goes on in double.
      CHECK(is_near(static_cast<double>(actual.view().block(i).scale), scale, 1e-6 * std::fabs(scale)));
      CHECK(is_same(actual.view().block(i).zero, expected.view().block(i).zero));
    }
  }
}

TEST_CASE("quantize on a device: the search of large groups is as good as the CPU's", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = weight_like_matrix(2, 400, 31);
  for (const char* name : {"nf4", "int2"}) {
    for (const index_t group : {group_per_row, group_per_tensor}) {
      CAPTURE(name, group);
      const any_quantizer quantizer = make(name, group, scale_format{scale_coding::plain, scale_type::fp32});
      cuda::device_quantize_hints hints;
      hints.search = scale_search_mode::on;
      quantize_hints host_hints;
      host_hints.search = scale_search_mode::on;
      const auto error_of = [&](const quantized_matrix& q) {
        const matrix<float> values = dequantize(q);
        double sum = 0;
        for (index_t i = 0; i < w.size(); ++i)
          sum += std::pow(static_cast<double>(w.data()[i] - values.data()[i]), 2);
        return sum;
      };
      const double error = error_of(quantize_on_device(quantizer, w, hints));
      const double expected = error_of(quantizer.quantize(w.view(), host_hints, {}));
      CHECK(is_near(error, expected, 1e-5 * expected));
      CHECK(error < 0.999 * error_of(quantizer.quantize(w.view(), {}, {}))); // it did search
    }
  }
}

TEST_CASE("quantize on a device: a matrix may have any strides or no elements", "[cuda]") {
  if (!has_device()) return;
  for (const char* name : {"nf4", "uint3", "nvfp4", "q4_0"}) {
    const any_quantizer quantizer = make_quantizer(name);
    const matrix<float> w = awkward_matrix(5, 67, 37);
    const spread_matrix spread(w);
    const quantized_matrix expected = quantizer.quantize(w.view(), {}, {});
    check_same(cuda::to_host(cuda::quantize<test_launcher>(quantizer, spread.view(), {}, nullptr)), expected);
    matrix<float> columns(w.cols(), w.rows());
    for (index_t i = 0; i < w.rows(); ++i) {
      for (index_t j = 0; j < w.cols(); ++j) columns(j, i) = w(i, j);
    }
    const auto on_device = cuda::to_device(columns.view());
    check_same(cuda::to_host(
                   cuda::quantize<test_launcher>(quantizer, read_only(on_device).transposed(), {}, nullptr)),
               expected);
    for (const shape s : {shape{0, 0}, shape{0, 64}, shape{3, 0}}) {
      CAPTURE(name, s.rows, s.cols);
      check_against_cpu(quantizer, matrix<float>(s.rows, s.cols));
    }
  }
  check_against_cpu(make("nf4", 16, double_quantized()), matrix<float>(0, 64));
  check_against_cpu(make("nf4", group_per_tensor, {}), matrix<float>(0, 64));
}
