// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/io/gguf.hpp>

#include "../support/catch.hpp"
#include "gguf_builder.hpp"
#include "support.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

template <class T>
byte_vector array_of(std::uint32_t type, const std::vector<T>& values) {
  return number<std::uint32_t>(type) + number<std::uint64_t>(values.size()) + to_bytes(values);
}

gguf_builder example() {
  gguf_builder builder;
  builder.add_value("u8", 0, number<std::uint8_t>(200));
  builder.add_value("i8", 1, number<std::int8_t>(-100));
  builder.add_value("u16", 2, number<std::uint16_t>(60000));
  builder.add_value("i16", 3, number<std::int16_t>(-30000));
  builder.add_value("u32", 4, number<std::uint32_t>(4000000000U));
  builder.add_value("i32", 5, number<std::int32_t>(-2000000000));
  builder.add_value("f32", 6, number<float>(1.5F));
  builder.add_value("boolean", 7, number<std::uint8_t>(1));
  builder.add_text("text", "gelb");
  builder.add_value("u64", 10, number<std::uint64_t>(UINT64_MAX));
  builder.add_value("i64", 11, number<std::int64_t>(-5));
  builder.add_value("f64", 12, number<double>(0.1));
  builder.add_value("numbers", 9, array_of<std::int16_t>(3, {1, -2, 3}));
  builder.add_value("none", 9, array_of<float>(6, {}));
  builder.add_value("texts", 9,
                    number<std::uint32_t>(8) + number<std::uint64_t>(2) + gguf_text("a") + gguf_text(""));
  const byte_vector inner = array_of<std::uint8_t>(0, {7}) + array_of<std::uint8_t>(0, {8, 9});
  builder.add_value("arrays", 9, number<std::uint32_t>(9) + number<std::uint64_t>(2) + inner);
  builder.add_f32("single", {3, 2}, {1, 2, 3, 4, 5, 6});
  builder.add_tensor("half", {2}, 1, to_bytes(std::vector<std::uint16_t>{0x3C00, 0xC000}));
  builder.add_tensor("double", {1, 2, 2}, 28, to_bytes(std::vector<double>{0.1, 2, 3, 4}));
  builder.add_tensor("brain", {1, 1}, 30, number<std::uint16_t>(0x4000));
  builder.add_tensor("blocks", {64, 2}, 2, byte_vector(72));
  builder.add_tensor("unknown", {5}, 999, byte_vector(32));
  builder.add_f32("scalar", {}, {9});
  builder.add_f32("empty", {0, 4}, {});
  return builder;
}

} // namespace

TEST_CASE("gguf_file: metadata of every type is what was written", "[io][host]") {
  for (const std::uint32_t version : {2U, 3U}) {
    const byte_vector contents = example().build(version);
    const io::gguf_file file(contents);
    CHECK(file.version() == version);
    const auto value = [&](const char* key) { return file.metadata().find(key)->second; };
    CHECK(value("u8").integer() == 200);
    CHECK(value("i8").integer() == -100);
    CHECK(value("u16").integer() == 60000);
    CHECK(value("i16").integer() == -30000);
    CHECK(value("u32").integer() == 4000000000);
    CHECK(value("i32").integer() == -2000000000);
    CHECK(value("i64").integer() == -5);
    CHECK(value("i64").number() == -5.0);
    CHECK_FALSE(value("u64").integer().has_value());
    CHECK(value("u64").number() == 18446744073709551616.0);
    CHECK(value("f32").number() == 1.5);
    CHECK_FALSE(value("f32").integer().has_value());
    CHECK(value("f64").number() == 0.1);
    CHECK(value("boolean").boolean() == true);
    CHECK_FALSE(value("u8").boolean().has_value());
    CHECK(value("text").text() == "gelb");
    CHECK_FALSE(value("text").number().has_value());
    CHECK_FALSE(value("u8").text().has_value());
    CHECK(value("u8").elements().empty());
    REQUIRE(value("numbers").elements().size() == 3);
    CHECK(value("numbers").element_type() == io::gguf_type::i16);
    CHECK(value("numbers").elements()[1].integer() == -2);
    CHECK(value("none").count() == 0);
    REQUIRE(value("texts").elements().size() == 2);
    CHECK(value("texts").elements()[0].text() == "a");
    CHECK(value("texts").elements()[1].text() == "");
    REQUIRE(value("arrays").elements().size() == 2);
    CHECK(value("arrays").elements()[1].elements()[1].integer() == 9);
  }
}

