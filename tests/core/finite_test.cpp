// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/core/finite.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

using position = std::pair<index_t, index_t>;

/// Message about a matrix of ones with `bad` at some positions.
template <class T>
std::string message_about(index_t rows, index_t cols, T bad, const std::vector<position>& where,
                          placement placed, const executor& run) {
  const matrix<float> ones(rows, cols, 1.0F);
  placed_matrix<T> values(ones.view(), placed);
  for (const auto& [row, col] : where) values.writable()(row, col) = bad;
  const report caught = report_of([&] { require_finite(values.view(), "weight", run); });
  CHECK((caught.message.empty() || caught.code == status_code::non_finite));
  return caught.message;
}

} // namespace

TEST_CASE("threads: require_finite names the first bad element in row order", "[core][threads]") {
  thread_pool two(2);
  thread_pool five(5);
  const float infinity = std::numeric_limits<float>::infinity();
  for (const executor& run : {executor(), executor(two), executor(five)}) {
    for (const placement where : all_placements) {
      CAPTURE(static_cast<int>(where));
      const auto about = [&](const std::vector<position>& bad) {
        return message_about(90, 37, infinity, bad, where, run);
      };
      CHECK(about({{0, 0}}) == "weight(0, 0) is inf, every element must be finite in float");
      CHECK(about({{89, 36}}).find("weight(89, 36) is inf") == 0);
      CHECK(about({{89, 0}, {41, 36}, {41, 5}, {42, 0}, {50, 1}}).find("weight(41, 5) is") == 0);
      CHECK(about({{17, 3}, {16, 30}}).find("weight(16, 30) is") == 0);
      CHECK(about({}).empty());
    }
  }
}

TEST_CASE("require_finite: refuses NaN, infinities and doubles beyond the range of float", "[core]") {
  const auto about = [](auto bad) { return message_about(3, 4, bad, {{1, 2}}, placement::padded_rows, {}); };
  CHECK(about(std::numeric_limits<float>::quiet_NaN()).find("nan") != std::string::npos);
  CHECK(about(-std::numeric_limits<float>::infinity()).find("(1, 2) is -inf") != std::string::npos);
  CHECK(about(std::numeric_limits<double>::quiet_NaN()).find("nan") != std::string::npos);
  CHECK(about(std::numeric_limits<double>::infinity()).find("(1, 2) is inf") != std::string::npos);
  CHECK(about(1e39).find("weight(1, 2) is 1e+39") == 0);
  CHECK(about(-1e300).find("weight(1, 2) is -1e+300") == 0);
  // Half a unit beyond the largest float the conversion rounds up to infinity.
  CHECK(about(0x1.ffffffp127).find("weight(1, 2) is 3.40282e+38") == 0);
}

TEST_CASE("require_finite: accepts every finite value", "[core]") {
  const auto about = [](auto value) {
    return message_about(2, 3, value, {{1, 1}}, placement::row_major, {});
  };
  for (const float value : {0.0F, -0.0F, 1e-45F, -1e-40F, std::numeric_limits<float>::max(),
                            std::numeric_limits<float>::lowest()}) {
    CHECK(about(value).empty());
    CHECK(about(static_cast<double>(value)).empty());
  }
  CHECK(about(1e-320).empty());
  CHECK(about(0x1.fffffefp127).empty()); // rounds down to the largest float
}

TEST_CASE("require_finite: accepts empty matrices", "[core]") {
  for (const auto& [rows, cols] : {position{0, 5}, position{40, 0}, position{0, 0}}) {
    const matrix<float> empty(rows, cols);
    CHECK(report_of([&] { require_finite(empty.view(), "weight"); }).message.empty());
  }
}

TEST_CASE("to_row_major: copies any placement and type", "[core]") {
  const matrix<float> values = normal_matrix(5, 9, 6);
  for (const placement where : all_placements) {
    const placed_matrix<double> wide(values.view(), where);
    const placed_matrix<float> single(values.view(), where);
    const matrix<float> from_wide = to_row_major(wide.view());
    const matrix<float> from_single = to_row_major(single.view());
    CHECK(squared_error(from_wide, values) == 0.0);
    CHECK(squared_error(from_single, values) == 0.0);
  }
}
