// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/matmul.hpp>

#include <qlr/quant/formats.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/matmul.hpp>
#include <support/oracles.hpp>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

quantized_matrix quantized(index_t rows, index_t cols) {
  const matrix<float> weight = normal_matrix(rows, cols, 1);
  return quantize(weight.view(), make_quantizer("nf4"));
}

/// The sentence of the error that a call ends with; empty when it succeeds.
template <class Call>
std::string error_of(Call&& call) {
  return report_of(call).message;
}

/// s (x R^T) L^T of one token by the definition.
double adapter_output(const packed_factors& adapter, const matrix<float>& x, index_t t, index_t i) {
  const matrix<float> left = adapter.left();
  const matrix<float> right = adapter.right();
  double sum = 0;
  for (index_t k = 0; k < adapter.rank(); ++k) {
    double projected = 0;
    for (index_t j = 0; j < x.cols(); ++j) {
      projected += static_cast<double>(right(k, j)) * static_cast<double>(x(t, j));
    }
    sum += static_cast<double>(left(i, k)) * projected;
  }
  return static_cast<double>(adapter.scale()) * sum;
}

} // namespace

TEST_CASE("matmul: each token uses the adapter that it names, as if it were alone", "[matmul]") {
  const quantized_matrix q = quantized(70, 90);
  const index_t tokens = 70;
  const matrix<float> x = normal_matrix(tokens, 90, 2);
  std::vector<std::int32_t> ids;
  for (index_t t = 0; t < tokens; ++t) ids.push_back(static_cast<std::int32_t>((t / 3) % 4) - 1);
  for (const isa set : all_isas) {
    if (!is_available(set)) continue;
    CAPTURE(to_string(set));
    const packed_weights packed = prepack(q.view(), set);
    std::vector<packed_factors> adapters;
    for (const index_t rank : {index_t{1}, index_t{0}, index_t{33}}) {
      const matrix<float> left = normal_matrix(70, rank, 3);
      const matrix<float> right = normal_matrix(rank, 90, 4);
      adapters.push_back(prepack_factors(left.view(), right.view(), 0.5F, set));
    }
    const std::array<const packed_factors*, 3> list{&adapters[0], &adapters[1], &adapters[2]};
    matrix<float> plain(tokens, 70, nan_value);
    matmul(packed, x.view(), plain.view());
    matrix<float> y(tokens, 70, nan_value);
    matmul_options options;
    options.adapters = list;
    options.adapter_of_token = ids.data();
    matmul(packed, x.view(), y.view(), options);
    bool is_right = true;
    bool is_alone = true;
    for (index_t t = 0; t < tokens; ++t) {
      matrix<float> row(1, 70, nan_value);
      options.adapter_of_token = ids.data() + t;
      matmul(packed, x.view().middle_rows(t, 1), row.view(), options);
      for (index_t i = 0; i < 70; ++i) {
        const std::int32_t id = ids[static_cast<std::size_t>(t)];
        const double added = id < 0 ? 0.0 : adapter_output(adapters[static_cast<std::size_t>(id)], x, t, i);
        const double expected = static_cast<double>(plain(t, i)) + added;
        // Sums of at most 90 + 33 products of order one; a missing adapter is off by more than 1e-2.
        is_right = is_right && is_near(static_cast<double>(y(t, i)), expected, 2e-4);
        is_alone = is_alone && is_same(y(t, i), row(0, i));
      }
    }
    CHECK(is_right);
    CHECK(is_alone);
  }
}

