// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/core/parallel.hpp>

#include <decompose/support.hpp>
#include <support/catch.hpp>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("schedule: more iterations never give a worse result", "[decompose][property]") {
  const matrix<float> w = realistic_matrix(48, 80, 1);
  for (const std::string_view method : {"loftq", "lq-lora", "best"}) {
    for (const std::string_view format : {"nf2", "int4", "mxint3"}) {
      for (const factor_storage factors : {factor_storage::fp32, factor_storage::int4}) {
        double previous = 2;
        for (const int iterations : {1, 2, 3, 5, 10}) {
          CAPTURE(std::string(method), std::string(format), iterations);
          decompose_options options = options_of(method, 4, factors);
          options.steps.iterations = iterations;
          const decompose_result result = split(w.view(), named(format), options);
          CHECK(result.relative_error <= previous);
          CHECK(result.iterations_run <= iterations);
          previous = result.relative_error;
        }
      }
    }
  }
}

TEST_CASE("schedule: a larger rank never gives a worse result on realistic weights",
          "[decompose][property]") {
  const matrix<float> w = realistic_matrix(128, 192, 2, 8);
  for (const auto& [method, format] : {std::pair<std::string_view, std::string_view>{"loftq", "nf2"},
                                       {"loftq", "nf4"},
                                       {"lq-lora", "nf3"},
                                       {"best", "nf2"}}) {
    double previous = 2;
    for (const index_t rank : {0, 1, 2, 4, 8, 16, 32}) {
      CAPTURE(std::string(method), std::string(format), rank);
      const double error = split(w.view(), named(format), options_of(method, rank)).relative_error;
      CHECK(error <= previous);
      previous = error;
    }
  }
}

TEST_CASE("schedule: best is never worse than Q alone, whatever the storage", "[decompose][property]") {
  // Adversarial for it: white noise at a rank that buys nothing, coarse factors, a quantizer that searches.
  for (const bool is_searching : {false, true}) {
    for (const std::string_view format : {"nf2", "int8", "sign", "uint3"}) {
      for (const factor_storage factors :
           {factor_storage::fp32, factor_storage::fp16, factor_storage::int4}) {
        for (const index_t rank : {0, 1, 6}) {
          CAPTURE(is_searching, std::string(format), std::string(to_string(factors)), rank);
          const matrix<float> w = normal_matrix(24, 64, 3);
          const any_quantizer quantizer = named(format, {16, {}, is_searching});
          const double plain = split(w.view(), quantizer, options_of("qlora", 0)).relative_error;
          CHECK(split(w.view(), quantizer, options_of("best", rank, factors)).relative_error <= plain);
        }
      }
    }
  }
}

TEST_CASE("schedule: best beats the alternation without search on realistic weights", "[decompose]") {
  const matrix<float> w = realistic_matrix(128, 192, 4, 8);
  for (const std::string_view format : {"nf2", "nf3", "nf4"}) {
    CAPTURE(std::string(format));
    const double loftq =
        split(w.view(), named(format), options_of("loftq", 8, factor_storage::fp16)).relative_error;
    CHECK(split(w.view(), named(format), options_of("best", 8, factor_storage::fp16)).relative_error <
          0.9 * loftq);
  }
}

namespace {

/// A quantizer that keeps the hints it is given.
struct recording_quantizer {
  any_quantizer real = small_groups("nf4", 4);
  std::vector<std::vector<float>>* column_weights = nullptr;

  [[nodiscard]] std::string name() const { return "recording"; }
  [[nodiscard]] quantized_layout layout(index_t rows, index_t cols) const { return real.layout(rows, cols); }
  [[nodiscard]] quantized_matrix quantize(matrix_view<const float> weight, const quantize_hints& hints,
                                          const executor& run) const {
    column_weights->emplace_back();
    if (hints.column_weights != nullptr)
      column_weights->back().assign(hints.column_weights, hints.column_weights + weight.cols());
    return real.quantize(weight, hints, run);
  }
};

} // namespace

