// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <support/adapter.hpp>
#include <support/catch.hpp>
#include <support/exact_svd.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr std::array all_refinements{adapter_refinement::none, adapter_refinement::sgd,
                                     adapter_refinement::als};

struct factors {
  matrix<float> left;
  matrix<float> right;
};

/// A trained adapter in kind: singular values that fall.
factors make_factors(index_t rows, index_t cols, index_t rank, std::uint64_t seed = 1, double decay = 0.7) {
  factors made{normal_matrix(rows, rank, seed, 0.05), normal_matrix(rank, cols, seed + 1, 0.05)};
  for (index_t k = 0; k < rank; ++k) {
    for (index_t j = 0; j < cols; ++j) made.right(k, j) *= static_cast<float>(std::pow(decay, k));
  }
  return made;
}

adapter_result quantized(const factors& parts, const adapter_options& options = {},
                         const executor& run = {}) {
  return quantize_adapter(parts.left.view(), parts.right.view(), options, 1.0F, run);
}

bool has_same_bytes(const quantized_adapter& a, const quantized_adapter& b) {
  return qlr::test::has_same_bytes(a.left.high, b.left.high) &&
         qlr::test::has_same_bytes(a.left.low, b.left.low) &&
         qlr::test::has_same_bytes(a.right.high, b.right.high) &&
         qlr::test::has_same_bytes(a.right.low, b.right.low);
}

struct shape {
  index_t rows, cols, rank, group_size;
};
constexpr std::array shapes{shape{1, 1, 1, 128},    shape{1, 9, 1, 4},   shape{9, 1, 3, 128},
                            shape{5, 7, 12, 3},     shape{33, 20, 4, 8}, shape{130, 70, 6, 0},
                            shape{40, 129, 8, 128}, shape{3, 50, 5, 16}};

} // namespace

TEST_CASE("split_rank_of: counts the values that reach the share, as the paper or one fewer", "[decompose]") {
  const std::vector<double> values{3, 2, 1, 1}; // squares 9 4 1 1 of 15
  const auto count = [&](double ratio) { return split_rank_of(values, ratio, adapter_split::reaches); };
  const auto before = [&](double ratio) { return split_rank_of(values, ratio, adapter_split::before); };
  CHECK(count(0.0) == 1);
  CHECK(count(0.6) == 1);
  CHECK(count(0.601) == 2);
  CHECK(count(0.9) == 3);
  CHECK(count(1.0) == 4);
  CHECK(before(0.0) == 1);
  CHECK(before(0.6) == 1);
  CHECK(before(0.601) == 1);
  CHECK(before(0.9) == 2);
  CHECK(before(1.0) == 3);
  CHECK(split_rank_of(std::vector<double>{0, 0}, 0.9, adapter_split::reaches) == 1);
  CHECK(split_rank_of(std::vector<double>{0, 0}, 1.0, adapter_split::reaches) == 2);
  CHECK(split_rank_of(std::vector<double>{0.1, 0.1, 0.1}, 1.0, adapter_split::reaches) == 3); // sums round
}

TEST_CASE("quantize_adapter: the error and norm that are reported are those of the dense product",
          "[decompose]") {
  for (const shape& s : shapes) {
    const factors parts = make_factors(s.rows, s.cols, s.rank);
    for (const adapter_refinement refinement : all_refinements) {
      adapter_options options;
      options.group_size = s.group_size;
      options.refinement = refinement;
      options.sgd_steps = 20;
      CAPTURE(s.rows, s.cols, s.rank, static_cast<int>(refinement));
      const adapter_result result = quantized(parts, options);
      CHECK(result.adapter.rows() == s.rows);
      CHECK(result.adapter.cols() == s.cols);
      CHECK(result.adapter.rank() == std::min({s.rows, s.cols, s.rank}));
      const matrix<double> product = slow_product(parts.left, parts.right);
      // Squares that cancel in double leave 1e-8.
      CHECK(is_near(result.relative_error, slow_error(parts.left, parts.right, result.adapter), 1e-7));
      double norm = 0;
      for (index_t i = 0; i < product.size(); ++i) norm += product.data()[i] * product.data()[i];
      CHECK(is_near(result.norm, std::sqrt(norm), 1e-9 * std::sqrt(norm)));
      CHECK(result.relative_error <= result.relative_error_rounded);
    }
  }
}

