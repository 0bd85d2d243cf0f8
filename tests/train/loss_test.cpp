// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/loss.hpp>

#include <qlr/core/matrix.hpp>

#include <support/catch.hpp>
#include <support/oracles.hpp>

#include <utility>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

/// Rows of 3 in memory of 5 a row, whose other elements must not be touched.
template <class T>
struct spaced_rows {
  matrix<T> memory{2, 5, T{100}};
  matrix_view<T> view{memory.data(), 2, 3, 5};

  explicit spaced_rows(const T (&values)[6]) {
    for (index_t i = 0; i < 6; ++i) view(i / 3, i % 3) = values[i];
  }
  [[nodiscard]] bool is_untouched_beside() const {
    return memory(0, 3) == T{100} && memory(0, 4) == T{100} && memory(1, 3) == T{100} &&
           memory(1, 4) == T{100};
  }
};

} // namespace

TEMPLATE_TEST_CASE("squared_norm: is the sum of squares in double, of any view", "[train]", float, double) {
  using T = TestType;
  const spaced_rows<T> x({T{1}, T{-2}, T{3}, T{0.5}, T{0}, T{-4}});
  CHECK(squared_norm<T>(x.view) == 30.25);
  CHECK(squared_norm<T>(x.view.transposed()) == 30.25);
  CHECK(squared_norm<T>({nullptr, 0, 3}) == 0.0);
  // Neither square nor sum fits a float.
  const matrix<T> large(1, 2, static_cast<T>(0x1p100));
  CHECK(squared_norm<T>(large.view()) == 0x1p201);
  // In float, 2^24 + 1 is 2^24.
  matrix<T> uneven(1, 2, T{1});
  uneven(0, 0) = static_cast<T>(0x1p12);
  CHECK(squared_norm<T>(std::as_const(uneven).view()) == 0x1p24 + 1);
}

TEMPLATE_TEST_CASE("subtract_target: leaves the difference and returns its squares", "[train]", float,
                   double) {
  using T = TestType;
  spaced_rows<T> output({T{1}, T{2}, T{3}, T{4}, T{5}, T{6}});
  const spaced_rows<T> target({T{1}, T{1}, T{5}, T{0}, T{5}, T{6.5}});
  CHECK(subtract_target<T>(target.view, output.view) == 21.25);
  CHECK(output.is_untouched_beside());
  const T expected[] = {T{0}, T{1}, T{-2}, T{4}, T{0}, T{-0.5}};
  for (index_t i = 0; i < 6; ++i) CHECK(output.view(i / 3, i % 3) == expected[i]);
  CHECK(target.view(1, 2) == T{6.5});
}

TEST_CASE("subtract_target: refuses other shapes and changes nothing", "[train]") {
  const matrix<float> target(2, 3, 1.0F);
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{3, 3}, {2, 2}, {3, 2}}) {
    matrix<float> output(rows, cols, 5.0F);
    const report refusal = report_of([&] { subtract_target<float>(target.view(), output.view()); });
    CHECK(refusal.says(status_code::shape_mismatch, "Y is 2 x 3, the output "));
    CHECK(output(1, 1) == 5.0F);
  }
}

TEMPLATE_TEST_CASE("scale_values: multiplies every element of a view", "[train]", float, double) {
  using T = TestType;
  spaced_rows<T> x({T{1}, T{-2}, T{3}, T{0.5}, T{0}, T{-4}});
  scale_values<T>(x.view, -0.5);
  CHECK(x.is_untouched_beside());
  const T expected[] = {T{-0.5}, T{1}, T{-1.5}, T{-0.25}, T{0}, T{2}};
  for (index_t i = 0; i < 6; ++i) CHECK(x.view(i / 3, i % 3) == expected[i]);
}
