// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/fakes/fake_device.hpp>
#include <cuda/launcher.hpp>
#include <cuda/support.hpp>
#include <host/covariance_oracles.hpp>
#include <qlr/cuda/decompose.hpp>
#include <qlr/decompose/presets.hpp>
#include <qlr/decompose/reconstruct.hpp>
#include <support/catch.hpp>
#include <support/cpu.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr index_t rows = 48;
constexpr index_t cols = 80;

any_quantizer groups_of(std::string_view format, index_t size = 16) {
  format_options options;
  if (!find_format(format).is_fixed) options.group_size = size;
  return make_quantizer(format, options);
}

const matrix<float>& test_weight() {
  static const matrix<float> w = weight_like_matrix(rows, cols, 1);
  return w;
}

/// The metric that a method takes from inputs that are correlated.
metric metric_for(calibration_use uses) {
  static const matrix<float> inputs = correlated_inputs(2 * cols, cols, 2);
  static const matrix<double> covariance = slow_covariance(inputs);
  static const matrix<float> fisher = [] {
    matrix<float> f = normal_matrix(rows, cols, 3);
    for (index_t i = 0; i < f.size(); ++i) f.data()[i] *= f.data()[i];
    return f;
  }();
  std::vector<float> diagonal(static_cast<std::size_t>(cols));
  for (index_t j = 0; j < cols; ++j)
    diagonal[static_cast<std::size_t>(j)] = static_cast<float>(covariance(j, j));
  switch (uses) {
  case calibration_use::none:
    return {};
  case calibration_use::fisher:
    return make_fisher_metric(fisher.view(), rows, cols);
  case calibration_use::mean_abs:
  case calibration_use::rms:
    return make_metric({}, diagonal, rows, cols);
  case calibration_use::covariance:
  case calibration_use::whatever_given:
    return covariance_metric(covariance, 0.01);
  }
  return {};
}

decompose_result on_device(matrix_view<const float> w, const any_quantizer& quantizer,
                           const decompose_options& options, const metric& weights = {}) {
  const cuda::context on;
  const auto device = cuda::to_device(w);
  return cuda::decompose<test_launcher>(on, device.view(), quantizer, options, weights);
}

decompose_options options_of(std::string_view method, index_t rank = 6) {
  decompose_options options;
  options.rank = rank;
  options.steps = find_preset(method).steps;
  options.steps.iterations = std::min(options.steps.iterations, 4); // a simulated device takes its time
  options.steps.polish_rounds = std::min(options.steps.polish_rounds, 1);
  options.smoothing.grid_steps = 2;
  return options;
}

/// Codes at the same distance from two levels may go either way, and the loop goes on from there: errors, not
/// codes, are compared.
void check_same(const decompose_result& found, const decompose_result& expected,
                double tolerance_rel = 1e-3) {
  CHECK(is_near(found.weighted_error, expected.weighted_error, tolerance_rel * expected.weighted_error));
  CHECK(is_near(found.relative_error, expected.relative_error, tolerance_rel * expected.relative_error));
  REQUIRE(found.history.size() == expected.history.size());
  for (std::size_t i = 0; i < found.history.size(); ++i) {
    CAPTURE(i);
    CHECK(found.history[i].iteration == expected.history[i].iteration);
    CHECK(is_near(found.history[i].weighted_error, expected.history[i].weighted_error,
                  5 * tolerance_rel * expected.history[i].weighted_error));
  }
  CHECK(found.best.left.rows() == expected.best.left.rows());
  CHECK(found.best.left.cols() == expected.best.left.cols());
  CHECK(found.best.right.rows() == expected.best.right.rows());
  CHECK(found.best.quantized.format_name() == expected.best.quantized.format_name());
  CHECK(found.best.input_scales.size() == expected.best.input_scales.size());
  CHECK(found.reason == expected.reason);
}

} // namespace

TEST_CASE("decompose on a device: every method finds the CPU's errors", "[cuda]") {
  if (!has_device()) return;
  for (const preset& method : presets) {
    const metric weights = metric_for(method.uses);
    const any_quantizer quantizer = groups_of(method.quantizer);
    const decompose_options options = options_of(method.name);
    INFO(method.name);
    const decompose_result expected = decompose_on_cpu(test_weight().view(), quantizer, options, weights);
    const decompose_result found = on_device(test_weight().view(), quantizer, options, weights);
    // On so small a matrix a code at a tie counts, and error feedback carries it on: the CPU's own results
    // for other seeds differ by 1.3 % from each other.
    check_same(found, expected, method.name == "best" ? 2e-2 : 1e-3);
    // What is reported is what the parts say.
    const matrix<float> dense = reconstruct(found.best);
    double error = 0;
    double norm = 0;
    for (index_t i = 0; i < dense.size(); ++i) {
      const double exact = static_cast<double>(test_weight().data()[i]);
      error += std::pow(exact - static_cast<double>(dense.data()[i]), 2);
      norm += exact * exact;
    }
    CHECK(is_near(found.relative_error, std::sqrt(error / norm), 1e-5));
  }
}

