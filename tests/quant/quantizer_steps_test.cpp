// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/formats.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

/// What round() makes of a matrix.
struct rounded {
  matrix<code_t> codes;
  matrix<float> values;
};

/// Every element by a call of its own, in an order that is not that of the rows.
rounded round_elements(const any_quantizer& quantizer, const quantized_layout& layout,
                       const fitted_scales& scales, const matrix<float>& w) {
  rounded out{matrix<code_t>(w.rows(), w.cols(), code_t{255}), matrix<float>(w.rows(), w.cols(), nan_value)};
  for (index_t j = w.cols() - 1; j >= 0; --j) {
    for (index_t i = 0; i < w.rows(); ++i) {
      const index_t block = layout.scale_index(i, j / layout.group_cols());
      quantizer.round(&w(i, j), &scales.blocks[static_cast<std::size_t>(block)], 1, &out.codes(i, j),
                      &out.values(i, j));
    }
  }
  return out;
}

/// Whole columns at once, each row with a scale of its own.
rounded round_columns(const any_quantizer& quantizer, const quantized_layout& layout,
                      const fitted_scales& scales, const matrix<float>& w) {
  rounded out{matrix<code_t>(w.rows(), w.cols()), matrix<float>(w.rows(), w.cols(), nan_value)};
  for (index_t j = 0; j < w.cols(); ++j) {
    std::vector<float> x;
    std::vector<block_scale> blocks;
    for (index_t i = 0; i < w.rows(); ++i) {
      x.push_back(w(i, j));
      blocks.push_back(
          scales.blocks[static_cast<std::size_t>(layout.scale_index(i, j / layout.group_cols()))]);
    }
    std::vector<code_t> codes(x.size());
    std::vector<float> values(x.size(), nan_value);
    quantizer.round(x.data(), blocks.data(), w.rows(), codes.data(), values.data());
    for (index_t i = 0; i < w.rows(); ++i) {
      out.codes(i, j) = codes[static_cast<std::size_t>(i)];
      out.values(i, j) = values[static_cast<std::size_t>(i)];
    }
  }
  return out;
}

bool has_same_bits(const matrix<float>& a, const matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::equal(a.data(), a.data() + a.size(), b.data(), is_same);
}

/// Whether codes belong to the scale before it is stored.
enum class encoding { stored_scale, exact_scale };

/// The steps one by one against quantize() in one go.
void check_steps(const any_quantizer& quantizer, const matrix<float>& w, const quantize_hints& hints,
                 encoding kind) {
  CAPTURE(quantizer.name(), w.rows(), w.cols());
  REQUIRE(quantizer.is_stepwise());
  const quantized_layout layout = quantizer.layout(w.rows(), w.cols());
  const fitted_scales scales = quantizer.fit_scales(w.view(), hints, {});
  REQUIRE(static_cast<index_t>(scales.blocks.size()) == layout.num_scales());
  const rounded found = round_elements(quantizer, layout, scales, w);
  const quantized_matrix q = quantizer.assemble(layout, scales, found.codes, {});
  const quantized_matrix whole = quantizer.quantize(w.view(), hints, {});

  CHECK(has_same_bits(dequantize(q), found.values));
  CHECK(q.format_name() == whole.format_name());
  CHECK(q.scales().codes == whole.scales().codes);
  CHECK(q.scales().supers == whole.scales().supers);
  CHECK(is_same(q.scales().base, whole.scales().base));
  CHECK(q.zeros() == whole.zeros());
  CHECK(q.levels() == whole.levels());
  if (kind == encoding::stored_scale) CHECK(q.codes() == whole.codes());
  for (index_t i = 0; i < w.rows(); ++i) {
    for (index_t j = 0; j < w.cols(); ++j) {
      if (code_of(q, i, j) != found.codes(i, j)) FAIL("code of (" << i << ", " << j << ")");
    }
  }
  const rounded columns = round_columns(quantizer, layout, scales, w);
  CHECK(std::equal(columns.codes.data(), columns.codes.data() + w.size(), found.codes.data()));
  CHECK(has_same_bits(columns.values, found.values));
}

