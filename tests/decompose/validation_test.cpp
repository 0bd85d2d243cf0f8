// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <decompose/support.hpp>
#include <support/catch.hpp>

#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

/// A quantizer that counts its calls.
struct counting_quantizer {
  any_quantizer real = small_groups("nf4", 4);
  int* num_calls = nullptr;

  [[nodiscard]] std::string name() const { return "counting"; }
  [[nodiscard]] quantized_layout layout(index_t rows, index_t cols) const { return real.layout(rows, cols); }
  [[nodiscard]] quantized_matrix quantize(matrix_view<const float> weight, const quantize_hints& hints,
                                          const executor& run) const {
    ++*num_calls;
    return real.quantize(weight, hints, run);
  }
};

/// What decompose() reports, and that it did so before any work.
report refusal(matrix_view<const float> weight, const decompose_options& requested,
               const metric& weights = {}) {
  int num_quantized = 0;
  int num_iterations = 0;
  decompose_options options = requested;
  options.on_iteration = [&](const iteration_report&) { ++num_iterations; };
  const any_quantizer quantizer = counting_quantizer{.num_calls = &num_quantized};
  const report found = report_of([&] { (void)split(weight, quantizer, options, weights); });
  CHECK(num_quantized == 0);
  CHECK(num_iterations == 0);
  return found;
}

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

} // namespace

TEST_CASE("validation: a rank outside 0 ... min(m,n) is refused", "[decompose]") {
  const matrix<float> w = normal_matrix(5, 9, 1);
  for (const index_t rank : {index_t{-1}, index_t{6}, std::numeric_limits<index_t>::max()}) {
    const report found = refusal(w.view(), options_of("loftq", rank));
    CHECK(found.code == status_code::invalid_argument);
    CHECK(found.message == sentence("rank is ", rank, ", allowed for a 5 x 9 matrix are 0 to 5"));
  }
  CHECK(report_of([&] {
          (void)split(w.view(), small_groups("nf4", 4), options_of("loftq", 5));
        }).message.empty());
}

TEST_CASE("validation: an empty matrix is refused", "[decompose]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{0, 0}, {0, 4}, {4, 0}}) {
    const report found = refusal(matrix<float>(rows, cols).view(), options_of("qlora", 0));
    CHECK(found.code == status_code::invalid_argument);
    CHECK(found.message == sentence("weight is ", rows, " x ", cols, ", it must not be empty"));
  }
}

TEST_CASE("validation: fewer than one iteration is refused", "[decompose]") {
  const matrix<float> w = normal_matrix(5, 9, 2);
  for (const int iterations : {0, -3}) {
    decompose_options options = options_of("loftq", 2);
    options.steps.iterations = iterations;
    const report found = refusal(w.view(), options);
    CHECK(found.code == status_code::invalid_argument);
    CHECK(found.message == sentence("iterations is ", iterations, ", allowed are 1 and above"));
  }
}

TEST_CASE("validation: negative oversampling is refused", "[decompose]") {
  decompose_options options = options_of("loftq", 2);
  options.sketch.oversampling = -1;
  const report found = refusal(normal_matrix(5, 9, 2).view(), options);
  CHECK(found.says(status_code::invalid_argument, "oversampling is -1, allowed are 0 and above"));
  options.sketch.oversampling = 0;
  const matrix<float> w = normal_matrix(5, 9, 2);
  CHECK(split(w.view(), small_groups("nf4", 4), options).relative_error < 0.1);
}

TEST_CASE("validation: a group size above the number of columns is refused", "[decompose]") {
  const matrix<float> w = normal_matrix(5, 9, 3);
  const report found = report_of([&] {
    (void)split(w.view(), named("nf4", {64, {}, false}), options_of("loftq", 2));
  });
  CHECK(found.code == status_code::invalid_argument);
  CHECK(found.message ==
        "group_size is 64, allowed for 9 columns are 1 to 9, 0 (per row) and -1 (per tensor)");
  CHECK(report_of([&] {
          (void)named("nf4", {-2, {}, false});
        }).says(status_code::invalid_argument, "group_size is -2, allowed are"));
}

TEST_CASE("validation: the first NaN or infinity is named with its place", "[decompose]") {
  for (const float bad : {nan_value, infinity, -infinity}) {
    matrix<float> w = normal_matrix(40, 9, 4);
    w(37, 2) = bad;
    w(39, 0) = bad;
    const report found = refusal(w.view(), options_of("best", 2));
    CHECK(found.code == status_code::non_finite);
    CHECK(found.message == sentence("weight(37, 2) is ", bad, ", every element must be finite in float"));
  }
}