TEST_CASE("decompose on a device: storages, forms, ranks and exact SVDs are the CPU's", "[cuda]") {
  if (!has_device()) return;
  const any_quantizer quantizer = groups_of("nf4");
  for (const factor_storage factors : {factor_storage::fp32, factor_storage::int8, factor_storage::int4}) {
    CAPTURE(to_string(factors));
    decompose_options options = options_of("loftq");
    options.factors = factors;
    options.steps.factor_refits = 2;
    const metric weights = metric_for(calibration_use::fisher);
    check_same(on_device(test_weight().view(), quantizer, options, weights),
               decompose_on_cpu(test_weight().view(), quantizer, options, weights));
  }
  for (const index_t rank : {index_t{0}, index_t{1}, rows}) {
    CAPTURE(rank);
    decompose_options options = options_of("loftq", rank);
    options.factors = factor_storage::fp32;
    options.steps.iterations = 2;
    options.svd = rank == 1 ? svd_method::exact : svd_method::randomized;
    const decompose_result found = on_device(test_weight().view(), quantizer, options);
    if (rank < rows) check_same(found, decompose_on_cpu(test_weight().view(), quantizer, options));
    if (rank == rows) CHECK(found.relative_error < 1e-5); // L R alone is W - Q
  }
  const quantized_matrix given = quantizer.quantize(test_weight().view(), {}, {});
  decompose_options options = options_of("loftq");
  options.form = decomposition_form::fixed_q;
  options.given = &given;
  const decompose_result found = on_device(test_weight().view(), quantizer, options);
  check_same(found, decompose_on_cpu(test_weight().view(), quantizer, options));
  CHECK(found.best.quantized.codes() == given.codes());
}

TEST_CASE("decompose on a device: weights may be doubles of any strides", "[cuda]") {
  if (!has_device()) return;
  const any_quantizer quantizer = groups_of("nf4");
  const decompose_options options = options_of("loftq");
  matrix<double> turned(cols, rows);
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < cols; ++j) turned(j, i) = static_cast<double>(test_weight()(i, j));
  }
  auto device = cuda::to_device(turned.view());
  const cuda::context on;
  const decompose_result found =
      cuda::decompose<test_launcher>(on, device.view().transposed(), quantizer, options);
  const decompose_result plain = on_device(test_weight().view(), quantizer, options);
  CHECK(found.weighted_error == plain.weighted_error);
  CHECK(found.best.quantized.codes() == plain.best.quantized.codes());
}

TEST_CASE("decompose on a device: quantized inputs judge smoothing as on the CPU", "[cuda]") {
  if (!has_device()) return;
  const metric weights = metric_for(calibration_use::covariance);
  const matrix<float> inputs = correlated_inputs(40, cols, 5);
  decompose_options options = options_of("svdquant", 3);
  options.smoothing.activation_bits = 4;
  options.smoothing.activations = inputs.view();
  const any_quantizer quantizer = groups_of("int4");
  check_same(on_device(test_weight().view(), quantizer, options, weights),
             decompose_on_cpu(test_weight().view(), quantizer, options, weights));
}

TEST_CASE("decompose on a device: a caller's judge sees host copies, and every iteration is told of",
          "[cuda]") {
  if (!has_device()) return;
  decompose_options options = options_of("loftq");
  int judged = 0;
  int told = 0;
  options.judge = [&](const quantized_matrix& q, const matrix<float>& left, const matrix<float>& right) {
    CHECK((q.rows() == rows && left.cols() == rows && right.cols() == cols));
    return 1.0 + 0.1 * std::abs(++judged - 2); // the second iterate is best
  };
  options.on_iteration = [&](const iteration_report&) { ++told; };
  const decompose_result found = on_device(test_weight().view(), groups_of("nf4"), options);
  CHECK((judged == 4 && told == 4));
  CHECK(found.best_iteration == 2);
}

