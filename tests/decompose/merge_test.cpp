// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/merge.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr scale_format fp32_scales{scale_coding::plain, scale_type::fp32};

/// int4 with steps of 1/8 in every block, and factors beside it.
decomposition make_base(index_t rows, index_t cols, bool is_smoothed = false) {
  matrix<float> weight = normal_matrix(rows, cols, 1);
  for (index_t i = 0; i < weight.size(); ++i)
    weight.data()[i] = std::clamp(std::nearbyint(2 * weight.data()[i]), -5.0F, 5.0F) / 8;
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < cols; j += 16) weight(i, j) = 7.0F / 8;
  }
  decomposition base;
  base.quantized = make_quantizer("int4", {16, fp32_scales, false}).quantize(weight.view(), {}, {});
  base.left = normal_matrix(rows, 2, 2);
  base.right = normal_matrix(2, cols, 3);
  base.factors = factor_storage::fp32;
  if (is_smoothed) {
    for (index_t j = 0; j < cols; ++j) base.input_scales.push_back(std::ldexp(1.0F, static_cast<int>(j % 3)));
  }
  return base;
}

/// D of rank 1 that is `size` in every element whose column is no multiple of 16, and 0 in the others, so
/// that the largest of each block stays.
struct rank_one {
  matrix<float> left;
  matrix<float> right;
  rank_one(const decomposition& base, float size) : left(base.rows(), 1, 2.0F), right(1, base.cols()) {
    for (index_t j = 0; j < base.cols(); ++j) right(0, j) = j % 16 == 0 ? 0.0F : size / 2;
  }
};

merge_options forced(merge_scales scales) {
  return {.scales = scales, .allow_loss = true};
}

/// The report, worked out element by element.
merge_report slow_report(const decomposition& base, const rank_one& adapter, float scale,
                         const decomposition& merged) {
  long double base_sum = 0;
  long double delta_sum = 0;
  long double cross_sum = 0;
  long double error_sum = 0;
  merge_report report;
  for (index_t i = 0; i < base.rows(); ++i) {
    for (index_t j = 0; j < base.cols(); ++j) {
      const long double c = base.input_scales.empty() ? 1.0F : base.input_scales[static_cast<std::size_t>(j)];
      const long double delta = static_cast<long double>(scale) *
                                static_cast<long double>(adapter.left(i, 0)) *
                                static_cast<long double>(adapter.right(0, j));
      const long double before = static_cast<long double>(base.quantized.view().element(i, j)) / c;
      const long double change = static_cast<long double>(merged.quantized.view().element(i, j)) / c - before;
      base_sum += before * before;
      delta_sum += delta * delta;
      cross_sum += change * delta;
      error_sum += (change - delta) * (change - delta);
      report.changed_codes += base.quantized.view().code(i, j) != merged.quantized.view().code(i, j) ? 1 : 0;
    }
  }
  report.relative_delta = static_cast<double>(std::sqrt(delta_sum / base_sum));
  report.survived_share = static_cast<double>(cross_sum / delta_sum);
  report.relative_error = static_cast<double>(std::sqrt(error_sum / delta_sum));
  return report;
}

} // namespace

TEST_CASE("merge: a delta below half a step is lost", "[decompose]") {
  const decomposition base = make_base(6, 70);
  const rank_one adapter(base, 0.06F); // a step is 0.125
  for (const merge_scales scales : {merge_scales::kept, merge_scales::refitted, merge_scales::best}) {
    CAPTURE(std::string(to_string(scales)));
    const merge_result result = merge(base, adapter.left.view(), adapter.right.view(), 1.0F, forced(scales));
    CHECK(result.report.survived_share == Approx(0.0).margin(0.02));
    CHECK(result.report.relative_error == Approx(1.0).margin(0.02));
  }
  const merge_result kept =
      merge(base, adapter.left.view(), adapter.right.view(), 1.0F, forced(merge_scales::kept));
  CHECK(kept.report.changed_codes == 0);
  CHECK(kept.report.survived_share == 0.0);
  CHECK(kept.merged.quantized.codes() == base.quantized.codes());
}

