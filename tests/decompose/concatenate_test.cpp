// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/concatenate.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

matrix<float> stored(matrix<float> values, factor_storage storage, bool is_left) {
  if (is_left) values = to_row_major(std::as_const(values).view().transposed());
  round_factor(values, storage);
  if (is_left) values = to_row_major(std::as_const(values).view().transposed());
  return values;
}

decomposition make_base(index_t rows, index_t cols, index_t rank, float scale,
                        factor_storage storage = factor_storage::fp16) {
  decomposition base;
  base.quantized = make_quantizer("nf4").quantize(weight_like_matrix(rows, cols, 1).view(), {}, {});
  base.left = stored(normal_matrix(rows, rank, 2), storage, true);
  base.right = stored(normal_matrix(rank, cols, 3), storage, false);
  base.factors = storage;
  base.scale = scale;
  for (index_t j = 0; j < cols; ++j) base.input_scales.push_back(1.0F + static_cast<float>(j % 3));
  return base;
}

double product_at(const matrix<float>& left, const matrix<float>& right, double scale, index_t i, index_t j) {
  double sum = 0;
  for (index_t k = 0; k < left.cols(); ++k)
    sum += scale * static_cast<double>(left(i, k)) * static_cast<double>(right(k, j));
  return sum;
}

bool is_same(const matrix<float>& a, const matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && std::equal(a.data(), a.data() + a.size(), b.data());
}

/// Largest difference between s'' L'' R'' and the sum of both products, over the largest of these.
double deviation(const decomposition& base, const matrix<float>& left, const matrix<float>& right,
                 float scale, const decomposition& result) {
  double worst = 0;
  double largest = 0;
  for (index_t i = 0; i < base.rows(); ++i) {
    for (index_t j = 0; j < base.cols(); ++j) {
      const double expected = product_at(base.left, base.right, static_cast<double>(base.scale), i, j) +
                              product_at(left, right, static_cast<double>(scale), i, j);
      const double found = product_at(result.left, result.right, static_cast<double>(result.scale), i, j);
      worst = std::max(worst, std::isfinite(found) ? std::fabs(found - expected) : HUGE_VAL);
      largest = std::max(largest, std::fabs(expected));
    }
  }
  return largest > 0 ? worst / largest : worst;
}

} // namespace

TEST_CASE("concatenate: the product is the sum of both products", "[decompose]") {
  for (const auto& [rows, cols, rank, added] :
       std::vector<std::tuple<index_t, index_t, index_t, index_t>>{{1, 1, 1, 1},
                                                                   {1, 70, 1, 3},
                                                                   {6, 70, 3, 2},
                                                                   {9, 33, 0, 4},
                                                                   {9, 33, 4, 0},
                                                                   {5, 7, 0, 0},
                                                                   {4, 20, 12, 500}}) {
    for (const auto& [scale, added_scale] : std::vector<std::pair<float, float>>{{1.0F, 1.0F},
                                                                                 {1.0F, 2.0F},
                                                                                 {0.3F, 1.7F},
                                                                                 {0.0F, 2.0F},
                                                                                 {2.0F, 0.0F},
                                                                                 {-0.5F, 3.0F},
                                                                                 {0.0F, 0.0F}}) {
      CAPTURE(rows, cols, rank, added, scale, added_scale);
      const decomposition base = make_base(rows, cols, rank, scale);
      const matrix<float> left = normal_matrix(rows, added, 4);
      const matrix<float> right = normal_matrix(added, cols, 5);
      const decomposition result = concatenate(base, left.view(), right.view(), added_scale);
      CHECK(deviation(base, left, right, added_scale, result) < 3e-7);
      CHECK(result.quantized.codes() == base.quantized.codes());
      CHECK(result.input_scales == base.input_scales);
      CHECK(result.left.cols() == result.rank());
    }
  }
}

TEST_CASE("concatenate: a quotient of scales that is a power of two changes no bit", "[decompose]") {
  const decomposition base = make_base(6, 70, 3, 0.3F);
  const matrix<float> left = stored(normal_matrix(6, 2, 4), factor_storage::fp16, true);
  const matrix<float> right = stored(normal_matrix(2, 70, 5), factor_storage::fp16, false);
  const decomposition result = concatenate(base, left.view(), right.view(), 4 * 0.3F);
  CHECK(result.factors == factor_storage::fp16);
  CHECK(result.scale == 0.3F);
  REQUIRE(result.rank() == 5);
  bool is_exact = true;
  for (index_t i = 0; i < 6; ++i) {
    for (index_t k = 0; k < 3; ++k) is_exact = is_exact && result.left(i, k) == base.left(i, k);
    for (index_t k = 0; k < 2; ++k) is_exact = is_exact && result.left(i, 3 + k) == 4 * left(i, k);
  }
  for (index_t j = 0; j < 70; ++j) {
    for (index_t k = 0; k < 3; ++k) is_exact = is_exact && result.right(k, j) == base.right(k, j);
    for (index_t k = 0; k < 2; ++k) is_exact = is_exact && result.right(3 + k, j) == right(k, j);
  }
  CHECK(is_exact);
}

