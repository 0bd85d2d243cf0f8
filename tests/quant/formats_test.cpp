// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/formats.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr scale_format fp32{scale_coding::plain, scale_type::fp32};
using shape = std::pair<index_t, index_t>;

/// Shapes around every unit that the code works in, and those without elements.
const std::vector<shape> awkward_shapes{{1, 1},  {1, 7},  {1, 8},  {1, 9},   {1, 15}, {1, 16}, {1, 17},
                                        {1, 31}, {1, 32}, {1, 33}, {1, 63},  {1, 64}, {1, 65}, {2, 1},
                                        {9, 1},  {5, 31}, {3, 65}, {4, 100}, {0, 5},  {5, 0},  {0, 0}};

/// A named format with every group size that it takes; calls visit(label, quantizer).
template <class Visit>
void for_each_variant(index_t cols, Visit&& visit, std::optional<scale_format> scales = {}) {
  for (const format_description& format : named_formats) {
    if (format.is_fixed) {
      if (!scales) visit(std::string(format.name), make_quantizer(format.name));
      continue;
    }
    for (const index_t group :
         {group_per_row, group_per_tensor, index_t{7}, index_t{16}, format.group_size}) {
      if (group > cols && cols != 0) continue;
      format_options request;
      request.group_size = group;
      request.scales = scales;
      visit(sentence(format.name, " group ", group), make_quantizer(format.name, request));
    }
  }
}

quantized_matrix quantize_all(const matrix<float>& weight, const any_quantizer& quantizer,
                              const executor& run = {}) {
  return quantize(weight.view(), quantizer, run);
}

/// The decoded matrix; checks that every element is written, finite and what the slow oracle finds.
matrix<float> checked_decode(const quantized_matrix& q) {
  matrix<float> out(q.rows(), q.cols(), std::numeric_limits<float>::quiet_NaN());
  dequantize(q.view(), out.view());
  const matrix<float> expected = slow_dequantize(q);
  index_t num_wrong = 0;
  for (index_t i = 0; i < out.size(); ++i) {
    if (!is_finite(out.data()[i]) || out.data()[i] != expected.data()[i]) ++num_wrong;
  }
  CHECK(num_wrong == 0);
  return out;
}

/// Number of elements whose code is not the nearest one for the stored scale and zero point.
index_t count_not_nearest(const quantized_matrix& q, const matrix<float>& weight) {
  const bool has_unused_code = q.format_name().starts_with("mxint") || q.format_name().starts_with("bfp");
  double reach = 0;
  for (const float level : q.levels()) reach = std::max(reach, std::fabs(static_cast<double>(level)));
  index_t num_wrong = 0;
  for (index_t i = 0; i < q.rows(); ++i) {
    for (index_t j = 0; j < q.cols(); ++j) {
      const slow_block block = block_of(q, i, j);
      const auto distance = [&](std::size_t code) {
        return std::fabs((static_cast<double>(q.levels()[code]) - block.zero) * block.scale -
                         static_cast<double>(weight(i, j)));
      };
      double least = std::numeric_limits<double>::infinity();
      for (std::size_t code = has_unused_code ? 1 : 0; code < q.levels().size(); ++code) {
        least = std::min(least, distance(code));
      }
      // Beside a threshold the quotient by the scale and the sum with the zero point are rounded to float.
      // The codes of Q4_0 and Q8_0 belong to the scale before it is rounded to fp16.
      const bool is_exact = q.format_name() == "q4_0" || q.format_name() == "q8_0";
      const double rounding = is_exact ? 0x1p-10 : 0x1p-21;
      const double tolerance = rounding * (reach + block.zero) * std::fabs(block.scale);
      if (distance(code_of(q, i, j)) > least + std::fabs(tolerance)) ++num_wrong;
    }
  }
  return num_wrong;
}

float largest(const matrix<float>& values) {
  float result = 0;
  for (index_t i = 0; i < values.size(); ++i) result = std::max(result, std::fabs(values.data()[i]));
  return result;
}

} // namespace

TEST_CASE("formats: decoding gives what a walk over the bits gives, for awkward shapes",
          "[quant][property]") {
  for (const auto& [rows, cols] : awkward_shapes) {
    const matrix<float> weight =
        normal_matrix(rows, cols, static_cast<std::uint64_t>(100 * rows + cols), 0.02);
    for_each_variant(cols, [&, r = rows, c = cols](const std::string& label, const any_quantizer& quantizer) {
      CAPTURE(label, r, c);
      const quantized_matrix q = quantize_all(weight, quantizer);
      CHECK(q.rows() == r);
      CHECK(q.cols() == c);
      const matrix<float> back = checked_decode(q);
      CHECK(squared_error(back, weight) <=
            squared_error(matrix<float>(r, c, 0.0F), weight)); // better than zeros
      CHECK(count_not_nearest(q, weight) == 0);
    });
  }
}