TEST_CASE("schedule: the scale search gets the squared column weights of the metric", "[decompose]") {
  const matrix<float> w = normal_matrix(6, 8, 13);
  const metric weights = make_metric({}, {1, 4, 9, 16, 25, 36, 49, 64}, 6, 8);
  std::vector<std::vector<float>> seen;
  const any_quantizer quantizer = recording_quantizer{.column_weights = &seen};
  (void)split(w.view(), quantizer, options_of("best", 2), weights);
  REQUIRE(seen.size() > 2);
  CHECK(seen.front().empty()); // Q alone: as the quantizer is configured
  for (std::size_t i = 1; i < seen.size(); ++i) {
    CHECK(seen[i] == std::vector<float>{1, 4, 9, 16, 25, 36, 49, 64});
  }
  seen.clear();
  (void)split(w.view(), quantizer, options_of("loftq", 2), weights);
  CHECK(seen == std::vector<std::vector<float>>(5));
}

TEST_CASE("schedule: the scale search and the over-relaxation of best each lower the error", "[decompose]") {
  const matrix<float> w = realistic_matrix(128, 192, 4, 8);
  const decompose_options options = options_of("best", 8);
  const double error = split(w.view(), named("nf2"), options).relative_error;
  decompose_options without_search = options;
  without_search.steps.searches_scales = false;
  CHECK(error < 0.97 * split(w.view(), named("nf2"), without_search).relative_error);
  decompose_options without_relaxation = options;
  without_relaxation.steps.relaxation = 0;
  CHECK(error < 0.99 * split(w.view(), named("nf2"), without_relaxation).relative_error);
}

TEST_CASE("schedule: the history is complete and is reported line by line", "[decompose]") {
  const matrix<float> w = realistic_matrix(40, 64, 5);
  for (const std::string_view method : all_methods) {
    CAPTURE(std::string(method));
    std::vector<iteration_report> lines;
    decompose_options options = options_of(method, 4);
    options.on_iteration = [&](const iteration_report& line) { lines.push_back(line); };
    const decompose_result result = split(w.view(), named("nf3"), options);
    REQUIRE(lines.size() == result.history.size());
    const int first = options.steps.compares_plain ? 0 : 1;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const int half_steps = options.steps.judges_half_steps ? 2 : 1;
      const int missing =
          options.steps.judges_half_steps && options.steps.first == half_step::low_rank ? 1 : 0;
      CHECK(lines[i].iteration == first + (static_cast<int>(i) + missing) / half_steps);
      CHECK(lines[i].iteration == result.history[i].iteration);
      CHECK(lines[i].relative_error == result.history[i].relative_error);
      CHECK(lines[i].weighted_error == result.history[i].weighted_error);
      CHECK(lines[i].weighted_error == lines[i].relative_error); // identity metric
      CHECK(lines[i].is_best == result.history[i].is_best);
      if (lines[i].iteration == result.best_iteration && half_steps == 1) CHECK(lines[i].is_best);
    }
    CHECK(result.seconds_total >= result.seconds_svd + result.seconds_quantize);
    CHECK(result.seconds_quantize > 0.0);
    CHECK((result.seconds_svd > 0.0) == options.steps.has_low_rank);
  }
}