TEST_CASE("merge: a lossy merge is refused with its figures unless it is allowed", "[decompose]") {
  const decomposition base = make_base(6, 64);
  const rank_one adapter(base, 0.06F);
  const auto attempt = [&](const merge_options& options) {
    return report_of([&] { (void)merge(base, adapter.left.view(), adapter.right.view(), 1.0F, options); });
  };
  CHECK(attempt({}).says(
      status_code::unsupported,
      "merging keeps 0 % of the adapter with a relative error of 1 and changes 0 of 384 codes, "
      "allowed is an error of at most 0.1; concatenate the adapter, or allow the loss"));
  CHECK_NOTHROW(merge(base, adapter.left.view(), adapter.right.view(), 1.0F, {.largest_error = 1.0}));
  CHECK_NOTHROW(merge(base, adapter.left.view(), adapter.right.view(), 1.0F, {.allow_loss = true}));
}

TEST_CASE("merge: a delta on the grid is there in full", "[decompose]") {
  for (const bool is_smoothed : {false, true}) {
    const decomposition base = make_base(5, 64, is_smoothed);
    rank_one adapter(base, 0.25F); // two steps
    if (is_smoothed) {
      for (index_t j = 0; j < 64; ++j) adapter.right(0, j) /= base.input_scales[static_cast<std::size_t>(j)];
    }
    for (const merge_scales scales : {merge_scales::kept, merge_scales::refitted, merge_scales::best}) {
      CAPTURE(is_smoothed, std::string(to_string(scales)));
      const merge_result result =
          merge(base, adapter.left.view(), adapter.right.view(), 1.0F, {.scales = scales});
      CHECK(result.report.survived_share == 1.0);
      CHECK(result.report.relative_error == 0.0);
      CHECK(result.report.changed_codes == 5 * 60);
      CHECK(result.merged.rank() == 2);
      CHECK(result.merged.input_scales == base.input_scales);
    }
  }
}

TEST_CASE("merge: a delta of many steps survives, beyond the range only with other scales", "[decompose]") {
  const decomposition base = make_base(6, 70);
  rank_one adapter(base, 20.0F);
  for (index_t j = 0; j < 70; ++j) adapter.right(0, j) = static_cast<float>(j % 15) - 7.0F;
  const auto report_with = [&](merge_scales scales) {
    return merge(base, adapter.left.view(), adapter.right.view(), 1.0F, forced(scales)).report;
  };
  CHECK(report_with(merge_scales::kept).survived_share < 0.3);
  CHECK(report_with(merge_scales::refitted).survived_share == Approx(1.0).margin(0.03));
  CHECK(report_with(merge_scales::best).scales == merge_scales::refitted);
  CHECK(report_with(merge_scales::best).relative_error == report_with(merge_scales::refitted).relative_error);
}

TEST_CASE("merge: the report agrees with a slow count for every format", "[decompose]") {
  for (const format_description& format : named_formats) {
    for (const auto& [rows, cols] : std::vector<std::pair<index_t, index_t>>{{1, 32}, {4, 96}, {3, 70}}) {
      if ((format.name == "q4_0" || format.name == "iq4_nl") && cols % 32 != 0) continue;
      for (const merge_scales scales : {merge_scales::kept, merge_scales::refitted, merge_scales::best}) {
        CAPTURE(std::string(format.name), rows, cols, std::string(to_string(scales)));
        decomposition base = make_base(rows, cols, true);
        const matrix<float> weight = weight_like_matrix(rows, cols, 7);
        base.quantized = make_quantizer(format.name).quantize(weight.view(), {}, {});
        rank_one adapter(base, 0.0F);
        adapter.left = normal_matrix(rows, 1, 8, 0.1);
        adapter.right = normal_matrix(1, cols, 9, 0.1);
        const merge_result result =
            merge(base, adapter.left.view(), adapter.right.view(), 1.5F, forced(scales));
        const merge_report expected = slow_report(base, adapter, 1.5F, result.merged);
        CHECK(result.report.relative_delta == Approx(expected.relative_delta).epsilon(1e-6));
        CHECK(result.report.survived_share == Approx(expected.survived_share).epsilon(1e-6).margin(1e-6));
        CHECK(result.report.relative_error == Approx(expected.relative_error).epsilon(1e-6));
        CHECK(result.report.changed_codes == expected.changed_codes);
        CHECK(result.report.num_codes == rows * cols);
      }
    }
  }
}