TEST_CASE("matmul: mistakes are refused before anything is written", "[matmul]") {
  const quantized_matrix q = quantized(5, 64);
  const packed_weights packed = prepack(q.view(), isa::scalar);
  const matrix<float> x = normal_matrix(2, 64, 2);
  matrix<float> y(2, 5, 7.0F);
  const auto run = [&](matrix_view<const float> in, matrix_view<float> out,
                       const matmul_options& options = {}) {
    return error_of([&] { matmul(packed, in, out, options); });
  };
  CHECK(run({x.data(), 2, 63}, y.view()) == "X is 2 x 63, Q is 5 x 64");
  CHECK(run(x.view(), {y.data(), 1, 5}) == "Y is 1 x 5, it must be 2 x 5");
  CHECK(run({nullptr, 2, 64}, y.view()) == "X is a null pointer");
  CHECK(run(x.view(), {nullptr, 2, 5}) == "Y is a null pointer");
  matrix<float> shared(2, 64, 1.0F);
  CHECK(run(std::as_const(shared).view(), {shared.data() + 60, 2, 5}) == "X and Y overlap in memory");
  CHECK(shared(0, 60) == 1.0F);

  const packed_factors adapter = prepack_factors({x.data(), 5, 1}, {x.data(), 1, 64}, 1.0F, isa::scalar);
  const std::array<const packed_factors*, 1> list{&adapter};
  const std::array<std::int32_t, 2> ids{0, 1};
  CHECK(run(x.view(), y.view(), {.adapters = list, .adapter_of_token = ids.data()}) ==
        "adapter_of_token[1] is 1, allowed are -1 (none) to 0");
  CHECK(run(x.view(), y.view(), {.adapters = list}) ==
        "adapter_of_token is a null pointer, but there are 1 adapters");
  const std::array<const packed_factors*, 1> missing{nullptr};
  CHECK(run(x.view(), y.view(), {.adapters = missing, .adapter_of_token = ids.data()}) ==
        "adapter 0 is a null pointer");
  const packed_factors wrong = prepack_factors({x.data(), 4, 1}, {x.data(), 1, 64}, 1.0F, isa::scalar);
  const std::array<const packed_factors*, 1> wrong_list{&wrong};
  CHECK(run(x.view(), y.view(), {.adapters = wrong_list, .adapter_of_token = ids.data()}) ==
        "adapter 0 is 4 x 64 for scalar, Q is 5 x 64 for scalar");
  matmul_workspace small(packed, 1, precision::exact);
  CHECK(error_of([&] { matmul(packed, x.view(), y.view(), {}, small); }).find("call reserve() first") !=
        std::string::npos);
  for (index_t i = 0; i < y.size(); ++i) CHECK(y.data()[i] == 7.0F);

  matrix<float> none(0, 5);
  matmul(packed, {nullptr, 0, 64}, none.view()); // no tokens is no mistake
}

TEST_CASE("prepack: mistakes are refused with a sentence", "[matmul]") {
  const quantized_matrix q = quantized(5, 64);
  const matrix<float> x = normal_matrix(5, 64, 2);
  CHECK(error_of([&] {
          (void)prepack(q.view(), {x.data(), 4, 1}, {x.data(), 1, 64}, 1.0F, isa::scalar);
        }) == "L is 4 x 1 and R is 1 x 64, Q is 5 x 64");
  CHECK(error_of([&] {
          (void)prepack(q.view(), {x.data(), 5, 1}, {x.data(), 1, 64}, nan_value, isa::scalar);
        }) == "scale is nan, it must be finite");
  matrix<float> poisoned = x;
  poisoned(0, 3) = nan_value;
  CHECK_FALSE(error_of([&] {
                (void)prepack(q.view(), {poisoned.data(), 5, 1}, {poisoned.data(), 1, 64}, 1.0F, isa::scalar);
              }).empty());
  CHECK(error_of([&] { (void)prepack(quantized_matrix_view{}, isa::scalar); }) ==
        "Q is 0 x 0, it must not be empty");
  CHECK(error_of([] { (void)parse_isa("sse9"); }) ==
        "instruction set is 'sse9', allowed are scalar, avx2, avx512, avx512_vnni, neon, neon_dotprod");
  for (const precision mode : all_precisions) CHECK(parse_precision(to_string(mode)) == mode);
  CHECK(error_of([] { (void)parse_precision("fp8"); }) ==
        "precision is 'fp8', allowed are exact, bf16, int8");
  for (const isa set : all_isas) {
    CHECK(parse_isa(to_string(set)) == set);
    if (is_available(set)) continue;
    CHECK(error_of([&] { (void)prepack(q.view(), set); }) ==
          sentence("instruction set ", to_string(set), " is not available on this machine"));
  }
}