TEST_CASE("gguf_file: tensors are read as matrices or listed", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("weights.gguf");
  write_file(path, example().build());
  io::gguf_file opened(path);
  const io::gguf_file file(std::move(opened)); // spans survive the move
  REQUIRE(file.tensors().size() == 8);
  CHECK(file.tensors()[0].name == "single");
  CHECK(file.find("single").shape == std::vector<index_t>{2, 3});
  const matrix<float> single = file.read_matrix("single");
  REQUIRE((single.rows() == 2 && single.cols() == 3));
  CHECK(single(1, 0) == 4);
  const matrix<float> half = file.read_matrix("half");
  REQUIRE((half.rows() == 1 && half.cols() == 2));
  CHECK(half(0, 1) == -2);
  const matrix<float> doubles = file.read_matrix("double");
  REQUIRE((doubles.rows() == 4 && doubles.cols() == 1));
  CHECK(doubles(0, 0) == 0.1F);
  CHECK(file.read_matrix("brain")(0, 0) == 2);
  CHECK(file.read_matrix("scalar")(0, 0) == 9);
  CHECK(file.read_matrix("empty").rows() == 4);
  CHECK(file.read_matrix("empty").size() == 0);
  CHECK(file.find("blocks").type_text == "Q4_0");
  CHECK(file.bytes("blocks").size() == 72);
  CHECK_FALSE(file.find("unknown").is_known);
  CHECK(file.find("unknown").type_text == "type 999");
  CHECK(file.bytes("unknown").size() == 32);
  const matrix<float> blocks = file.read_matrix("blocks");
  REQUIRE((blocks.rows() == 2 && blocks.cols() == 64));
  CHECK(blocks(1, 63) == 0); // (0 - 8) times a scale of 0
  check_error(status_code::unsupported, {"'single'", "type is F32"},
              [&] { (void)file.read_quantized("single"); });
  check_error(status_code::unsupported, {"type 999"}, [&] { (void)file.read_matrix("unknown"); });
  check_error(status_code::invalid_argument, {"no tensor is named 'x'", "weights.gguf"},
              [&] { (void)file.find("x"); });
}

TEST_CASE("gguf_file: another alignment moves the data", "[io][host]") {
  for (const std::uint32_t alignment : {1U, 8U, 64U, 4096U}) {
    gguf_builder builder;
    builder.alignment = alignment;
    builder.add_value("general.alignment", 4, number<std::uint32_t>(alignment));
    builder.add_f32("a", {1}, {1});
    builder.add_f32("b", {1}, {2});
    const byte_vector contents = builder.build();
    const io::gguf_file file(contents);
    CHECK(file.read_matrix("a")(0, 0) == 1);
    CHECK(file.read_matrix("b")(0, 0) == 2);
  }
  for (const std::uint32_t alignment : {0U, 24U}) {
    gguf_builder builder;
    builder.add_value("general.alignment", 4, number<std::uint32_t>(alignment));
    const byte_vector contents = builder.build();
    check_error(status_code::malformed_file, {"general.alignment is ", "power of two"},
                [&] { (void)io::gguf_file(contents); });
  }
}

TEST_CASE("gguf_file: a file cut anywhere is refused", "[io][host][property]") {
  const byte_vector contents = example().build();
  const io::gguf_file whole(contents);
  // The last tensor is empty and its offset padded, so up to 28 bytes of padding may be missing.
  const std::size_t needed = contents.size() - 28;
  for (std::size_t size = 0; size < needed; ++size) {
    const byte_vector cut(contents.begin(), contents.begin() + static_cast<std::ptrdiff_t>(size));
    CAPTURE(size);
    CHECK_THROWS_AS(io::gguf_file(cut), error);
  }
}

TEST_CASE("gguf_file: messages name the tensor and the file, not its raw bytes", "[io][host]") {
  gguf_builder builder;
  builder.add_tensor("evil\x1b[2J", {33}, 2, byte_vector(36));
  const byte_vector contents = builder.build();
  check_error(status_code::malformed_file, {"GGUF file 'label'", "evil\\x1b[2J", "33", "multiple of 32"},
              [&] { (void)io::gguf_file(contents, "label"); });
  check_error(status_code::io_failure, {"no_such_file"},
              [] { (void)io::gguf_file(std::string("/no_such_file")); });
}
