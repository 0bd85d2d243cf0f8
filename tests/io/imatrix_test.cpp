// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/io/imatrix.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "gguf_builder.hpp"
#include "imatrix_files.hpp"
#include "support.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<float> row(const matrix<float>& values, index_t i = 0) {
  return {values.data() + i * values.cols(), values.data() + (i + 1) * values.cols()};
}

byte_vector gguf_with(const std::vector<float>& squares, const std::vector<float>& counts) {
  gguf_builder builder;
  builder.add_text("general.type", "imatrix");
  add_imatrix_tensors(builder, "w", squares, counts);
  return builder.build();
}

} // namespace

TEST_CASE("read_imatrix: both forms give the mean squares that were stored", "[io][host]") {
  random_source random(1);
  for (const std::int32_t count : {1, 2, 512, 3, 1000}) {
    std::vector<float> squares;
    for (int j = 0; j < 40; ++j) squares.push_back(static_cast<float>(std::exp(3 * random.normal())));
    std::vector<float> stored;
    for (const float square : squares) stored.push_back(square * static_cast<float>(count));
    const byte_vector plain = plain_imatrix({{"a.weight", count, stored}});
    gguf_builder builder;
    add_imatrix_tensors(builder, "a.weight", stored, {static_cast<float>(count)});
    const byte_vector gguf = builder.build();
    const io::importance_matrices from_plain = io::read_imatrix(plain);
    const io::importance_matrices from_gguf = io::read_imatrix(gguf);
    REQUIRE(from_plain.find("a.weight") != nullptr);
    REQUIRE(from_gguf.find("a.weight") != nullptr);
    CHECK(row(from_plain.entries[0].mean_squares) == row(from_gguf.entries[0].mean_squares));
    CHECK(from_plain.entries[0].counts == std::vector<double>{static_cast<double>(count)});
    CHECK(from_gguf.entries[0].counts == from_plain.entries[0].counts);
    const bool is_exact = (count & (count - 1)) == 0;
    for (std::size_t j = 0; j < squares.size(); ++j) { // one rounding of the product, one of the quotient
      const double tolerance = is_exact ? 0.0 : 1.2e-7 * static_cast<double>(squares[j]);
      CHECK(std::abs(static_cast<double>(row(from_plain.entries[0].mean_squares)[j] - squares[j])) <=
            tolerance);
    }
  }
}

TEST_CASE("read_imatrix: the fields at the end of the plain form are optional", "[io][host]") {
  const byte_vector entries = plain_imatrix({{"a", 1, {4}}, {"b", 2, {2, 6}}});
  for (const byte_vector& contents :
       {entries, entries + number<std::int32_t>(7),
        entries + number<std::int32_t>(7) + number<std::int32_t>(4) + to_bytes("wiki")}) {
    const io::importance_matrices file = io::read_imatrix(contents);
    REQUIRE(file.entries.size() == 2);
    CHECK(row(file.find("b")->mean_squares) == std::vector<float>{1, 3});
    CHECK(file.find("c") == nullptr);
    CHECK(file.unusable.empty());
    CHECK(file.datasets.size() == (contents.size() > entries.size() + 4 ? 1U : 0U));
  }
  const byte_vector extra = entries + number<std::int32_t>(7) + number<std::int32_t>(0) + to_bytes("x");
  check_error(status_code::malformed_file, {"1 bytes follow the data set's name"},
              [&] { (void)io::read_imatrix(extra); });
}

TEST_CASE("read_imatrix: entries without data are listed and the others kept", "[io][host]") {
  gguf_builder builder;
  builder.add_text("general.type", "imatrix");
  builder.add_value("imatrix.datasets", 9,
                    number<std::uint32_t>(8) + number<std::uint64_t>(1) + gguf_text("wiki"));
  add_imatrix_tensors(builder, "good", {2, 8}, {2});
  add_imatrix_tensors(builder, "unseen", {0, 0}, {0});
  add_imatrix_tensors(builder, "zero", {0, 0}, {5});
  add_imatrix_tensors(builder, "experts", {3, 6, 0, 0, 0, 0}, {3, 0, 2});
  add_imatrix_tensors(builder, "unseen experts", {0, 0, 0, 0}, {0, 0});
  builder.add_f32("no counts.in_sum2", {2}, {1, 1});
  builder.add_f32("no values.counts", {1, 1}, {1});
  const byte_vector contents = builder.build();
  const io::importance_matrices file = io::read_imatrix(contents);
  CHECK(file.datasets == std::vector<std::string>{"wiki"});
  REQUIRE(file.entries.size() == 2);
  CHECK(row(file.find("good")->mean_squares) == std::vector<float>{1, 4});
  const io::imatrix_entry& experts = *file.find("experts");
  CHECK(experts.counts == std::vector<double>{3, 0, 2});
  CHECK(row(experts.mean_squares, 0) == std::vector<float>{1, 2});
  CHECK(row(experts.mean_squares, 1) == std::vector<float>{0, 0});
  std::vector<std::string> reasons;
  for (const auto& unusable : file.unusable) reasons.push_back(unusable.name + ": " + unusable.reason);
  CHECK(reasons == std::vector<std::string>{
                       "unseen: its count is 0", "zero: all its values are zero",
                       "experts: expert 1: its count is 0", "experts: expert 2: all its values are zero",
                       "unseen experts: none of its experts has a count above 0 and values above 0",
                       "no counts: it has no counts", "no values: it has no values"});

  const byte_vector plain = plain_imatrix({{"unseen", 0, {0, 0}}, {"none", 3, {}}, {"good", 2, {2, 8}}});
  const io::importance_matrices from_plain = io::read_imatrix(plain);
  REQUIRE(from_plain.entries.size() == 1);
  CHECK(row(from_plain.find("good")->mean_squares) == std::vector<float>{1, 4});
  REQUIRE(from_plain.unusable.size() == 2);
  CHECK(from_plain.unusable[0].reason == "its count is 0");
  CHECK(from_plain.unusable[1].reason == "it has no values");
}