TEST_CASE("formats: more bits give a smaller error", "[quant][property]") {
  const matrix<float> weight = weight_like_matrix(24, 256, 12);
  std::map<std::string, double> last;
  for (const format_description& format : named_formats) {
    const std::string name(format.name);
    const std::string family = name.substr(0, name.find_last_not_of("0123456789") + 1);
    if (family.back() == '_') continue;
    const double error = squared_error(dequantize(quantize_all(weight, make_quantizer(name))), weight);
    CAPTURE(name);
    if (last.contains(family)) CHECK(error < last[family]);
    last[family] = error;
  }
  CHECK(last.size() >= 8);
}

TEST_CASE("formats: quantizing a decoded matrix again returns the same codes", "[quant][property]") {
  // Exceptions, seen to be ones below:
  //   bfp    the largest element may round down to a power of two; the ceiling of its exponent is then one
  //   less.
  //          bfp2 keeps its codes but halves its scale, as its largest level is 1/2.
  //   uint   with fp16 scales: rounding the scale may move an end of the range to the next code, and the
  //   second
  //          range is one step shorter. With fp32 scales both ends keep their codes.
  // minmax and nvfp4 keep all codes while their real zero point or tensor scale moves by its rounding.
  std::set<std::string> changed;
  for (const auto& [rows, cols] : std::vector<shape>{{1, 1}, {7, 33}, {4, 100}, {16, 256}}) {
    const matrix<float> weight = weight_like_matrix(rows, cols, static_cast<std::uint64_t>(cols));
    const matrix<float> zeros(rows, cols, 0.0F);
    const auto check = [&](const std::string& label, const any_quantizer& quantizer) {
      const std::string name = quantizer.name();
      const bool is_affine = name.starts_with("uint");
      const quantized_matrix once = quantize_all(weight, quantizer);
      const matrix<float> decoded = dequantize(once);
      const quantized_matrix twice = quantize_all(decoded, quantizer);
      const double moved = squared_error(dequantize(twice), decoded);
      if (name.starts_with("bfp") || (is_affine && once.layout().scales.type == scale_type::fp16)) {
        if (moved > 0) changed.insert(name);
        return;
      }
      CAPTURE(label, weight.rows(), weight.cols());
      CHECK(once.codes() == twice.codes());
      if (is_affine) CHECK(once.zeros() == twice.zeros());
      const bool may_round =
          name.starts_with("minmax") || name == "nvfp4" || once.layout().scales.type == scale_type::fp32;
      const double size = squared_error(decoded, zeros);
      CHECK(moved <= (may_round ? 1e-12 * size : 0.0)); // 1e-6 of the elements: a few units in the last place
    };
    for_each_variant(cols, check);
    for_each_variant(cols, check, fp32);
  }
  for (const char* const name : {"bfp2", "bfp3", "bfp4", "bfp5", "bfp6", "bfp7", "bfp8", "uint8"}) {
    CAPTURE(name);
    CHECK(changed.contains(name));
  }
}

TEST_CASE("formats: zeros decode to zero", "[quant]") {
  for (const auto& [rows, cols] : std::vector<shape>{{1, 1}, {3, 33}, {2, 64}}) {
    const matrix<float> zeros(rows, cols, 0.0F);
    for_each_variant(cols, [&](const std::string& label, const any_quantizer& quantizer) {
      CAPTURE(label);
      CHECK(largest(checked_decode(quantize_all(zeros, quantizer))) == 0.0F);
    });
  }
}

TEST_CASE("formats: a block of zeros beside other blocks decodes to zero", "[quant]") {
  matrix<float> weight = normal_matrix(4, 64, 9);
  for (index_t j = 0; j < 64; ++j) weight(2, j) = 0;
  for_each_variant(64, [&](const std::string& label, const any_quantizer& quantizer) {
    if (quantizer.layout(4, 64).group_size == group_per_tensor) return;
    CAPTURE(label);
    const matrix<float> back = checked_decode(quantize_all(weight, quantizer));
    for (index_t j = 0; j < 64; ++j) CHECK(back(2, j) == 0.0F);
  });
}

