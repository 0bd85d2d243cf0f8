// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/parameter.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

template <class T>
matrix<T> random_matrix(index_t rows, index_t cols, std::uint64_t seed) {
  random_source random(seed);
  matrix<T> values(rows, cols);
  for (index_t i = 0; i < values.size(); ++i) values.data()[i] = static_cast<T>(random.normal());
  return values;
}

/// What a parameter must hold of a number.
template <class Storage>
double stored_value(compute_t<Storage> value) {
  if constexpr (std::same_as<Storage, bfloat16>) {
    return slow_value(to_bfloat16(value));
  } else {
    return static_cast<double>(value);
  }
}

/// Gradients of several shapes, one of them empty, and the parameters they belong to.
template <class T>
struct some_gradients {
  std::vector<parameter<T>> owners;
  std::vector<parameter_view<T>> views;

  explicit some_gradients(double size) {
    owners.emplace_back(3, 5);
    owners.emplace_back(0, 4);
    owners.emplace_back(1, 1);
    owners.emplace_back(70, 1);
    for (std::size_t k = 0; k < owners.size(); ++k) {
      parameter<T>& p = owners[k];
      p.gradient() = random_matrix<T>(p.rows(), p.cols(), 10 + k);
      for (index_t i = 0; i < p.size(); ++i) p.gradient().data()[i] *= static_cast<T>(size);
      views.push_back(p.view(sentence("p", k)));
    }
  }
  [[nodiscard]] std::span<const parameter_view<T>> span() const { return views; }
  [[nodiscard]] std::vector<double> flat() const {
    std::vector<double> all;
    for (const parameter<T>& p : owners) {
      for (index_t i = 0; i < p.size(); ++i) all.push_back(static_cast<double>(p.gradient().data()[i]));
    }
    return all;
  }
};

double norm_of(const std::vector<double>& numbers) {
  long double sum = 0;
  for (const double number : numbers) sum += static_cast<long double>(number) * number;
  return static_cast<double>(std::sqrt(sum));
}

} // namespace

TEMPLATE_TEST_CASE("parameter: it starts as zeros with a gradient of zeros", "[train]", float, double,
                   bfloat16) {
  parameter<TestType> p(3, 2);
  CHECK(p.rows() == 3);
  CHECK(p.cols() == 2);
  CHECK(p.size() == 6);
  CHECK(p.gradient().rows() == 3);
  CHECK(p.gradient().cols() == 2);
  for (index_t i = 0; i < 3; ++i) {
    for (index_t j = 0; j < 2; ++j) {
      CHECK(p(i, j) == 0);
      CHECK(p.gradient()(i, j) == 0);
    }
  }
  CHECK(parameter<TestType>{}.size() == 0);
  CHECK(parameter<TestType>{}.widened().size() == 0);
}

TEMPLATE_TEST_CASE("parameter: assigned values are rounded to what is stored and widened exactly", "[train]",
                   float, double, bfloat16) {
  using compute = compute_t<TestType>;
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {1, 70}, {65, 3}, {4, 0}, {0, 4}}) {
    CAPTURE(rows, cols);
    const matrix<compute> values = random_matrix<compute>(rows, cols, 4);
    parameter<TestType> p(rows, cols);
    p.assign(values.view());
    const matrix<compute> wide = p.widened();
    REQUIRE(wide.rows() == rows);
    REQUIRE(wide.cols() == cols);
    for (index_t i = 0; i < rows; ++i) {
      for (index_t j = 0; j < cols; ++j) {
        const double expected = stored_value<TestType>(values(i, j));
        REQUIRE(static_cast<double>(wide(i, j)) == expected);
        REQUIRE(static_cast<double>(p(i, j)) == expected);
      }
    }
  }
}

TEMPLATE_TEST_CASE("parameter: values with any strides are assigned, of float and of double", "[train]",
                   float, double, bfloat16) {
  const matrix<float> values = normal_matrix(5, 4, 5);
  for (const placement where : all_placements) {
    CAPTURE(static_cast<int>(where));
    const placed_matrix<float> floats(values.view(), where);
    const placed_matrix<double> doubles(values.view(), where);
    parameter<TestType> from_floats(5, 4);
    parameter<TestType> from_doubles(5, 4);
    from_floats.assign(floats.view());
    from_doubles.assign(doubles.view());
    for (index_t i = 0; i < 5; ++i) {
      for (index_t j = 0; j < 4; ++j) {
        CHECK(static_cast<double>(from_floats(i, j)) == stored_value<TestType>(values(i, j)));
        CHECK(from_floats(i, j) == from_doubles(i, j));
      }
    }
  }
}

TEMPLATE_TEST_CASE("parameter: some of its rows are widened into memory with gaps", "[train]", float,
                   bfloat16) {
  constexpr float untouched = -77;
  parameter<TestType> p(6, 3);
  const matrix<float> values = normal_matrix(6, 3, 6);
  p.assign(values.view());
  matrix<float> out(2, 5, untouched);
  p.load_rows(3, {out.data(), 2, 3, 5});
  for (index_t i = 0; i < 2; ++i) {
    for (index_t j = 0; j < 5; ++j) CHECK(out(i, j) == (j < 3 ? p(3 + i, j) : untouched));
  }
}

TEST_CASE("parameter: values of another shape are refused and change nothing", "[train]") {
  parameter<float> p(2, 3);
  const matrix<float> ones(2, 3, 1.0F);
  p.assign(ones.view());
  const matrix<float> other(3, 2, 5.0F);
  const report found = report_of([&] { p.assign(other.view()); });
  CHECK(found.says(status_code::shape_mismatch, "parameter is 2 x 3, the values are 3 x 2"));
  const matrix<float> fewer_cols(2, 2, 5.0F);
  CHECK(report_of([&] { p.assign(fewer_cols.view()); }).says(status_code::shape_mismatch, "2 x 2"));
  for (index_t i = 0; i < 6; ++i) CHECK(p.values().data()[i] == 1);
}