TEST_CASE("validation: a metric of the wrong shape or with impossible numbers is refused", "[decompose]") {
  const matrix<float> w = normal_matrix(3, 4, 5);
  const decompose_options options = options_of("loftq", 2);
  metric weights;
  weights.row_weights = {1, 2};
  CHECK(
      refusal(w.view(), options, weights)
          .says(status_code::shape_mismatch, "metric row weights has 2 entries, the weight matrix needs 3"));
  weights.row_weights = {1, 0, 2}; // would be divided by
  CHECK(refusal(w.view(), options, weights)
            .says(status_code::invalid_argument, "metric row weights[1] is 0, it must be > 0"));
  weights.row_weights = {};
  weights.col_weights = {1, 2, 3, -1};
  CHECK(refusal(w.view(), options, weights)
            .says(status_code::invalid_argument, "metric column weights[3] is -1, it must be > 0"));
  weights.col_weights = {1, 2, nan_value, 1};
  CHECK(refusal(w.view(), options, weights)
            .says(status_code::non_finite, "metric column weights[2] is nan, it must be finite"));
  weights.col_weights = {};
  const matrix<float> fisher(4, 3, 1.0F);
  weights.elements = fisher.view();
  CHECK(refusal(w.view(), options, weights)
            .says(status_code::shape_mismatch, "metric elements are 4 x 3, the weight matrix is 3 x 4"));
  weights.elements = fisher.view().transposed();
  CHECK(refusal(w.view(), options, weights)
            .says(status_code::unsupported, "metric elements must have contiguous rows"));
}

TEST_CASE("validation: error feedback and descent need a quantizer with steps", "[decompose]") {
  const matrix<float> w = normal_matrix(5, 4, 8);
  metric weights;
  weights.covariance = std::make_shared<const input_covariance>(
      input_covariance{matrix<double>(4, 4, 1.0), matrix<float>(4, 1, 1.0F), 1, 4, 4});
  const std::string_view part =
      "quantizer counting has no fit_scales, round and assemble, which error feedback "
      "and coordinate descent need";
  for (const char* const method : {"gptq", "caldera", "odlri", "gptq-intrinsic", "best"}) {
    CAPTURE(method);
    CHECK(refusal(w.view(), options_of(method, 2), weights).says(status_code::unsupported, part));
  }
  decompose_options polished = options_of("loftq", 2);
  polished.steps.polish_rounds = 1;
  CHECK(refusal(w.view(), polished, weights).says(status_code::unsupported, part));
  int num_calls = 0; // methods that do neither, or have no covariance to do it with
  const any_quantizer quantizer = counting_quantizer{.num_calls = &num_calls};
  CHECK(split(w.view(), quantizer, options_of("eora", 2), weights).iterations_run == 1);
  CHECK(split(w.view(), quantizer, options_of("gptq", 2)).iterations_run == 1);
  CHECK(num_calls == 2);
}

TEST_CASE("validation: a covariance that does not fit, and numbers below zero, are refused", "[decompose]") {
  const matrix<float> w = normal_matrix(5, 4, 8);
  metric weights;
  weights.covariance = std::make_shared<const input_covariance>(
      input_covariance{matrix<double>(5, 5, 1.0), matrix<float>(5, 1, 1.0F), 1, 5, 5});
  CHECK(refusal(w.view(), options_of("eora", 2), weights)
            .says(status_code::shape_mismatch, "covariance is 5 x 5, the weight matrix has 4 columns"));
  weights.covariance = std::make_shared<const input_covariance>(
      input_covariance{matrix<double>(4, 4, 1.0), matrix<float>(4, 1, 1.0F), 1, 4, 4});
  weights.col_weights = {1, 1, 1, 1};
  CHECK(refusal(w.view(), options_of("eora", 2), weights)
            .says(status_code::unsupported, "metric has a covariance and weights, allowed is one of them"));
  weights = {};
  for (int schedule::*const count : {&schedule::polish_rounds, &schedule::factor_refits}) {
    decompose_options options = options_of("loftq", 2);
    options.steps.*count = -1;
    CHECK(refusal(w.view(), options).says(status_code::invalid_argument, "is below 0"));
  }
  decompose_options options = options_of("loftq", 2);
  options.steps.feedback.descents = -1;
  CHECK(refusal(w.view(), options).says(status_code::invalid_argument, "is below 0"));
  for (const double damping : {-0.1, static_cast<double>(nan_value), static_cast<double>(infinity)}) {
    options = options_of("gptq", 2);
    options.steps.feedback.damping = damping;
    CHECK(refusal(w.view(), options).says(status_code::invalid_argument, "allowed are 0 and above"));
  }
}

TEST_CASE("validation: values beyond the range of their storage are refused with a way out", "[decompose]") {
  const matrix<float> huge = normal_matrix(6, 16, 6, 1e30);
  const any_quantizer half_scales = named("nf4", {8, {}, false});
  CHECK(report_of([&] {
          (void)split(huge.view(), half_scales, options_of("qlora", 0));
        }).says(status_code::unsupported, "beyond the range of fp16; use fp32 or bf16 scales"));
  const any_quantizer exact_scales = small_groups("nf4", 8);
  CHECK(report_of([&] {
          (void)split(huge.view(), exact_scales, options_of("loftq", 2, factor_storage::fp16));
        }).says(status_code::unsupported, "beyond the range of fp16; store the factors in 32 bits"));
}

TEST_CASE("validation: a refused call can be followed by a right one", "[decompose]") {
  const matrix<float> w = normal_matrix(5, 9, 7);
  int num_calls = 0;
  const any_quantizer quantizer = counting_quantizer{.num_calls = &num_calls};
  CHECK_FALSE(report_of([&] { (void)split(w.view(), quantizer, options_of("loftq", 6)); }).message.empty());
  CHECK(num_calls == 0);
  CHECK(split(w.view(), quantizer, options_of("loftq", 2)).iterations_run == 5);
  CHECK(num_calls == 5);
}