TEST_CASE("decompose on a device: a result may stay there", "[cuda]") {
  if (!has_device()) return;
  const any_quantizer quantizer = groups_of("int4");
  const metric weights = metric_for(calibration_use::covariance);
  const decompose_options options = options_of("svdquant", 5);
  const decompose_result expected = on_device(test_weight().view(), quantizer, options, weights);
  const cuda::context on;
  const auto device = cuda::to_device(test_weight().view());
  const cuda::device_decompose_result found =
      cuda::decompose_on_device<test_launcher>(on, device.view(), quantizer, options, weights);
  CHECK(found.summary.weighted_error == expected.weighted_error);
  CHECK((found.best.rows() == rows && found.best.cols() == cols && found.best.rank() == 5));
  CHECK(cuda::to_host(found.best.quantized).codes() == expected.best.quantized.codes());
  CHECK(found.best.input_scales == expected.best.input_scales);
  CHECK(found.best.factors == options.factors);
  const matrix<float> left = cuda::to_host(found.best.left);
  const matrix<float> right = cuda::to_host(found.best.right);
  REQUIRE((left.rows() == rows && left.cols() == 5));
  CHECK(std::equal(left.data(), left.data() + left.size(), expected.best.left.data()));
  CHECK(std::equal(right.data(), right.data() + right.size(), expected.best.right.data()));
}

TEST_CASE("decompose_batched: results are those of single calls, in order", "[cuda]") {
  if (!has_device()) return;
  const any_quantizer quantizer = groups_of("nf4", 8);
  const decompose_options options = options_of("loftq", 3);
  std::vector<cuda::device_matrix<float>> owners;
  std::vector<matrix<float>> sources;
  for (const auto& [m, n] : {std::pair<index_t, index_t>{12, 20}, {20, 12}, {9, 33}}) {
    sources.push_back(weight_like_matrix(m, n, static_cast<std::uint64_t>(m)));
    owners.push_back(cuda::to_device(sources.back().view()));
  }
  std::vector<cuda::device_view<const float>> views;
  for (const auto& owner : owners) views.push_back(owner.view());
  std::vector<metric> weights;
  for (const matrix<float>& w : sources)
    weights.push_back(
        make_metric(std::vector<float>(static_cast<std::size_t>(w.rows()), 2.0F), {}, w.rows(), w.cols()));
  for (const index_t lanes : {1, 2, 9}) {
    const std::vector<decompose_result> found =
        cuda::decompose_batched<test_launcher>(std::span<const cuda::device_view<const float>>(views),
                                               quantizer, options, weights, {.lanes = lanes});
    REQUIRE(found.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      const decompose_result single = on_device(sources[i].view(), quantizer, options, weights[i]);
      CHECK(found[i].weighted_error == single.weighted_error);
      CHECK(found[i].best.quantized.codes() == single.best.quantized.codes());
    }
  }
  const auto batch = [&](index_t lanes, std::size_t num_metrics) {
    return report_of([&] {
      (void)cuda::decompose_batched<test_launcher>(
          std::span<const cuda::device_view<const float>>(views), quantizer, options,
          std::span<const metric>(weights.data(), num_metrics), {.lanes = lanes});
    });
  };
  CHECK(batch(0, 3).says(status_code::invalid_argument, "lanes is 0, allowed are 1 and above"));
  CHECK(batch(1, 2).says(status_code::invalid_argument, "there are 2 metrics for 3 matrices"));
  CHECK(batch(1, 1).says(status_code::shape_mismatch, "metric row weights has 12 entries"));
  CHECK(cuda::decompose_batched<test_launcher>(std::span<const cuda::device_view<const float>>(), quantizer,
                                               options)
            .empty());
}

TEST_CASE("decompose on a device: what cannot be done is refused with the CPU's sentences", "[cuda]") {
  if (!has_device()) return;
  const any_quantizer quantizer = groups_of("nf4");
  const auto both_say = [&](const matrix<float>& w, const decompose_options& options, const metric& weights,
                            status_code code) {
    const report found = report_of([&] { (void)on_device(w.view(), quantizer, options, weights); });
    const report expected = report_of([&] { (void)decompose_on_cpu(w.view(), quantizer, options, weights); });
    CAPTURE(found.message, expected.message);
    CHECK((found.message == expected.message && found.code == code && expected.code == code));
  };
  matrix<float> w = test_weight();
  both_say(w, options_of("loftq", 49), {}, status_code::invalid_argument);
  both_say(w, options_of("loftq"), make_metric({1, 2}, {}, 2, cols), status_code::shape_mismatch);
  both_say(w, options_of("loftq", 0), {{}, std::vector<float>(static_cast<std::size_t>(cols), -1.0F), {}, {}},
           status_code::invalid_argument);
  decompose_options smooth = options_of("svdquant");
  smooth.smoothing.grid_steps = 0;
  both_say(w, smooth, metric_for(calibration_use::covariance), status_code::invalid_argument);
  w(7, 5) = std::numeric_limits<float>::quiet_NaN();
  both_say(w, options_of("loftq"), {}, status_code::non_finite);
  // Singular values beyond fp16, whatever entry it is.
  const matrix<float> huge = scaled(test_weight(), 0x1p60F);
  const any_quantizer wide = make_quantizer(
      "nf4", {.group_size = 16, .scales = scale_format{scale_coding::plain, scale_type::fp32}});
  const report found = report_of([&] { (void)on_device(huge.view(), wide, options_of("loftq")); });
  CHECK(found.says(status_code::unsupported, "beyond the range of fp16; store the factors in 32 bits"));
}

