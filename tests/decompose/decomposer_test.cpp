// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// The functions of support.hpp, for all tests of this room, those about threads included.
#include <qlr/decompose/decomposer.hpp>

#include <decompose/support.hpp>
#include <support/catch.hpp>
#include <support/decompose.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

decompose_result qlr::test::split(matrix_view<const float> weight, const any_quantizer& quantizer,
                                  const decompose_options& options, const metric& weights,
                                  const executor& run) {
  return decompose(weight, quantizer, options, weights, run);
}

any_quantizer qlr::test::named(std::string_view format, const format_options& request) {
  return make_quantizer(format, request);
}

matrix<float> qlr::test::dense_of(const decomposition& parts) {
  return reconstruct(parts);
}

void qlr::test::store(matrix<float>& vectors, factor_storage storage) {
  round_factor(vectors, storage);
}

index_t qlr::test::bytes_of_factor(index_t rank, index_t length, factor_storage storage) {
  return factor_bytes(rank, length, storage);
}

namespace {

constexpr std::pair<index_t, index_t> shapes[] = {{1, 1}, {1, 7}, {7, 1}, {5, 33}, {33, 65}, {64, 64}};

/// Runs every method on one matrix and checks each result, and that `best` is not worse than Q alone.
void check_all_methods(const matrix<float>& w, const any_quantizer& quantizer, index_t rank,
                       factor_storage factors, const metric& weights = {}) {
  double plain = -1;
  for (const std::string_view method : all_methods) {
    CAPTURE(std::string(method));
    decompose_options options = options_of(method, rank, factors);
    options.steps.iterations = std::min(options.steps.iterations, 12);
    const decompose_result result = split(w.view(), quantizer, options, weights);
    CHECK(std::string(defect_of(w, result, weights)).empty());
    if (method == "qlora") plain = result.weighted_error;
    if (method == "best") CHECK(result.weighted_error <= plain);
  }
}

} // namespace

TEST_CASE("decompose: every method and format gives a finite result with the errors it reports",
          "[decompose][property]") {
  std::uint64_t seed = 0;
  for (const format_description& format : named_formats) {
    for (const auto& [rows, cols] : shapes) {
      const std::string name(format.name);
      CAPTURE(name, rows, cols);
      const matrix<float> w = weight_like_matrix(rows, cols, ++seed);
      const index_t rank = std::min<index_t>(4, std::min(rows, cols));
      check_all_methods(w, make_quantizer(format.name), rank, factor_storage::fp32);
    }
  }
}

TEST_CASE("decompose: every storage of factors and scales gives the errors it reports",
          "[decompose][property]") {
  const matrix<float> w = realistic_matrix(21, 65, 1);
  for (const factor_storage factors :
       {factor_storage::fp32, factor_storage::fp16, factor_storage::int8, factor_storage::int4}) {
    for (const std::string_view scale : {"fp32", "fp16", "bf16", "dq:8,fp32,16", "dq:4,bf16,7", "dq-bnb"}) {
      for (const index_t group_size :
           {index_t{1}, index_t{20}, index_t{65}, group_per_row, group_per_tensor}) {
        CAPTURE(std::string(to_string(factors)), std::string(scale), group_size);
        const any_quantizer nf3 = make_quantizer("nf3", {group_size, parse_scale_format(scale), false});
        check_all_methods(w, nf3, 3, factors);
      }
    }
  }
}

TEST_CASE("decompose: every method measures in the metric it is given", "[decompose][property]") {
  const matrix<float> w = realistic_matrix(33, 65, 2);
  matrix<float> fisher = normal_matrix(33, 65, 3);
  std::vector<float> rows(33);
  std::vector<float> cols(65);
  for (index_t i = 0; i < fisher.size(); ++i) {
    fisher.data()[i] *= fisher.data()[i];
    rows[static_cast<std::size_t>(i % 33)] += fisher.data()[i];
    cols[static_cast<std::size_t>(i % 65)] += fisher.data()[i];
  }
  const any_quantizer nf3 = small_groups("nf3");
  check_all_methods(w, nf3, 3, factor_storage::fp32, make_metric(rows, {}, 33, 65));
  check_all_methods(w, nf3, 3, factor_storage::fp32, make_metric({}, cols, 33, 65));
  check_all_methods(w, nf3, 3, factor_storage::fp16, make_metric(rows, cols, 33, 65));
  check_all_methods(w, nf3, 3, factor_storage::fp32, make_fisher_metric(fisher.view(), 33, 65));
}

