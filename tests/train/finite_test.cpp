// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/finite.hpp>

#include <support/catch.hpp>
#include <support/oracles.hpp>

#include <limits>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

constexpr status_code non_finite = status_code::non_finite;
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// Three parameters of which the second is empty; values and gradients are finite.
template <class Storage>
struct model {
  using compute_type = compute_t<Storage>;

  parameter<Storage> first{2, 3};
  parameter<Storage> empty{0, 3};
  parameter<Storage> last{4, 2};

  model() {
    first.values().fill(store<Storage>(compute_type{1}));
    last.values().fill(store<Storage>(compute_type{-1}));
  }

  report check(double loss) {
    const std::vector<parameter_view<compute_type>> views = {first.view("first"), empty.view("empty"),
                                                             last.view("last")};
    return report_of([&] { require_finite_step<compute_type>(12, loss, views); });
  }
};

} // namespace

TEMPLATE_TEST_CASE("require_finite_step: says nothing where all is finite", "[train]", float, double,
                   bfloat16) {
  using compute = compute_t<TestType>;
  model<TestType> some;
  CHECK(some.check(0.5).message.empty());
  some.last.set(0, 0, compute{-3e38F});
  some.last.gradient()(0, 0) = std::numeric_limits<compute>::max();
  some.first.gradient()(0, 0) = std::numeric_limits<compute>::denorm_min();
  CHECK(some.check(std::numeric_limits<double>::max()).message.empty());
  CHECK(some.check(-1e300).message.empty());
}

TEMPLATE_TEST_CASE("require_finite_step: names step, loss, parameter and place of a value", "[train]", float,
                   double, bfloat16) {
  using compute = compute_t<TestType>;
  model<TestType> some;
  some.last.set(2, 1, -std::numeric_limits<compute>::infinity());
  CHECK(some.check(0.25).says(non_finite, "step 12: the loss is 0.25; parameter last(2, 1) is -inf"));
  some.last.set(1, 0, std::numeric_limits<compute>::quiet_NaN());
  CHECK(some.check(not_a_number).says(non_finite, "; parameter last(1, 0) is ")); // the first in order
  some.first.set(0, 2, std::numeric_limits<compute>::infinity());
  CHECK(some.check(not_a_number).says(non_finite, "; parameter first(0, 2) is inf"));
}

TEMPLATE_TEST_CASE("require_finite_step: names step, loss, parameter and place of a gradient", "[train]",
                   float, double, bfloat16) {
  using compute = compute_t<TestType>;
  model<TestType> some;
  some.last.gradient()(3, 1) = std::numeric_limits<compute>::quiet_NaN();
  CHECK(some.check(2).says(non_finite, "step 12: the loss is 2; the gradient of last(3, 1) is "));
  some.first.gradient()(1, 2) = -std::numeric_limits<compute>::infinity();
  CHECK(
      some.check(infinity).says(non_finite, "step 12: the loss is inf; the gradient of first(1, 2) is -inf"));
  some.first.set(1, 2, std::numeric_limits<compute>::infinity());
  CHECK(some.check(1).says(non_finite, "; parameter first(1, 2) is inf")); // the value is the cause
}

TEMPLATE_TEST_CASE("require_finite_step: where only the loss is not finite, names the largest parameter",
                   "[train]", float, double, bfloat16) {
  using compute = compute_t<TestType>;
  model<TestType> some;
  some.first.set(1, 0, compute{4});
  some.last.set(3, 0, compute{-64});
  const report found = some.check(not_a_number);
  CHECK(found.says(non_finite, "step 12: the loss is "));
  CHECK(found.says(non_finite, "nan; all parameters are finite, the largest last(3, 0) is -64"));
  CHECK(some.check(-infinity).says(non_finite, "the loss is -inf; all parameters are finite, the largest"));
  some.first.set(1, 0, compute{64}); // of equal ones the first
  CHECK(some.check(not_a_number).says(non_finite, "the largest first(1, 0) is 64"));
}

TEST_CASE("require_finite_step: a loss without parameters is named too", "[train]") {
  const std::vector<parameter_view<float>> none;
  CHECK(report_of([&] { require_finite_step<float>(3, 1.0, none); }).message.empty());
  const report found = report_of([&] { require_finite_step<float>(3, infinity, none); });
  CHECK(found.says(non_finite, "step 3: the loss is inf, and there are no parameters"));
}