TEST_CASE("formats: a constant block comes back within the rounding of its scale", "[quant]") {
  for (const float value : {1.0F, -1.0F, 0.37F, -0.37F, 0.93F, -1.0e-3F}) {
    const matrix<float> weight(2, 64, value);
    for_each_variant(64, [&](const std::string& label, const any_quantizer& quantizer) {
      const format_description& format = find_format(quantizer.name());
      // fp16 scales: 2^-11 and the rounding of the products. Powers of two: one step below the top of the
      // range, 2^(2 - b); MXFP4 has 4 and 6 in [4, 8). NVFP4: its one tensor scale makes the block scale 448
      // exactly.
      double tolerance = 0x1p-11 * (1 + 1e-3);
      if (format.scales.type == scale_type::e8m0) {
        tolerance = format.name == "mxfp4" ? 0.25 : std::ldexp(1.0, 2 - format.bits);
      }
      CAPTURE(label, value);
      const matrix<float> back = checked_decode(quantize_all(weight, quantizer));
      const double difference = std::fabs(static_cast<double>(back(1, 63)) - static_cast<double>(value));
      // Below 2^-14 an fp16 scale has fewer digits; 127 and 255 levels reach that for the smallest value
      // here.
      const double steps = std::max(1.0, std::ldexp(1.0, format.bits));
      CHECK(difference <= tolerance * std::fabs(static_cast<double>(value)) +
                              (format.scales.type == scale_type::fp16 ? steps * 0x1p-25 : 0.0));
      for (index_t i = 0; i < back.size(); ++i) CHECK(back.data()[i] == back.data()[0]);
    });
  }
}

TEST_CASE("formats: denormal and tiny elements give finite values of their size", "[quant]") {
  random_source random(13);
  for (const double size : {1e-45, 1e-41, 1e-38, 1e-37, 1e-30}) {
    matrix<float> weight(3, 65);
    for (index_t i = 0; i < weight.size(); ++i) {
      weight.data()[i] = static_cast<float>(size * random.between(-1, 1));
    }
    for (const std::optional<scale_format>& scales : {std::optional<scale_format>{}, std::optional(fp32)}) {
      for_each_variant(
          65,
          [&](const std::string& label, const any_quantizer& quantizer) {
            CAPTURE(label, size, scales.has_value());
            const matrix<float> back = checked_decode(quantize_all(weight, quantizer));
            CHECK(static_cast<double>(largest(back)) <= 2 * size);
          },
          scales);
    }
  }
}

TEST_CASE("formats: with a wide scale a power of two on the matrix is a power of two on the result",
          "[quant][property]") {
  const matrix<float> weight = weight_like_matrix(6, 64, 14);
  const auto check = [&](const std::string& label, const any_quantizer& quantizer) {
    CAPTURE(label);
    const quantized_matrix q = quantize_all(weight, quantizer);
    const matrix<float> back = checked_decode(q);
    for (const float factor : {0x1p100F, 0x1p-90F}) { // magnitudes of 1e30 and 1e-30
      const quantized_matrix other = quantize_all(scaled(weight, factor), quantizer);
      CHECK(other.codes() == q.codes());
      CHECK(squared_error(checked_decode(other), scaled(back, factor)) == 0.0);
    }
  };
  for_each_variant(64, check, fp32);
  for (const char* const name : {"mxint3", "bfp4", "mxfp4", "nvfp4"}) check(name, make_quantizer(name));
}

TEST_CASE("formats: fp16 scales refuse magnitudes that they cannot hold", "[quant]") {
  const matrix<float> weight = scaled(normal_matrix(2, 32, 15), 1e30F);
  for (const char* const name : {"int4", "uint4", "nf4", "fp4", "sign", "q4_0", "iq4_nl", "q8_0"}) {
    CAPTURE(name);
    format_options request;
    if (!find_format(name).is_fixed) request.group_size = 32;
    CHECK(report_of([&] {
            (void)quantize_all(weight, make_quantizer(name, request));
          }).says(status_code::unsupported, "the scale of block 0 is "));
  }
}

TEST_CASE("formats: any placement and type of the same numbers gives the same bytes", "[quant][property]") {
  const matrix<float> weight = weight_like_matrix(5, 67, 16);
  for_each_variant(67, [&](const std::string& label, const any_quantizer& quantizer) {
    CAPTURE(label);
    const quantized_matrix expected = quantize_all(weight, quantizer);
    for (const placement where : all_placements) {
      CHECK(has_same_bytes(quantize(placed_matrix<float>(weight.view(), where).view(), quantizer), expected));
      CHECK(
          has_same_bytes(quantize(placed_matrix<double>(weight.view(), where).view(), quantizer), expected));
    }
  });
}

