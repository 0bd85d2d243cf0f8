// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/detail/frozen_matrix.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>
#include <train/lr_qat_oracle.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using train::frozen_storage;
using train::detail::frozen_matrix;

namespace {

/// The value after it was stored in the only element.
float kept(float value, frozen_storage storage, int bits, float lowest) {
  frozen_matrix one(1, 1, storage, bits, lowest);
  one.store_row(0, &value);
  matrix<float> out = unset<float>(1, 1);
  one.load_rows(0, out.view());
  return out(0, 0);
}

std::vector<float> lowest_levels(int bits) {
  return {0.0F, -std::ldexp(1.0F, bits - 1)};
}

} // namespace

TEST_CASE("frozen_matrix: fixed8 keeps every level and every fraction of 8 bits exactly", "[train]") {
  for (int bits = 2; bits <= 8; ++bits) {
    for (const float lowest : lowest_levels(bits)) {
      const float unit = std::ldexp(1.0F, bits - 8);
      const float highest = lowest + std::ldexp(1.0F, bits) - 1.0F;
      CAPTURE(bits, lowest);
      for (float value = lowest; value <= highest; value += unit)
        REQUIRE(kept(value, frozen_storage::fixed8, bits, lowest) == value);
    }
  }
}

TEST_CASE("frozen_matrix: fixed8 saturates at the levels and rounds to the nearest fraction", "[train]") {
  random_source random(4);
  for (int bits = 2; bits <= 8; ++bits) {
    for (const float lowest : lowest_levels(bits)) {
      CAPTURE(bits, lowest);
      const float highest = lowest + std::ldexp(1.0F, bits) - 1.0F;
      for (const float far : {1.0F, 1e6F, 1e30F, std::numeric_limits<float>::infinity()}) {
        CHECK(kept(highest + far, frozen_storage::fixed8, bits, lowest) == highest);
        CHECK(kept(lowest - far, frozen_storage::fixed8, bits, lowest) == lowest);
      }
      for (int count = 0; count < 200; ++count) {
        const auto value = static_cast<float>(
            random.between(static_cast<double>(lowest) - 1, static_cast<double>(highest) + 1));
        const double expected = slow_frozen(static_cast<double>(value), frozen_storage::fixed8, bits,
                                            static_cast<double>(lowest));
        REQUIRE(static_cast<double>(kept(value, frozen_storage::fixed8, bits, lowest)) == expected);
      }
    }
  }
}

TEST_CASE("frozen_matrix: fp32 keeps every value and bf16 the nearest", "[train]") {
  random_source random(5);
  for (int count = 0; count < 1000; ++count) {
    const float value = random.any_finite_float();
    REQUIRE(is_same(kept(value, frozen_storage::fp32, 4, -8), value));
    const double nearest = slow_value(to_bfloat16(value));
    REQUIRE(static_cast<double>(kept(value, frozen_storage::bf16, 4, -8)) == nearest);
  }
}

TEST_CASE("frozen_matrix: rows are kept where they were stored, in 1, 2 or 4 bytes", "[train]") {
  for (const auto& [storage, bytes] : {std::pair{frozen_storage::fixed8, index_t{1}},
                                       {frozen_storage::bf16, 2},
                                       {frozen_storage::fp32, 4}}) {
    frozen_matrix frozen(5, 3, storage, 4, -8);
    CHECK(frozen.size_bytes() == 15 * bytes);
    for (index_t i = 0; i < 5; ++i) {
      const std::vector<float> row = {static_cast<float>(i), static_cast<float>(-i), 0.5F};
      frozen.store_row(i, row.data());
    }
    matrix<double> memory = unset<double>(2, 4);
    frozen.load_rows(2, matrix_view<double>(memory.data(), 2, 3, 4));
    for (index_t i = 0; i < 2; ++i) {
      CHECK(memory(i, 0) == static_cast<double>(i + 2));
      CHECK(memory(i, 1) == static_cast<double>(-i - 2));
      CHECK(memory(i, 2) == 0.5);
      CHECK(std::isnan(memory(i, 3)));
    }
    CHECK(frozen_matrix(0, 3, storage, 4, -8).size_bytes() == 0);
  }
}

TEST_CASE("frozen_storage: every kind has a name", "[train]") {
  CHECK(to_string(frozen_storage::fp32) == "fp32");
  CHECK(to_string(frozen_storage::bf16) == "bf16");
  CHECK(to_string(frozen_storage::fixed8) == "fixed8");
}