TEST_CASE("decompose on a device: matrices of zeros, of one element and of one row", "[cuda]") {
  if (!has_device()) return;
  for (const auto& [m, n] : {std::pair<index_t, index_t>{1, 1}, {1, 40}, {40, 1}, {5, 5}}) {
    for (const float value : {0.0F, 1.0F, 0x1p-140F}) {
      CAPTURE(m, n, value);
      const matrix<float> w(m, n, value);
      decompose_options options = options_of("loftq", 1);
      options.factors = factor_storage::fp32;
      const any_quantizer quantizer =
          make_quantizer("nf4", {.scales = scale_format{scale_coding::plain, scale_type::fp32}});
      const decompose_result found = on_device(w.view(), quantizer, options);
      const decompose_result expected = decompose_on_cpu(w.view(), quantizer, options);
      // A denormal of 2^-140 has nine bits.
      CHECK(is_near(found.weighted_error, expected.weighted_error, value == 0x1p-140F ? 0x1p-8 : 1e-6));
      CHECK(found.reason == expected.reason);
    }
  }
}

#if !defined(__CUDACC__) // about the fake device

namespace {
/// Runs `call` with each step-th allocation failing until none does; returns their number.
template <class Call>
int fail_allocations(int step, Call&& call) {
  for (int allowed = 0; allowed < 100000; allowed += step) {
    the_fake_device().allocations_before_failure = allowed;
    const report found = report_of(call);
    const bool has_failed = the_fake_device().allocations_before_failure < 0;
    the_fake_device().allocations_before_failure = -1;
    CHECK(fake_device::num_live_allocations() == 0);
    CHECK(the_fake_device().live_handles == 0);
    if (!has_failed) {
      CHECK(found.message.empty());
      return allowed;
    }
    CHECK(found.says(status_code::out_of_memory, "out of memory"));
  }
  return -1;
}
} // namespace

TEST_CASE("decompose on a device: a device without memory is an error that leaves nothing behind", "[cuda]") {
  const matrix<float> w = weight_like_matrix(4, 6, 4);
  const any_quantizer quantizer = groups_of("int4", 3);
  const matrix<double> covariance = slow_covariance(correlated_inputs(30, 6, 2));
  const metric weights = covariance_metric(covariance);
  for (const auto& [method, step] :
       {std::pair{"loftq", 1}, std::pair{"gptq-intrinsic", 1}, std::pair{"svdquant", 7}}) {
    CAPTURE(method);
    decompose_options options = options_of(method, 1);
    options.steps.iterations = 1;
    options.smoothing.grid_steps = 1;
    decompose_result result;
    result.iterations_run = 77;
    int completed = 0;
    const int count = fail_allocations(step, [&] {
      result = on_device(w.view(), quantizer, options, weights);
      ++completed;
    });
    CHECK(count > 20);
    CHECK(completed == 1); // untouched until then
  }
}

TEST_CASE("decompose on a device: no device is an error", "[cuda]") {
  the_fake_device().has_device = false;
  const report found = report_of([] { const cuda::context none; });
  the_fake_device().has_device = true;
  CHECK(found.says(status_code::device_failure, "cudaGetDevice"));
}

TEST_CASE("decompose on a device: an iteration waits a few times, however large the matrix", "[cuda]") {
  const auto waits_and_launches = [](int iterations) {
    decompose_options options = options_of("loftq");
    options.steps.iterations = iterations;
    const int waits = the_fake_device().num_waits;
    const auto launches = launched_kernels().size();
    (void)on_device(test_weight().view(), groups_of("nf4"), options);
    return std::pair(the_fake_device().num_waits - waits,
                     static_cast<int>(launched_kernels().size() - launches));
  };
  const auto [few_waits, few_launches] = waits_and_launches(2);
  const auto [many_waits, many_launches] = waits_and_launches(3);
  // Bases: one of each block, one between them, one against the first block, two more where that cost digits;
  // the small SVD, the range of the scales, the error.
  CHECK(many_waits - few_waits <= 9);
  CHECK(many_launches - few_launches <= 45);
  std::printf("an iteration of loftq: %d waits, %d kernels besides the libraries'\n", many_waits - few_waits,
              many_launches - few_launches);
}

#endif