TEMPLATE_TEST_CASE("parameter_view: reads and writes the parameter's own memory", "[train]", float, double,
                   bfloat16) {
  using compute = compute_t<TestType>;
  parameter<TestType> p(2, 3, {.learning_rate_factor = 0.25, .has_weight_decay = false});
  p.set(1, 2, compute{-1.5});
  const parameter_view<compute> view = p.view("layer.weight");
  CHECK(view.name == "layer.weight");
  CHECK(view.rows == 2);
  CHECK(view.cols == 3);
  CHECK(view.size() == 6);
  CHECK(view.value_bytes() == 6 * static_cast<index_t>(sizeof(TestType)));
  CHECK(view.options.learning_rate_factor == 0.25);
  CHECK_FALSE(view.options.has_weight_decay);
  CHECK(view.value(5) == -1.5);
  view.set_value(4, static_cast<compute>(0.1));
  CHECK(static_cast<double>(p(1, 1)) == stored_value<TestType>(static_cast<compute>(0.1)));
  CHECK(view.value(4) == p(1, 1));
  CHECK(p(1, 0) == 0);
  view.gradient[3] = 7;
  CHECK(p.gradient()(1, 0) == 7);
}

TEMPLATE_TEST_CASE("zero_gradients: every gradient is zero afterwards and no value is", "[train]", float,
                   double) {
  some_gradients<TestType> some(1.0);
  some.owners[0].set(0, 0, TestType{3});
  some.owners[0].gradient()(1, 1) = std::numeric_limits<TestType>::quiet_NaN();
  zero_gradients(some.span());
  for (const double g : some.flat()) CHECK(g == 0);
  CHECK(some.owners[0](0, 0) == 3);
}

TEMPLATE_TEST_CASE("gradient_norm: is the root of the sum of all squares", "[train]", float, double) {
  for (const double size : {1.0, 1e-3, 1e18}) { // squares of 1e18 are beyond a sum in float
    const some_gradients<TestType> some(size);
    const double expected = norm_of(some.flat());
    CHECK(is_near(gradient_norm(some.span()), expected, 1e-14 * expected));
  }
  CHECK(gradient_norm(std::span<const parameter_view<TestType>>{}) == 0);
}

TEST_CASE("gradient_norm: small gradients count beside large ones", "[train]") {
  parameter<float> p(1, 100001);
  p.gradient().fill(1e-4F); // in float, 1 + 1e-8 is 1
  p.gradient()(0, 0) = 1;
  const std::vector<parameter_view<float>> views = {p.view("p")};
  const double small = static_cast<double>(1e-4F);
  const double expected = std::sqrt(1.0 + 1e5 * small * small);
  CHECK(is_near(gradient_norm<float>(views), expected, 1e-10));
}

TEMPLATE_TEST_CASE("clip_gradients: keeps the direction and returns the norm before", "[train]", float,
                   double) {
  // The factor and each product are rounded to the type once.
  const double tolerance = 2 * static_cast<double>(std::numeric_limits<TestType>::epsilon());
  some_gradients<TestType> some(3.0);
  const std::vector<double> before = some.flat();
  const double norm = norm_of(before);
  REQUIRE(norm > 2);
  CHECK(is_near(clip_gradients(some.span(), 2.0), norm, 1e-14 * norm));
  const std::vector<double> after = some.flat();
  CHECK(is_near(norm_of(after), 2.0, 2 * tolerance));
  for (std::size_t i = 0; i < after.size(); ++i)
    CHECK(is_near(after[i], before[i] * 2 / norm, tolerance * std::fabs(before[i])));
}

TEMPLATE_TEST_CASE("clip_gradients: a norm that is allowed changes no bit", "[train]", float, double) {
  some_gradients<TestType> some(3.0);
  const std::vector<double> before = some.flat();
  const double norm = gradient_norm(some.span());
  CHECK(clip_gradients(some.span(), norm) == norm);
  CHECK(clip_gradients(some.span(), std::numeric_limits<double>::infinity()) == norm);
  CHECK(some.flat() == before);
  zero_gradients(some.span());
  CHECK(clip_gradients(some.span(), 1.0) == 0);
  for (const double g : some.flat()) CHECK(g == 0);
}

TEST_CASE("clip_gradients: a gradient that is not finite does not become finite", "[train]") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    some_gradients<float> some(1.0);
    some.owners[3].gradient()(69, 0) = bad;
    CHECK_FALSE(std::isfinite(clip_gradients(some.span(), 1.0)));
    CHECK_FALSE(std::isfinite(some.owners[3].gradient()(69, 0)));
  }
}

TEST_CASE("clip_gradients: a limit that is not positive is refused", "[train]") {
  some_gradients<float> some(1.0);
  const std::vector<double> before = some.flat();
  const auto refusal_of = [&](double largest) {
    return report_of([&] { (void)clip_gradients(some.span(), largest); });
  };
  constexpr status_code invalid = status_code::invalid_argument;
  CHECK(refusal_of(0).says(invalid, "largest gradient norm is 0, it must be positive"));
  CHECK(refusal_of(-1).says(invalid, "largest gradient norm is -1"));
  CHECK(refusal_of(std::numeric_limits<double>::quiet_NaN()).says(invalid, "largest gradient norm is"));
  CHECK(some.flat() == before);
}