/// Matrices on which a scale is zero, subnormal, negative or shared by a part of a group.
std::vector<matrix<float>> awkward_matrices() {
  std::vector<matrix<float>> result;
  std::uint64_t seed = 1;
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {1, 7}, {7, 1}, {3, 65}, {2, 130}}) {
    result.push_back(normal_matrix(rows, cols, ++seed));
    result.push_back(weight_like_matrix(rows, cols, ++seed));
    result.emplace_back(rows, cols, 0.0F);
    result.emplace_back(rows, cols, -0.3F);
    result.push_back(normal_matrix(rows, cols, ++seed, 1e-40));
    matrix<float> mixed = normal_matrix(rows, cols, ++seed);
    for (index_t i = 0; i < rows; ++i) {
      for (index_t j = 0; j < std::min<index_t>(cols, 33); ++j) mixed(i, j) = j % 2 == 0 ? 0.0F : -0.0F;
    }
    result.push_back(std::move(mixed));
  }
  return result;
}

/// A quantizer that can only do everything at once.
struct indivisible_quantizer {
  any_quantizer real = make_quantizer("nf4");

  [[nodiscard]] std::string name() const { return "indivisible"; }
  [[nodiscard]] quantized_layout layout(index_t rows, index_t cols) const { return real.layout(rows, cols); }
  [[nodiscard]] quantized_matrix quantize(matrix_view<const float> weight, const quantize_hints& hints,
                                          const executor& run) const {
    return real.quantize(weight, hints, run);
  }
};

} // namespace

TEST_CASE("quantizer steps: every format, awkward matrices: together they are quantize()",
          "[quant][property]") {
  const std::vector<matrix<float>> matrices = awkward_matrices();
  for (const format_description& format : named_formats) {
    const any_quantizer quantizer = make_quantizer(format.name);
    const encoding kind = format.name == "q4_0" || format.name == "q8_0" ? encoding::exact_scale : encoding::stored_scale;
    for (const matrix<float>& w : matrices) check_steps(quantizer, w, {}, kind);
  }
}

TEST_CASE("quantizer steps: every group size and storage of scales", "[quant][property]") {
  const matrix<float> w = weight_like_matrix(4, 77, 3);
  for (const std::string_view name : {"int3", "uint4", "minmax4", "nf4", "sign", "mxint4"}) {
    for (const char* const text : {"fp32", "fp16", "bf16", "e8m0", "dq", "dq:4,bf16,3", "dq-bnb"}) {
      for (const index_t group : {index_t{1}, index_t{13}, index_t{77}, group_per_row, group_per_tensor}) {
        CAPTURE(text, group);
        const format_options options{group, parse_scale_format(text), false};
        const bool is_exact = std::string_view(text) == "dq-bnb";
        check_steps(make_quantizer(name, options), w, {},
                    is_exact ? encoding::exact_scale : encoding::stored_scale);
      }
    }
  }
}

TEST_CASE("quantizer steps: hints reach the search for scales", "[quant]") {
  const matrix<float> w = weight_like_matrix(3, 70, 4);
  std::vector<float> importance(70, 1.0F);
  for (std::size_t j = 0; j < importance.size(); j += 3) importance[j] = 100.0F;
  for (const std::string_view name : {"int3", "uint3", "nf4", "mxfp4", "nvfp4", "q4_0", "iq4_nl", "q8_0"}) {
    const any_quantizer quantizer = make_quantizer(name);
    const quantized_matrix previous = quantizer.quantize(w.view(), {}, {});
    const quantize_hints hints{importance.data(), &previous, scale_search_mode::on};
    check_steps(quantizer, w, hints, encoding::stored_scale); // the search encodes with stored scales
    const quantized_matrix searched = quantizer.quantize(w.view(), hints, {});
    if (name == "int3") CHECK(searched.scales().codes != previous.scales().codes);
  }
}