TEST_CASE("decompose: a zero matrix is met exactly by every method and format", "[decompose]") {
  for (const format_description& format : named_formats) {
    for (const std::string_view method : all_methods) {
      for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {5, 33}}) {
        const std::string name(format.name);
        CAPTURE(name, std::string(method), rows, cols);
        const matrix<float> w(rows, cols, 0.0F);
        const decompose_result result = split(w.view(), make_quantizer(format.name), options_of(method, 1));
        CHECK(std::string(defect_of(w, result)).empty());
        CHECK(result.relative_error == 0.0);
        CHECK(result.reason == stop_reason::exact);
        CHECK(result.iterations_run <= 1);
      }
    }
  }
}

TEST_CASE("decompose: a matrix on the grid is met exactly by methods that quantize first", "[decompose]") {
  random_source random(4);
  matrix<float> w(6, 40);
  for (index_t i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(random.below(15) - 7);
  for (index_t i = 0; i < w.size(); i += 8) w.data()[i] = 7.0F; // every group of 8 has the scale 1
  for (const std::string_view method : {"qlora", "loftq", "zeroquant-v2", "lqer", "best"}) {
    CAPTURE(std::string(method));
    const decompose_result result = split(w.view(), small_groups("int4", 8), options_of(method, 2));
    CHECK(std::string(defect_of(w, result)).empty());
    CHECK(result.relative_error == 0.0);
    CHECK(result.reason == stop_reason::exact);
    CHECK(result.iterations_run <= 1);
  }
}

TEST_CASE("decompose: rank 0 is plain quantization", "[decompose]") {
  const matrix<float> w = realistic_matrix(20, 48, 5);
  const any_quantizer nf4 = small_groups("nf4");
  const decompose_result plain = split(w.view(), nf4, options_of("qlora", 0));
  for (const std::string_view method : {"loftq", "lq-lora", "zeroquant-v2", "lqer"}) {
    for (const svd_method svd : {svd_method::exact, svd_method::randomized}) {
      CAPTURE(std::string(method), static_cast<int>(svd));
      const decompose_result result = split(w.view(), nf4, options_of(method, 0, factor_storage::fp16, svd));
      CHECK(has_same_bytes(result.best.quantized, plain.best.quantized));
      CHECK(result.best.rank() == 0);
      CHECK(result.relative_error == plain.relative_error);
    }
  }
  CHECK(split(w.view(), nf4, options_of("best", 0)).relative_error <= plain.relative_error);
  CHECK(split(w.view(), nf4, options_of("qlora", 7)).best.rank() == 0); // has no low-rank part
}

TEST_CASE("decompose: full rank leaves rounding errors only", "[decompose]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {12, 33}, {33, 12}, {24, 24}}) {
    const matrix<float> w = realistic_matrix(rows, cols, 6);
    for (const std::string_view method : {"loftq", "lq-lora", "zeroquant-v2", "lqer", "best"}) {
      for (const svd_method svd : {svd_method::exact, svd_method::randomized}) {
        CAPTURE(rows, cols, std::string(method), static_cast<int>(svd));
        const decompose_options options = options_of(method, std::min(rows, cols), factor_storage::fp32, svd);
        CHECK(split(w.view(), small_groups("nf2", group_per_row), options).relative_error <= 3e-6);
      }
    }
  }
}

TEST_CASE("decompose: one-shot methods never lose by a larger rank", "[decompose][property]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{10, 24}, {24, 10}, {12, 12}}) {
    const matrix<float> w = realistic_matrix(rows, cols, 7, 3);
    for (const std::string_view method : {"loftq", "zeroquant-v2", "lqer"}) {
      double previous = 2;
      for (index_t rank = 0; rank <= std::min(rows, cols); ++rank) {
        CAPTURE(rows, cols, std::string(method), rank);
        decompose_options options = options_of(method, rank, factor_storage::fp32, svd_method::exact);
        options.steps.iterations = 1;
        const double error = split(w.view(), small_groups("nf3", 8), options).relative_error;
        CHECK(error <= previous + 1e-6); // rounding at full rank
        previous = error;
      }
    }
  }
}