TEST_CASE("schedule: each method stops for its own reason", "[decompose]") {
  const matrix<float> w = realistic_matrix(40, 64, 6);
  const auto result = [&](std::string_view method) {
    return split(w.view(), named("nf3"), options_of(method, 4));
  };
  const decompose_result loftq = result("loftq");
  CHECK(loftq.reason == stop_reason::iterations_done);
  CHECK(loftq.iterations_run == 5);
  const decompose_result lq_lora = result("lq-lora");
  REQUIRE(lq_lora.reason == stop_reason::error_rose);
  const int patience = find_preset("lq-lora").steps.patience;
  CHECK(lq_lora.best_iteration == lq_lora.iterations_run - patience);
  decompose_options impatient = options_of("lq-lora", 4);
  impatient.steps.patience = 1; // the paper's rule
  const decompose_result first_rise = split(w.view(), named("nf3"), impatient);
  const std::size_t last = first_rise.history.size() - 1;
  CHECK(first_rise.reason == stop_reason::error_rose);
  CHECK(first_rise.history[last].weighted_error > first_rise.history[last - 1].weighted_error);
  for (std::size_t i = 1; i < last; ++i) {
    CHECK(first_rise.history[i].weighted_error <= first_rise.history[i - 1].weighted_error);
  }
  CHECK(lq_lora.weighted_error <= first_rise.weighted_error);
  decompose_options patient = options_of("best", 4);
  patient.steps.iterations = 300;
  const decompose_result best = split(w.view(), named("nf3"), patient);
  CHECK(best.reason == stop_reason::stalled);
  CHECK(best.iterations_run > patient.steps.relaxed_iterations);
  CHECK(best.iterations_run < 300);
}

TEST_CASE("schedule: lqer differs from zeroquant-v2 in the factors, not in their product", "[decompose]") {
  const matrix<float> w = realistic_matrix(30, 48, 7);
  const decomposition balanced = split(w.view(), named("bfp4"), options_of("zeroquant-v2", 4)).best;
  const decomposition left = split(w.view(), named("bfp4"), options_of("lqer", 4)).best;
  CHECK(has_same_bytes(balanced.quantized, left.quantized));
  const matrix<float> a = dense_of(balanced);
  CHECK(squared_error(a, dense_of(left)) <= 1e-12 * squared_error(a, matrix<float>(30, 48, 0.0F)));
  for (index_t k = 0; k < 4; ++k) {
    double left_norm = 0;
    double right_norm = 0;
    double unit_norm = 0;
    for (index_t i = 0; i < 30; ++i) left_norm += std::pow(static_cast<double>(balanced.left(i, k)), 2);
    for (index_t j = 0; j < 48; ++j) right_norm += std::pow(static_cast<double>(balanced.right(k, j)), 2);
    for (index_t j = 0; j < 48; ++j) unit_norm += std::pow(static_cast<double>(left.right(k, j)), 2);
    CHECK(is_near(left_norm, right_norm, 1e-4 * left_norm));
    CHECK(is_near(unit_norm, 1.0, 1e-4));
  }
}

TEST_CASE("schedule: huge and tiny matrices give the relative error of the unscaled one",
          "[decompose][property]") {
  const matrix<float> w = realistic_matrix(24, 48, 8);
  for (const std::string_view method : all_methods) {
    for (const svd_method svd : {svd_method::exact, svd_method::randomized}) {
      for (const std::string_view format : {"nf4", "int3", "uint4", "minmax4"}) {
        const decompose_options options = options_of(method, 4, factor_storage::fp32, svd);
        const decompose_result base = split(w.view(), small_groups(format), options);
        for (const float unit : {0x1p100F, 0x1p-100F, 1e30F, 1e-30F}) {
          CAPTURE(std::string(method), static_cast<int>(svd), std::string(format), unit);
          const decompose_result result = split(scaled(w, unit).view(), small_groups(format), options);
          const bool is_exact = unit == 0x1p100F || unit == 0x1p-100F;
          // Other factors round each element, and an alternating loop may then take another path.
          CHECK(is_near(result.relative_error, base.relative_error,
                        (is_exact ? 1e-6 : 0.02) * base.relative_error));
          CHECK(is_all_finite(dense_of(result.best)));
        }
      }
    }
  }
}