TEST_CASE("quantizer steps: codes of one's own choice decode to what they stand for", "[quant]") {
  const matrix<float> w = normal_matrix(3, 70, 5);
  random_source random(6);
  for (const format_description& format : named_formats) {
    CAPTURE(format.name);
    const any_quantizer quantizer = make_quantizer(format.name);
    const quantized_layout layout = quantizer.layout(3, 70);
    const fitted_scales scales = quantizer.fit_scales(w.view(), {}, {});
    matrix<code_t> codes(3, 70);
    for (index_t i = 0; i < codes.size(); ++i)
      codes.data()[i] = static_cast<code_t>(random.below(index_t{1} << layout.bits));
    const quantized_matrix q = quantizer.assemble(layout, scales, codes, {});
    const matrix<float> decoded = dequantize(q);
    bool is_right = true;
    for (index_t i = 0; i < 3; ++i) {
      for (index_t j = 0; j < 70; ++j) {
        const block_scale& block =
            scales.blocks[static_cast<std::size_t>(layout.scale_index(i, j / layout.group_cols()))];
        const float level = q.levels()[codes(i, j)];
        is_right = is_right && is_same(decoded(i, j), (level - block.zero) * block.scale);
      }
    }
    CHECK(is_right);
  }
}

TEST_CASE("quantizer steps: the same bits on any number of threads", "[quant]") {
  const matrix<float> w = weight_like_matrix(300, 500, 7); // several pieces of rows
  for (const std::string_view name : {"uint3", "nf4", "nvfp4"}) {
    const any_quantizer quantizer = make_quantizer(name);
    const quantized_layout layout = quantizer.layout(300, 500);
    const fitted_scales alone = quantizer.fit_scales(w.view(), {}, {});
    const matrix<code_t> codes = round_elements(quantizer, layout, alone, w).codes;
    const quantized_matrix expected = quantizer.quantize(w.view(), {}, {});
    for (const int threads : {1, 2, 5}) {
      CAPTURE(name, threads);
      thread_pool pool(threads);
      const fitted_scales scales = quantizer.fit_scales(w.view(), {}, pool);
      CHECK(has_same_bytes(quantizer.assemble(layout, scales, codes, pool), expected));
    }
  }
}

TEST_CASE("quantizer steps: a quantizer without them says so", "[quant]") {
  static_assert(!stepwise_quantizer_policy<indivisible_quantizer>);
  static_assert(stepwise_quantizer_policy<any_quantizer>);
  const any_quantizer quantizer = indivisible_quantizer{};
  const any_quantizer copy = quantizer;
  CHECK_FALSE(quantizer.is_stepwise());
  CHECK_FALSE(copy.is_stepwise());
  const matrix<float> w = normal_matrix(2, 5, 8);
  const std::string_view part = "quantizer indivisible has no fit_scales, round and assemble, which error "
                                "feedback and coordinate descent need";
  CHECK(
      report_of([&] { (void)quantizer.fit_scales(w.view(), {}, {}); }).says(status_code::unsupported, part));
  const block_scale block{1.0F, 0.0F};
  code_t code = 77;
  float value = 88;
  CHECK(report_of([&] {
          quantizer.round(w.data(), &block, 1, &code, &value);
        }).says(status_code::unsupported, part));
  CHECK(code == 77);
  CHECK(value == 88);
  CHECK(report_of([&] {
          (void)quantizer.assemble(quantizer.layout(2, 5), {}, matrix<code_t>(2, 5), {});
        }).says(status_code::unsupported, part));
  CHECK(
      has_same_bytes(quantizer.quantize(w.view(), {}, {}), make_quantizer("nf4").quantize(w.view(), {}, {})));
}
