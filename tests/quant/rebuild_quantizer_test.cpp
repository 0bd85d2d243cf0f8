// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/rebuild_quantizer.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

bool is_same(const quantized_matrix& a, const quantized_matrix& b) {
  return a.format_name() == b.format_name() && a.codes() == b.codes() && a.levels() == b.levels() &&
         a.scales().codes == b.scales().codes && a.scales().supers == b.scales().supers &&
         a.scales().base == b.scales().base && a.zeros() == b.zeros();
}

/// `q` with one property changed.
quantized_matrix renamed(const quantized_matrix& q, std::string name, std::vector<float> levels) {
  return {std::move(name), q.layout(), std::move(levels), q.codes(), q.scales(), q.zeros()};
}

} // namespace

TEST_CASE("rebuild_quantizer: every format comes back from its output", "[quant]") {
  for (const format_description& format : named_formats) {
    std::vector<format_options> variants{{}};
    if (!format.is_fixed) {
      variants.push_back({.group_size = group_per_row});
      variants.push_back({.group_size = 16, .scales = scale_format{scale_coding::plain, scale_type::fp32}});
    }
    for (const format_options& options : variants) {
      for (const auto& [rows, cols] : std::vector<std::pair<index_t, index_t>>{{1, 16}, {5, 70}, {3, 128}}) {
        CAPTURE(std::string(format.name), rows, cols, options.group_size.value_or(-9));
        const any_quantizer original = make_quantizer(format.name, options);
        const matrix<float> first = normal_matrix(rows, cols, 1);
        const matrix<float> second = normal_matrix(rows, cols, 2);
        if (format.name == "q4_0" || format.name == "iq4_nl") {
          if (cols % 32 != 0) continue;
        }
        const std::optional<any_quantizer> found = rebuild_quantizer(original.quantize(first.view(), {}, {}));
        REQUIRE(found.has_value());
        CHECK(is_same(found->quantize(second.view(), {}, {}), original.quantize(second.view(), {}, {})));
      }
    }
  }
}

TEST_CASE("rebuild_quantizer: double quantized scales come back too", "[quant]") {
  const any_quantizer original = make_quantizer("nf4", {.group_size = 32, .scales = double_quantized(6)});
  const matrix<float> weight = normal_matrix(4, 64, 1);
  const quantized_matrix q = original.quantize(weight.view(), {}, {});
  const std::optional<any_quantizer> found = rebuild_quantizer(q);
  REQUIRE(found.has_value());
  CHECK(is_same(found->quantize(weight.view(), {}, {}), q));
}

TEST_CASE("rebuild_quantizer: a name, a table or a layout of no format gives nothing", "[quant]") {
  const matrix<float> weight = normal_matrix(4, 64, 1);
  const quantized_matrix q = make_quantizer("nf4").quantize(weight.view(), {}, {});
  CHECK_FALSE(rebuild_quantizer(renamed(q, "mine", q.levels())).has_value());
  CHECK_FALSE(rebuild_quantizer(renamed(q, "int4", q.levels())).has_value());
  CHECK_FALSE(rebuild_quantizer(renamed(q, "nvfp4", q.levels())).has_value());
  CHECK_FALSE(rebuild_quantizer(renamed(q, "nf3", q.levels())).has_value());
  std::vector<float> other = q.levels();
  other[3] += 0.01F;
  CHECK_FALSE(rebuild_quantizer(renamed(q, "nf4", other)).has_value());
  CHECK_FALSE(rebuild_quantizer(quantized_matrix()).has_value());
}