TEST_CASE("schedule: views with any strides give the result of the plain matrix", "[decompose]") {
  const matrix<float> w = realistic_matrix(20, 34, 9);
  const decompose_options options = options_of("best", 3);
  const decompose_result base = split(w.view(), small_groups("nf4"), options);
  for (const placement where : all_placements) {
    CAPTURE(static_cast<int>(where));
    const placed_matrix<float> placed(w.view(), where);
    CHECK(has_same_bits(split(placed.view(), small_groups("nf4"), options), base));
  }
  // Rows 64 MB apart: 320 MB of address space, of which five pages are touched.
  constexpr index_t stride = index_t{1} << 24;
  const auto memory = std::make_unique_for_overwrite<float[]>(4 * stride + 34);
  const matrix_view<float> sparse(memory.get(), 5, 34, stride);
  matrix<float> five(5, 34);
  for (index_t i = 0; i < 5; ++i) {
    for (index_t j = 0; j < 34; ++j) sparse(i, j) = five(i, j) = w(i, j);
  }
  CHECK(has_same_bits(split(sparse, small_groups("nf4"), options),
                      split(five.view(), small_groups("nf4"), options)));
  // A stride that is never taken may be anything.
  const matrix_view<const float> one_row(w.data(), 1, 34, index_t{1} << 61);
  const matrix_view<const float> plain_row(w.data(), 1, 34);
  const decompose_options one = options_of("loftq", 1);
  CHECK(has_same_bits(split(one_row, small_groups("nf4"), one), split(plain_row, small_groups("nf4"), one)));
}

TEST_CASE("schedule: the input is not modified", "[decompose]") {
  const matrix<float> w = realistic_matrix(20, 34, 10);
  const matrix<float> copy = w;
  for (const std::string_view method : all_methods) {
    for (const svd_method svd : {svd_method::exact, svd_method::randomized}) {
      (void)split(w.view(), small_groups("nf4"), options_of(method, 3, factor_storage::int8, svd));
      CHECK(has_same_bits(w, copy));
    }
  }
}

TEST_CASE("schedule: the seed changes the randomized sketch and nothing else", "[decompose]") {
  const matrix<float> w = realistic_matrix(60, 90, 11);
  const auto result = [&](std::string_view method, svd_method svd, std::uint64_t seed) {
    decompose_options options = options_of(method, 4, factor_storage::fp32, svd);
    options.sketch.seed = seed;
    return split(w.view(), named("nf3"), options);
  };
  for (const std::string_view method : all_methods) {
    CAPTURE(std::string(method));
    CHECK(has_same_bits(result(method, svd_method::exact, 1), result(method, svd_method::exact, 2)));
    const decompose_result one = result(method, svd_method::randomized, 1);
    const decompose_result two = result(method, svd_method::randomized, 2);
    CHECK(has_same_bits(one, result(method, svd_method::randomized, 1)));
    CHECK(has_same_bits(one, two) == !find_preset(method).steps.has_low_rank);
    CHECK(is_near(one.relative_error, two.relative_error, 0.02 * one.relative_error));
  }
}

TEST_CASE("schedule: every method gives the same bits on 1, 2 and 3 threads", "[decompose][threads]") {
  const matrix<float> w = realistic_matrix(150, 900, 12); // three or more pieces of everything that is cut
  for (const std::string_view method : all_methods) {
    for (const factor_storage factors : {factor_storage::fp32, factor_storage::int4}) {
      CAPTURE(std::string(method), std::string(to_string(factors)));
      decompose_options options = options_of(method, 8, factors);
      options.steps.iterations = std::min(options.steps.iterations, 2);
      options.steps.relaxed_iterations = std::min(options.steps.relaxed_iterations, 1);
      const decompose_result serial = split(w.view(), named("nf4"), options);
      for (const int num_threads : {1, 2, 3}) {
        CAPTURE(num_threads);
        thread_pool pool(num_threads);
        CHECK(has_same_bits(split(w.view(), named("nf4"), options, {}, pool), serial));
      }
    }
  }
}