TEST_CASE("quantize_adapter: eight bits everywhere leave only what eight bits lose", "[decompose]") {
  // The basis, its singular values and their split are right if the product comes back. The widest range of a
  // group of normal numbers is about 6 deviations in 255 steps, so each factor loses 6 / 255 / sqrt(12) = 0.7
  // %.
  for (const shape& s : shapes) {
    adapter_options options;
    options.high_bits = 8;
    options.ratio = 1;
    options.group_size = s.group_size;
    CAPTURE(s.rows, s.cols, s.rank);
    const adapter_result result = quantized(make_factors(s.rows, s.cols, s.rank), options);
    CHECK(result.adapter.split_rank() == result.adapter.rank());
    CHECK(result.relative_error < 0.012);
    CHECK(result.adapter.bits_without_scales() == 8.0);
  }
}

TEST_CASE("quantize_adapter: splits where the exact singular values say", "[decompose]") {
  const factors parts = make_factors(60, 45, 8);
  matrix<float> product(60, 45);
  const matrix<double> dense = slow_product(parts.left, parts.right);
  for (index_t i = 0; i < dense.size(); ++i) product.data()[i] = static_cast<float>(dense.data()[i]);
  const auto exact = host::exact_svd(product, 8);
  std::vector<double> values;
  for (index_t k = 0; k < 8; ++k) values.push_back(static_cast<double>(exact.values(0, k)));
  for (const double ratio : {0.3, 0.5, 0.7, 0.8, 0.9, 0.95}) {
    adapter_options options;
    options.ratio = ratio;
    CHECK(quantized(parts, options).adapter.split_rank() ==
          split_rank_of(values, ratio, adapter_split::reaches));
  }
}

TEST_CASE("quantize_adapter: average bits are counted by the paper's formula and from the bytes",
          "[decompose]") {
  const factors parts = make_factors(256, 384, 8);
  adapter_options options;
  options.high_bits = 3;
  options.scales = scale_type::fp16;
  const adapter_result result = quantized(parts, options);
  const auto h = static_cast<double>(result.adapter.split_rank());
  CHECK(result.adapter.bits_without_scales() == (3 * h + (8 - h)) / 8);
  // Per vector 2 + 3 groups of 128: 16 bits each, 3 more for a zero point.
  const double scales = 5 * (16 * 8 + 3 * h) / (8 * (256 + 384));
  CHECK(is_near(result.adapter.bits_with_scales(), result.adapter.bits_without_scales() + scales,
                8.0 * 8 / 5120));
}

TEST_CASE("quantize_adapter: refinement lowers the error of every golden-like adapter", "[decompose]") {
  for (const int bits : {2, 3}) {
    const factors parts = make_factors(192, 256, 12, static_cast<std::uint64_t>(bits));
    adapter_options options;
    options.high_bits = bits;
    const double rounded = quantized(parts, options).relative_error;
    options.refinement = adapter_refinement::sgd;
    const double descended = quantized(parts, options).relative_error;
    options.refinement = adapter_refinement::als;
    const double fitted = quantized(parts, options).relative_error;
    CHECK(descended <= rounded);
    CHECK(fitted < 0.9 * descended);
    CHECK(fitted < 0.9 * rounded);
  }
}

TEST_CASE("quantize_adapter: gradient descent improves what a range rule gives, with either gradient",
          "[decompose]") {
  const factors parts = make_factors(192, 256, 12);
  adapter_options options;
  options.range = adapter_range::extended;
  options.refinement = adapter_refinement::sgd;
  options.sgd_rate = 0.05;
  for (const adapter_gradient gradient : {adapter_gradient::scale, adapter_gradient::straight_through}) {
    options.gradient = gradient;
    const adapter_result result = quantized(parts, options);
    CHECK(result.relative_error < 0.97 * result.relative_error_rounded);
  }
}

TEST_CASE("quantize_adapter: a given basis is quantized as the quantizers alone do", "[decompose]") {
  const factors parts = make_factors(70, 90, 5);
  adapter_options options;
  options.basis = adapter_basis::given;
  options.range = adapter_range::extended;
  options.high_bits = 4;
  options.group_size = 32;
  options.scales = scale_type::fp16;
  const quantized_adapter adapter = quantized(parts, options).adapter;
  const any_quantizer plain = make_quantizer("uint4", {.group_size = 32});
  CHECK(adapter.split_rank() == 5);
  CHECK(qlr::test::has_same_bytes(adapter.right.high, quantize(parts.right.view(), plain)));
  CHECK(qlr::test::has_same_bytes(adapter.left.high, quantize(parts.left.view().transposed(), plain)));
}

