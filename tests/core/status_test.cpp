// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/core/status.hpp>

#include "../support/catch.hpp"
#include "../support/oracles.hpp"

#include <cstdint>
#include <exception>
#include <string>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("sentence: joins text and numbers without spaces of its own", "[core]") {
  const std::string name = "bits";
  const std::string_view part = " is ";
  CHECK(sentence(name, part, 9, ',', ' ', 0.5, " or ", 1e30F, " or ", std::int64_t{-5}) ==
        "bits is 9, 0.5 or 1e+30 or -5");
  CHECK(sentence().empty());
  CHECK(sentence(std::uint64_t{18446744073709551615U}) == "18446744073709551615");
  CHECK(sentence(-1.5e-300) == "-1.5e-300");
}

TEST_CASE("fail: throws an error with code and sentence", "[core]") {
  for (const status_code code :
       {status_code::invalid_argument, status_code::shape_mismatch, status_code::non_finite,
        status_code::unsupported, status_code::malformed_file, status_code::io_failure,
        status_code::numerical_failure}) {
    const report caught = report_of([&] { fail(code, "rank is ", 9, ", allowed are 0 to ", 4); });
    CHECK(caught.code == code);
    CHECK(caught.message == "rank is 9, allowed are 0 to 4");
  }
}

TEST_CASE("require: throws only when the condition is false", "[core]") {
  CHECK(report_of([] { require(true, status_code::unsupported, "never"); }).message.empty());
  const report caught = report_of([] { require(false, status_code::unsupported, "type is ", 3); });
  CHECK(caught.says(status_code::unsupported, "type is 3"));
}

TEST_CASE("error: is caught as std::exception and can be copied", "[core]") {
  try {
    fail(status_code::io_failure, "disk is full");
  } catch (const std::exception& failure) {
    CHECK(std::string(failure.what()) == "disk is full");
  }
  const error original(status_code::non_finite, "x");
  const error copy = original; // NOLINT(performance-unnecessary-copy-initialization)
  CHECK(copy.code() == status_code::non_finite);
  CHECK(std::string(copy.what()) == "x");
}

TEST_CASE("set_error_handler: returns the previous handler and null restores the first", "[core]") {
  const error_handler mine = [](status_code, const char*) {};
  const error_handler first = set_error_handler(mine);
  CHECK(first != nullptr);
  CHECK(set_error_handler(nullptr) == mine);
  CHECK(set_error_handler(nullptr) == first);
}