TEST_CASE("merge: with kept scales no other code is nearer", "[decompose][property]") {
  for (const char* format : {"int4", "uint3", "nf4", "minmax4", "fp4", "q4_0", "sign", "mxint4"}) {
    CAPTURE(format);
    decomposition base = make_base(3, 64);
    base.quantized = make_quantizer(format).quantize(weight_like_matrix(3, 64, 7).view(), {}, {});
    const matrix<float> left = normal_matrix(3, 2, 8, 0.2);
    const matrix<float> right = normal_matrix(2, 64, 9, 0.2);
    const merge_result result = merge(base, left.view(), right.view(), 1.0F, forced(merge_scales::kept));
    CHECK(result.merged.quantized.scales().codes == base.quantized.scales().codes);
    const quantized_matrix_view q = result.merged.quantized.view();
    bool is_nearest = true;
    for (index_t i = 0; i < 3; ++i) {
      for (index_t j = 0; j < 64; ++j) {
        const double wanted = static_cast<double>(base.quantized.view().element(i, j)) +
                              static_cast<double>(left(i, 0)) * static_cast<double>(right(0, j)) +
                              static_cast<double>(left(i, 1)) * static_cast<double>(right(1, j));
        const block_scale block = q.block(q.layout.scale_index(i, j / q.layout.group_cols()));
        const double error = std::fabs(static_cast<double>(q.element(i, j)) - wanted);
        for (const float level : base.quantized.levels()) {
          const double other = std::fabs(static_cast<double>(decode_value(level, block)) - wanted);
          is_nearest = is_nearest && error <= other + 1e-6 * (std::fabs(wanted) + 0.1);
        }
      }
    }
    CHECK(is_nearest);
  }
}

TEST_CASE("merge: nothing to merge leaves everything as it is", "[decompose]") {
  for (const merge_scales scales : {merge_scales::kept, merge_scales::refitted, merge_scales::best}) {
    const decomposition base = make_base(1, 16);
    const matrix<float> left(1, 0);
    const matrix<float> right(0, 16);
    const merge_result result = merge(base, left.view(), right.view(), 1.0F, {.scales = scales});
    CHECK(result.merged.quantized.codes() == base.quantized.codes());
    CHECK(result.report.relative_delta == 0.0);
    CHECK(result.report.survived_share == 1.0);
    CHECK(result.report.relative_error == 0.0);
  }
}

TEST_CASE("merge: the number of threads changes no bit", "[decompose]") {
  const decomposition base = make_base(70, 1100);
  const rank_one adapter(base, 0.1F);
  thread_pool pool(3);
  const merge_result alone =
      merge(base, adapter.left.view(), adapter.right.view(), 1.1F, {.allow_loss = true});
  const merge_result many =
      merge(base, adapter.left.view(), adapter.right.view(), 1.1F, {.allow_loss = true}, executor(pool));
  CHECK(alone.merged.quantized.codes() == many.merged.quantized.codes());
  CHECK(alone.report.relative_error == many.report.relative_error);
  CHECK(alone.report.survived_share == many.report.survived_share);
}

TEST_CASE("merge: bad input is refused", "[decompose]") {
  const decomposition base = make_base(6, 64);
  const rank_one adapter(base, 0.25F);
  const auto attempt = [&](const decomposition& parts, const matrix<float>& left, float scale,
                           const merge_options& options) {
    return report_of([&] { (void)merge(parts, left.view(), adapter.right.view(), scale, options); });
  };
  CHECK(attempt(base, adapter.left, 1.0F, {.largest_error = -0.1})
            .says(status_code::invalid_argument, "largest_error is -0.1, allowed are 0 and above"));
  CHECK(attempt(base, adapter.left, 1.0F, {.largest_error = std::nan("")})
            .says(status_code::invalid_argument, "largest_error is nan"));
  CHECK(attempt(base, normal_matrix(7, 1, 1), 1.0F, {})
            .says(status_code::shape_mismatch, "adapter L is 7 x 1"));
  CHECK(attempt(base, adapter.left, HUGE_VALF, {}).says(status_code::non_finite, "adapter scale is inf"));
  CHECK(attempt(base, matrix<float>(6, 1, 3e38F), 1e5F, {})
            .says(status_code::non_finite, "adapter product(0, "));
  decomposition own = base;
  own.quantized = {"mine",
                   base.quantized.layout(),
                   base.quantized.levels(),
                   base.quantized.codes(),
                   base.quantized.scales(),
                   base.quantized.zeros()};
  CHECK(attempt(own, adapter.left, 1.0F, {.scales = merge_scales::refitted})
            .says(status_code::unsupported, "Q has the format 'mine'"));
  CHECK(merge(own, adapter.left.view(), adapter.right.view(), 1.0F).report.scales == merge_scales::kept);
  CHECK(attempt({}, adapter.left, 1.0F, {}).says(status_code::invalid_argument, "Q is 0 x 0"));
}