TEST_CASE("quantize_adapter: zero adapters, zero vectors and constants work", "[decompose]") {
  for (const adapter_refinement refinement : all_refinements) {
    for (const double ratio : {0.0, 0.9, 1.0}) {
      adapter_options options;
      options.refinement = refinement;
      options.ratio = ratio;
      CAPTURE(static_cast<int>(refinement), ratio);
      const factors zero{matrix<float>(6, 3, 0.0F), matrix<float>(3, 9, 0.0F)};
      const adapter_result nothing = quantized(zero, options);
      CHECK(nothing.relative_error == 0.0);
      CHECK(slow_error(zero.left, zero.right, nothing.adapter) == 0.0);
      // A rank of one: the other singular values are zero.
      const factors constant{matrix<float>(6, 3, 2.0F), matrix<float>(3, 9, 0.5F)};
      CHECK(quantized(constant, options).relative_error <
            0.01); // bf16 scales lose 0.4 % at most in each factor
      factors fresh = make_factors(20, 30, 4);
      fresh.left.fill(0.0F); // LoRA's start: B = 0
      CHECK(quantized(fresh, options).relative_error == 0.0);
    }
  }
}

TEST_CASE("quantize_adapter: the size of the numbers does not matter", "[decompose]") {
  const factors parts = make_factors(64, 96, 6);
  for (const adapter_refinement refinement : {adapter_refinement::none, adapter_refinement::als}) {
    adapter_options options;
    options.refinement = refinement;
    const double usual = quantized(parts, options).relative_error;
    for (const auto& [left, right] :
         {std::pair{0x1p60F, 0x1p60F}, {0x1p-50F, 0x1p-50F}, {0x1p100F, 0x1p-100F}}) {
      const factors moved{scaled(parts.left, left), scaled(parts.right, right)};
      CAPTURE(left, right, static_cast<int>(refinement));
      CHECK(is_near(quantized(moved, options).relative_error, usual, 0.02 * usual)); // roots round elsewhere
    }
  }
}

TEST_CASE("quantize_adapter: the same bits on any number of threads, from any memory order",
          "[decompose][threads]") {
  const factors parts = make_factors(300, 520, 9);
  thread_pool pool(3);
  for (const adapter_refinement refinement : all_refinements) {
    adapter_options options;
    options.refinement = refinement;
    options.sgd_steps = 10;
    const adapter_result alone = quantized(parts, options);
    const adapter_result together = quantized(parts, options, pool);
    CHECK(has_same_bytes(alone.adapter, together.adapter));
    CHECK(alone.relative_error == together.relative_error);
    const placed_matrix<double> left(parts.left.view(), placement::column_major);
    const placed_matrix<double> right(parts.right.view(), placement::every_other_element);
    CHECK(has_same_bytes(alone.adapter, quantize_adapter(left.view(), right.view(), options).adapter));
  }
}

TEST_CASE("quantize_adapter: impossible arguments are refused with a sentence", "[decompose]") {
  const factors parts = make_factors(6, 8, 2);
  const auto refused = [&](auto&& change) {
    adapter_options options;
    change(options);
    return report_of([&] { (void)quantized(parts, options); }).message;
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(has(refused([](adapter_options& o) { o.high_bits = 9; }), "high_bits is 9"));
  CHECK(has(refused([](adapter_options& o) { o.high_bits = 0; }), "high_bits is 0"));
  CHECK(has(refused([](adapter_options& o) { o.ratio = 1.1; }), "ratio is 1.1"));
  CHECK(has(refused([](adapter_options& o) { o.ratio = std::numeric_limits<double>::quiet_NaN(); }),
            "ratio is"));
  CHECK(has(refused([](adapter_options& o) { o.group_size = -1; }), "group_size is -1"));
  CHECK(has(refused([](adapter_options& o) { o.scales = scale_type::e8m0; }), "scales is e8m0"));
  CHECK(has(refused([](adapter_options& o) { o.sgd_steps = -1; }), "sgd_steps is -1"));
  CHECK(has(refused([](adapter_options& o) { o.als_sweeps = -1; }), "als_sweeps is -1"));
  CHECK(has(refused([](adapter_options& o) {
              o.high_bits = 1;
              o.refinement = adapter_refinement::sgd;
            }),
            "high_bits is 1"));
  const auto error_of = [](const matrix<float>& left, const matrix<float>& right, float scale) {
    return report_of([&] { (void)quantize_adapter(left.view(), right.view(), {}, scale); }).message;
  };
  CHECK(has(error_of(parts.left, matrix<float>(3, 8, 1.0F), 1.0F), "L is 6 x 2 and R is 3 x 8"));
  CHECK(has(error_of(matrix<float>(0, 2), parts.right, 1.0F), "must not be empty"));
  CHECK(has(error_of(parts.left, parts.right, std::numeric_limits<float>::infinity()), "scale is inf"));
  matrix<float> broken(parts.left);
  broken(4, 1) = std::numeric_limits<float>::quiet_NaN();
  CHECK(has(error_of(broken, parts.right, 1.0F), "L(4, 1) is nan"));
}
