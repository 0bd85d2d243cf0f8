// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/factor_storage.hpp>

#include <decompose/support.hpp>
#include <support/catch.hpp>

#include <cmath>
#include <string>
#include <utility>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("factor_storage: bits name a storage, other bits are refused", "[decompose]") {
  CHECK(factor_storage_of_bits(32) == factor_storage::fp32);
  CHECK(factor_storage_of_bits(16) == factor_storage::fp16);
  CHECK(factor_storage_of_bits(8) == factor_storage::int8);
  CHECK(factor_storage_of_bits(4) == factor_storage::int4);
  for (const int bits : {0, -4, 2, 5, 64}) {
    CHECK(report_of([&] { (void)factor_storage_of_bits(bits); })
              .says(status_code::invalid_argument,
                    sentence("factor bits is ", bits, ", allowed are 32, 16, 8 and 4")));
  }
  CHECK(to_string(factor_storage::fp32) == "fp32");
  CHECK(to_string(factor_storage::fp16) == "fp16");
  CHECK(to_string(factor_storage::int8) == "int8");
  CHECK(to_string(factor_storage::int4) == "int4");
}

TEST_CASE("factor_storage: entries change by no more than half a step", "[decompose][property]") {
  for (const auto& [rank, length] : {std::pair<index_t, index_t>{1, 1}, {2, 5}, {3, 64}, {4, 130}}) {
    const matrix<float> x = normal_matrix(rank, length, 1);
    for (const factor_storage storage :
         {factor_storage::fp32, factor_storage::fp16, factor_storage::int8, factor_storage::int4}) {
      CAPTURE(rank, length, std::string(to_string(storage)));
      matrix<float> stored = x;
      store(stored, storage);
      bool is_within = true;
      for (index_t i = 0; i < rank; ++i) {
        for (index_t j = 0; j < length; ++j) {
          double step = 0;
          if (storage == factor_storage::fp16) step = 0x1p-10 * static_cast<double>(std::fabs(x(i, j)));
          if (is_quantized(storage)) {
            float largest = 0;
            for (index_t l = j / 64 * 64; l < std::min(length, j / 64 * 64 + 64); ++l)
              largest = std::max(largest, std::fabs(x(i, l)));
            step = static_cast<double>(largest) / (storage == factor_storage::int8 ? 127 : 7);
          }
          // the bf16 scale itself is off by up to 2^-9, so the step is, and the last code by 127 times that
          const double slack = is_quantized(storage) ? 0.07 * step : 1e-12;
          const double change = std::fabs(static_cast<double>(stored(i, j)) - static_cast<double>(x(i, j)));
          is_within = is_within && change <= 0.5 * step + slack;
        }
      }
      CHECK(is_within);
    }
  }
}

TEST_CASE("factor_storage: storing twice changes nothing more", "[decompose][property]") {
  for (const factor_storage storage :
       {factor_storage::fp32, factor_storage::fp16, factor_storage::int8, factor_storage::int4}) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      CAPTURE(std::string(to_string(storage)), seed);
      const double unit =
          storage == factor_storage::fp16 ? 1.0 : std::pow(10.0, 3.0 * static_cast<double>(seed) - 30);
      matrix<float> once = normal_matrix(4, 130, seed, unit);
      store(once, storage);
      matrix<float> twice = once;
      store(twice, storage);
      CHECK(has_same_bits(once, twice));
    }
  }
}

TEST_CASE("factor_storage: empty and zero factors stay as they are", "[decompose]") {
  for (const factor_storage storage :
       {factor_storage::fp32, factor_storage::fp16, factor_storage::int8, factor_storage::int4}) {
    matrix<float> empty(0, 12);
    store(empty, storage);
    CHECK(empty.rows() == 0);
    CHECK(bytes_of_factor(0, 12, storage) == 0);
    matrix<float> zero(2, 70, 0.0F);
    store(zero, storage);
    CHECK(has_same_bits(zero, matrix<float>(2, 70, 0.0F)));
  }
}

TEST_CASE("factor_storage: an entry beyond fp16 is refused and named", "[decompose]") {
  matrix<float> x(1, 3, 1.0F);
  x(0, 2) = -65519.0F;
  store(x, factor_storage::fp16);
  CHECK(x(0, 2) == -65504.0F);
  x(0, 1) = 65520.0F;
  CHECK(report_of([&] {
          store(x, factor_storage::fp16);
        }).says(status_code::unsupported, "a low-rank factor has the entry 65520, beyond the range of fp16"));
}

TEST_CASE("factor_storage: integers take entries of any size", "[decompose]") {
  for (const factor_storage storage : {factor_storage::int8, factor_storage::int4}) {
    for (const double unit : {1e30, 1e9, 1e-9, 1e-30}) {
      CAPTURE(std::string(to_string(storage)), unit);
      const matrix<float> x = normal_matrix(3, 70, 2, unit);
      matrix<float> stored = x;
      store(stored, storage);
      const double norm = squared_error(x, matrix<float>(3, 70, 0.0F));
      CHECK(squared_error(x, stored) <= (storage == factor_storage::int8 ? 1e-4 : 0.03) * norm);
    }
  }
}

TEST_CASE("factor_storage: bytes are those of entries, codes and scales", "[decompose]") {
  CHECK(bytes_of_factor(3, 130, factor_storage::fp32) == 3 * 130 * 4);
  CHECK(bytes_of_factor(3, 130, factor_storage::fp16) == 3 * 130 * 2);
  CHECK(bytes_of_factor(3, 130, factor_storage::int8) == 3 * (130 + 3 * 2)); // 3 groups of 64
  CHECK(bytes_of_factor(3, 130, factor_storage::int4) == 3 * (65 + 3 * 2));
  CHECK(bytes_of_factor(1, 5, factor_storage::int4) == 3 + 2);
}

TEST_CASE("factor_storage: a decomposition holds what its storage decodes to and counts its bytes",
          "[decompose]") {
  const matrix<float> w = realistic_matrix(33, 65, 1);
  for (const factor_storage storage :
       {factor_storage::fp32, factor_storage::fp16, factor_storage::int8, factor_storage::int4}) {
    CAPTURE(std::string(to_string(storage)));
    const decomposition parts = split(w.view(), small_groups("nf4"), options_of("loftq", 3, storage)).best;
    CHECK(parts.factors == storage);
    CHECK(parts.scale == 1.0F);
    matrix<float> left(3, 33);
    for (index_t i = 0; i < 33; ++i) {
      for (index_t k = 0; k < 3; ++k) left(k, i) = parts.left(i, k);
    }
    matrix<float> right = parts.right;
    store(left, storage);
    store(right, storage);
    CHECK(has_same_bits(right, parts.right));
    bool is_same_left = true;
    for (index_t i = 0; i < 33; ++i) {
      for (index_t k = 0; k < 3; ++k) is_same_left = is_same_left && left(k, i) == parts.left(i, k);
    }
    CHECK(is_same_left);
    // Q: 33 rows of 33 bytes and 5 fp32 scales
    const index_t quantized_bytes = 33 * (33 + 5 * 4);
    CHECK(parts.storage_bytes() ==
          quantized_bytes + bytes_of_factor(3, 33, storage) + bytes_of_factor(3, 65, storage));
  }
}