TEST_CASE("concatenate: storage is raised where entries would change, and only there", "[decompose]") {
  using enum factor_storage;
  for (const factor_storage storage : {int4, int8, fp16, fp32}) {
    for (const factor_storage added : {int4, int8, fp16, fp32}) {
      CAPTURE(std::string(to_string(storage)), std::string(to_string(added)));
      const decomposition base = make_base(6, 70, 3, 1.0F, storage);
      const matrix<float> left = stored(normal_matrix(6, 2, 4), added, true);
      const matrix<float> right = stored(normal_matrix(2, 70, 5), added, false);
      const decomposition result = concatenate(base, left.view(), right.view(), 1.0F);
      if (storage == added) {
        CHECK(result.factors == storage);
      }
      if (storage == fp32 || added == fp32) {
        CHECK(result.factors == fp32);
      }
      // what is stored is what was there
      CHECK(is_same(result.left, stored(result.left, result.factors, true)));
      CHECK(is_same(result.right, stored(result.right, result.factors, false)));
      CHECK(deviation(base, left, right, 1.0F, result) < 1e-12);
    }
  }
}

TEST_CASE("concatenate: one factor that needs more bits raises both", "[decompose]") {
  const decomposition base = make_base(6, 70, 3, 1.0F);
  const matrix<float> left = normal_matrix(6, 2, 4);
  const matrix<float> right = normal_matrix(2, 70, 5);
  const matrix<float> short_left = stored(left, factor_storage::fp16, true);
  const matrix<float> short_right = stored(right, factor_storage::fp16, false);
  CHECK(concatenate(base, short_left.view(), short_right.view(), 1.0F).factors == factor_storage::fp16);
  CHECK(concatenate(base, left.view(), short_right.view(), 1.0F).factors == factor_storage::fp32);
  CHECK(concatenate(base, short_left.view(), right.view(), 1.0F).factors == factor_storage::fp32);
}

TEST_CASE("concatenate: a storage that is asked for rounds", "[decompose]") {
  const decomposition base = make_base(6, 70, 3, 1.0F);
  const matrix<float> left = normal_matrix(6, 2, 4);
  const matrix<float> right = normal_matrix(2, 70, 5);
  CHECK(concatenate(base, left.view(), right.view(), 1.0F).factors == factor_storage::fp32);
  const decomposition result = concatenate(base, left.view(), right.view(), 1.0F, factor_storage::fp16);
  CHECK(result.factors == factor_storage::fp16);
  CHECK(is_same(result.left, stored(result.left, factor_storage::fp16, true)));
  CHECK(deviation(base, left, right, 1.0F, result) < 2e-3);
  const matrix<float> large(6, 2, 1e5F);
  CHECK(concatenate(base, large.view(), right.view(), 1.0F).factors == factor_storage::fp32);
  CHECK(report_of([&] {
          (void)concatenate(base, large.view(), right.view(), 1.0F, factor_storage::fp16);
        }).says(status_code::unsupported, "beyond the range of fp16"));
}

TEST_CASE("concatenate: strided factors are read as they are", "[decompose]") {
  const decomposition base = make_base(6, 70, 3, 1.0F);
  const matrix<float> left = normal_matrix(6, 2, 4);
  const matrix<float> right = normal_matrix(2, 70, 5);
  const matrix<float> left_columns = to_row_major(left.view().transposed());
  const matrix<float> right_columns = to_row_major(right.view().transposed());
  const decomposition result =
      concatenate(base, left_columns.view().transposed(), right_columns.view().transposed(), 1.0F);
  CHECK(is_same(result.left, concatenate(base, left.view(), right.view(), 1.0F).left));
  CHECK(is_same(result.right, concatenate(base, left.view(), right.view(), 1.0F).right));
}

TEST_CASE("concatenate: bad input is refused", "[decompose]") {
  const decomposition base = make_base(6, 70, 3, 1e-30F);
  const auto refuse = [&](const matrix<float>& left, const matrix<float>& right, float scale,
                          status_code code, const std::string& part) {
    CAPTURE(part);
    CHECK(report_of([&] { (void)concatenate(base, left.view(), right.view(), scale); }).says(code, part));
  };
  const matrix<float> left = normal_matrix(6, 2, 4);
  const matrix<float> right = normal_matrix(2, 70, 5);
  refuse(normal_matrix(5, 2, 4), right, 1.0F, status_code::shape_mismatch,
         "L is 5 x 2 and R is 2 x 70, Q is 6 x 70");
  refuse(left, normal_matrix(3, 70, 5), 1.0F, status_code::shape_mismatch, "R is 3 x 70");
  refuse(left, normal_matrix(2, 71, 5), 1.0F, status_code::shape_mismatch, "R is 2 x 71");
  refuse(left, right, std::numeric_limits<float>::quiet_NaN(), status_code::non_finite,
         "adapter scale is nan");
  refuse(left, right, 1e20F, status_code::non_finite, "must be finite in float");
  matrix<float> broken = left;
  broken(4, 1) = std::numeric_limits<float>::infinity();
  refuse(broken, right, 1.0F, status_code::non_finite, "adapter L(4, 1) is inf");
  broken = right;
  broken(1, 69) = std::numeric_limits<float>::quiet_NaN();
  refuse(left, broken, 1.0F, status_code::non_finite, "adapter R(1, 69) is nan");
}