TEST_CASE("read_imatrix: newer files also give the means", "[io][host]") {
  gguf_builder builder;
  add_imatrix_tensors(builder, "w", {4, 8, 12, 16}, {2, 4});
  builder.add_f32("w.in_sum", {2, 2}, {-2, 1, 4, 6});
  const byte_vector contents = builder.build();
  const io::importance_matrices file = io::read_imatrix(contents);
  REQUIRE(file.entries.size() == 1);
  CHECK(row(file.entries[0].means, 0) == std::vector<float>{-1, 0.5});
  CHECK(row(file.entries[0].means, 1) == std::vector<float>{1, 1.5});
  builder.add_f32("v.in_sum2", {2}, {1, 2});
  builder.add_f32("v.counts", {1}, {1});
  builder.add_f32("v.in_sum", {1}, {1});
  const byte_vector wrong = builder.build();
  check_error(status_code::malformed_file, {"entry 'v'", "in_sum is 1 x 1, in_sum2 is 1 x 2"},
              [&] { (void)io::read_imatrix(wrong); });
}

TEST_CASE("read_imatrix: numbers that cannot be are refused with entry and index", "[io][host]") {
  for (const float bad : {nan_value, infinity, -infinity}) {
    const byte_vector gguf = gguf_with({1, 2, bad, 4}, {1, 1});
    check_error(status_code::non_finite, {"entry 'w'", "value(1, 0) is "},
                [&] { (void)io::read_imatrix(gguf); });
    const byte_vector plain = plain_imatrix({{"w", 1, {1, 2, bad}}});
    check_error(status_code::non_finite, {"entry 'w'", "value(0, 2) is "},
                [&] { (void)io::read_imatrix(plain); });
    const byte_vector hidden = plain_imatrix({{"w", 0, {1, bad}}});
    check_error(status_code::non_finite, {"entry 'w'", "value(0, 1) is "},
                [&] { (void)io::read_imatrix(hidden); });
    const byte_vector counts = gguf_with({1, 2}, {1, bad});
    check_error(status_code::non_finite, {"entry 'w'", "count(1) is "},
                [&] { (void)io::read_imatrix(counts); });
  }
  const byte_vector overflowing = gguf_with({1e30F, 1}, {1e-20F});
  check_error(status_code::non_finite, {"value(0, 0) is 1e+30 with count 1e-20"},
              [&] { (void)io::read_imatrix(overflowing); });
  const byte_vector negative = gguf_with({1, -2}, {1});
  check_error(status_code::malformed_file, {"value(0, 1) is -2"}, [&] { (void)io::read_imatrix(negative); });
  const byte_vector negative_count = plain_imatrix({{"w", -1, {1}}});
  check_error(status_code::malformed_file, {"count(0) is -1"},
              [&] { (void)io::read_imatrix(negative_count); });
  const byte_vector too_few = gguf_with({1, 2, 3, 4}, {1, 1});
  gguf_builder builder;
  builder.add_f32("w.in_sum2", {2, 2}, {1, 2, 3, 4});
  builder.add_f32("w.counts", {1, 3}, {1, 1, 1});
  const byte_vector too_many = builder.build();
  CHECK_NOTHROW(io::read_imatrix(too_few));
  check_error(status_code::malformed_file, {"it has 3 counts for 2 experts"},
              [&] { (void)io::read_imatrix(too_many); });
}

TEST_CASE("read_imatrix: files that are no importance matrices are refused", "[io][host]") {
  gguf_builder model;
  model.add_text("general.type", "model");
  add_imatrix_tensors(model, "w", {1}, {1});
  const byte_vector other = model.build();
  check_error(status_code::malformed_file, {"general.type is 'model'"},
              [&] { (void)io::read_imatrix(other); });
  gguf_builder weights;
  weights.add_f32("w", {1}, {1});
  const byte_vector no_sums = weights.build();
  check_error(status_code::malformed_file, {"it is no importance matrix"},
              [&] { (void)io::read_imatrix(no_sums); });
  const byte_vector twice = plain_imatrix({{"w", 1, {1}}, {"w", 1, {1}}});
  check_error(status_code::malformed_file, {"entry 'w' is given twice"},
              [&] { (void)io::read_imatrix(twice); });
  const byte_vector huge = number<std::int32_t>(2000000000);
  check_error(status_code::malformed_file, {"the number of entries is 2000000000"},
              [&] { (void)io::read_imatrix(huge); });
  const temporary_directory directory;
  write_file(directory.file("a.dat"), twice);
  check_error(status_code::malformed_file, {"a.dat"},
              [&] { (void)io::read_imatrix(directory.file("a.dat")); });
}

TEST_CASE("read_imatrix: a plain file cut anywhere is refused", "[io][host][property]") {
  const byte_vector contents = plain_imatrix({{"first", 3, {1, 2, 3}}, {"second", 2, {4}}});
  for (std::size_t size = 0; size < contents.size(); ++size) {
    CAPTURE(size);
    const byte_vector cut(contents.begin(), contents.begin() + static_cast<std::ptrdiff_t>(size));
    check_error(status_code::malformed_file, {"imatrix file 'in memory'"},
                [&] { (void)io::read_imatrix(cut); });
  }
}