TEST_CASE("threads: any number of threads gives the same bytes in every format", "[quant][threads]") {
  thread_pool two(2);
  thread_pool five(5);
  auto backwards = [](index_t num_tasks, task_ref task) {
    for (index_t i = num_tasks; i-- > 0;) task(i);
  };
  const matrix<float> weight = weight_like_matrix(8, 12007, 17); // five rows are one task
  REQUIRE(rows_per_task(weight.cols()) == 5);
  for (const format_description& format : named_formats) {
    CAPTURE(format.name);
    const any_quantizer quantizer = make_quantizer(format.name);
    const quantized_matrix expected = quantize_all(weight, quantizer);
    const matrix<float> values = dequantize(expected);
    for (const executor& run : {executor(two), executor(five), executor(backwards)}) {
      CHECK(has_same_bytes(quantize_all(weight, quantizer, run), expected));
      CHECK(squared_error(dequantize(expected, run), values) == 0.0);
    }
  }
}

TEST_CASE("formats: an unknown name is refused and all names are listed", "[quant]") {
  const report caught = report_of([] { (void)make_quantizer("nf5"); });
  CHECK(caught.says(status_code::invalid_argument, "quantizer is 'nf5', allowed are int2, int3"));
  for (const format_description& format : named_formats) {
    CHECK(caught.message.find(format.name) != std::string::npos);
  }
  CHECK(report_of([] { (void)find_format(""); }).says(status_code::invalid_argument, "quantizer is ''"));
  CHECK(
      report_of([] { (void)find_format("NF4"); }).says(status_code::invalid_argument, "quantizer is 'NF4'"));
}

TEST_CASE("formats: names are unique and describe what is made", "[quant]") {
  std::set<std::string_view> names;
  for (const format_description& format : named_formats) {
    CAPTURE(format.name);
    CHECK(names.insert(format.name).second);
    CHECK_FALSE(format.summary.empty());
    const any_quantizer quantizer = make_quantizer(format.name);
    CHECK(quantizer.name() == format.name);
    const quantized_layout layout = quantizer.layout(4, 512);
    CHECK(layout.bits == format.bits);
    CHECK(layout.group_size == format.group_size);
    CHECK(layout.scales == format.scales);
    CHECK(quantize_all(matrix<float>(1, 3, 1.0F), quantizer).format_name() == format.name);
  }
}

TEST_CASE("formats: a fixed format refuses other groups and scales, but not a narrow matrix", "[quant]") {
  for (const format_description& format : named_formats) {
    CAPTURE(format.name);
    CHECK(make_quantizer(format.name).layout(3, 5).num_scales() == 3); // narrower than a default group
    const report group =
        report_of([&] { (void)make_quantizer(format.name, {.group_size = 8, .scales = {}}); });
    const report scale =
        report_of([&] { (void)make_quantizer(format.name, {.group_size = {}, .scales = fp32}); });
    if (format.is_fixed) {
      CHECK(group.says(status_code::invalid_argument,
                       sentence("group_size is 8, ", format.name, " has groups of ", format.group_size)));
      CHECK(scale.says(status_code::invalid_argument, sentence("scale is fp32, ", format.name, " has ")));
    } else {
      CHECK(group.message.empty());
      CHECK(scale.message.empty());
    }
    CHECK(make_quantizer(format.name, {.group_size = format.group_size, .scales = format.scales}).name() ==
          format.name);
  }
  CHECK(report_of([] {
          (void)make_quantizer("int4", {.group_size = -2, .scales = {}});
        }).says(status_code::invalid_argument, "group_size is -2"));
  CHECK(report_of([] {
          (void)make_quantizer("int4", {.group_size = 8, .scales = {}}).layout(3, 5);
        }).says(status_code::invalid_argument, "group_size is 8"));
}

TEST_CASE("any_quantizer: gives what the quantizer inside gives", "[quant]") {
  const matrix<float> weight = weight_like_matrix(9, 130, 18);
  quantizer_options options;
  options.scales = fp32;
  const auto check = [&](const auto& concrete) {
    const any_quantizer any = concrete;
    const any_quantizer copy = any; // NOLINT(performance-unnecessary-copy-initialization)
    const quantized_matrix expected = quantize(weight.view(), concrete);
    for (const any_quantizer& wrapped : {any, copy}) {
      const quantized_matrix q = quantize(weight.view(), wrapped);
      CHECK(has_same_bytes(q, expected));
      CHECK(q.format_name() == "mine");
      CHECK(wrapped.name() == "mine");
      CHECK(wrapped.layout(9, 130).storage_bytes() == expected.layout().storage_bytes());
      CHECK(report_of([&] {
              (void)wrapped.layout(1, 3);
            }).says(status_code::invalid_argument, "group_size is 64"));
    }
  };
  check(quantizer("mine", signed_grid(5), absmax_rule{}, options));
  check(quantizer("mine", codebook_grid<4>(nf4_bitsandbytes_levels), absmax_rule{}, options));
  check(quantizer("mine", unsigned_grid(3), min_max_rule{}, options));
  check(quantizer<e2m1_grid, absmax_rule, split_half_packing>("mine", {}, {}, options));
}
