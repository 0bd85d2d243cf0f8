// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/io/gguf_writer.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "gguf_builder.hpp"
#include "support.hpp"

#include <cstdint>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

io::gguf_tensor_entry entry_of(const std::string& name, const std::vector<index_t>& shape,
                               const byte_vector& bytes) {
  return {name, io::gguf_tensor_type::f32, shape, bytes};
}

} // namespace

TEST_CASE("write_gguf: the bytes are those of the format", "[io][host]") {
  const temporary_directory directory;
  gguf_builder expected;
  expected.add_value("a", 7, number<std::uint8_t>(1));
  expected.add_value("b", 4, number<std::uint32_t>(7));
  expected.add_text("c", "gelb");
  expected.add_value("d", 9,
                     number<std::uint32_t>(8) + number<std::uint64_t>(2) + gguf_text("x") + gguf_text(""));
  expected.add_value("e", 9, number<std::uint32_t>(6) + number<std::uint64_t>(1) + number<float>(0.5F));
  expected.add_f32("w", {3, 1}, {1, 2, 3});
  expected.add_f32("v", {2}, {4, 5});
  const byte_vector w = to_bytes(std::vector<float>{1, 2, 3});
  const byte_vector v = to_bytes(std::vector<float>{4, 5});
  const io::gguf_metadata metadata{{"e", std::vector<float>{0.5F}},
                                   {"d", std::vector<std::string>{"x", ""}},
                                   {"c", "gelb"},
                                   {"b", std::uint32_t{7}},
                                   {"a", true}};
  io::write_gguf(directory.file("x"), metadata, std::vector{entry_of("w", {1, 3}, w), entry_of("v", {2}, v)});
  byte_vector bytes = expected.build();
  bytes.resize((bytes.size() + 31) / 32 * 32); // the last tensor is padded too
  CHECK(read_file(directory.file("x")) == bytes);
}

TEST_CASE("write_gguf: every type of number and a copied value come back", "[io][host]") {
  const temporary_directory directory;
  const byte_vector w = to_bytes(std::vector<float>{1, 2, 3});
  const io::gguf_metadata metadata{{"general.alignment", std::uint32_t{64}},
                                   {"u8", std::uint8_t{200}},
                                   {"i8", std::int8_t{-100}},
                                   {"u16", std::uint16_t{60000}},
                                   {"i16", std::int16_t{-30000}},
                                   {"i32", std::int32_t{-2000000000}},
                                   {"u64", std::uint64_t{1} << 40U},
                                   {"i64", std::int64_t{-5}},
                                   {"f64", 0.1},
                                   {"f32", 1.5F},
                                   {"t", std::vector<std::string>{"p", "q"}}};
  io::write_gguf(directory.file("x"), metadata, std::vector{entry_of("a", {3}, w), entry_of("b", {3, 1}, w)});
  const io::gguf_file file(directory.file("x"));
  const auto value = [&](const char* key) { return file.metadata().find(key)->second; };
  CHECK(value("u8").integer() == 200);
  CHECK(value("i8").integer() == -100);
  CHECK(value("u16").integer() == 60000);
  CHECK(value("i16").integer() == -30000);
  CHECK(value("i32").integer() == -2000000000);
  CHECK(value("u64").integer() == index_t{1} << 40U);
  CHECK(value("i64").integer() == -5);
  CHECK(value("f64").number() == 0.1);
  CHECK(value("f32").number() == 1.5);
  CHECK(file.tensors()[1].begin_bytes == 64);
  CHECK(file.read_matrix("b")(2, 0) == 3);
  const io::gguf_metadata copied{{"t", value("t")}, {"u8", value("u8")}};
  io::write_gguf(directory.file("y"), copied, {});
  const io::gguf_file again(directory.file("y"));
  CHECK(again.metadata().find("t")->second.elements()[1].text() == "q");
  CHECK(again.metadata().find("u8")->second.integer() == 200);
}

TEST_CASE("write_gguf: what ggml would not load is refused and nothing is written", "[io][host]") {
  const temporary_directory directory;
  const byte_vector w = to_bytes(std::vector<float>{1, 2, 3});
  const auto refuse = [&](const std::vector<std::string>& parts,
                          const std::vector<io::gguf_tensor_entry>& tensors,
                          const io::gguf_metadata& metadata = {}) {
    check_error(status_code::invalid_argument, parts,
                [&] { io::write_gguf(directory.file("x"), metadata, tensors); });
    CHECK(directory.names().empty());
  };
  refuse({"'a'", "twice"}, {entry_of("a", {3}, w), entry_of("a", {3}, w)});
  refuse({"64 bytes", "1 to 63"}, {entry_of(std::string(64, 'a'), {3}, w)});
  refuse({"0 bytes"}, {entry_of("", {3}, w)});
  refuse({"UTF-8"}, {entry_of("\xff", {3}, w)});
  refuse({"'a'", "5 dimensions"}, {entry_of("a", {3, 1, 1, 1, 1}, w)});
  refuse({"[-1]"}, {entry_of("a", {-1}, w)});
  refuse({"[4] of F32 takes 16 bytes, but 12"}, {entry_of("a", {4}, w)});
  refuse({"33 elements", "multiples of 32"}, {{"a", io::gguf_tensor_type::q4_0, {33}, w}});
  refuse({"general.alignment is 24"}, {}, {{"general.alignment", std::uint32_t{24}}});
  refuse({"general.alignment is of another type"}, {}, {{"general.alignment", std::int32_t{32}}});
  refuse({"key has 0 bytes"}, {}, {{"", true}});
  check_error(status_code::invalid_argument, {"UTF-8"}, [] { (void)io::gguf_content("\xff"); });
  io::write_gguf(directory.file("x"), {}, std::vector{entry_of(std::string(63, 'a'), {3}, w)});
  CHECK(directory.names().size() == 1);
}

TEST_CASE("merge_gguf: the parts' tensors, once each", "[io][host]") {
  const temporary_directory directory;
  const byte_vector w = to_bytes(std::vector<float>{1, 2, 3});
  const byte_vector v = to_bytes(std::vector<float>{4, 5});
  const io::gguf_metadata metadata{{"k", "value"}};
  io::write_gguf(directory.file("1"), {{"other", true}}, std::vector{entry_of("w", {1, 3}, w)});
  io::write_gguf(directory.file("2"), {}, std::vector{entry_of("v", {2}, v), entry_of("u", {3}, w)});
  io::write_gguf(directory.file("whole"), metadata,
                 std::vector{entry_of("w", {1, 3}, w), entry_of("v", {2}, v), entry_of("u", {3}, w)});
  const std::vector<std::string> parts{directory.file("1"), directory.file("2")};
  io::merge_gguf(directory.file("merged"), metadata, parts);
  CHECK(read_file(directory.file("merged")) == read_file(directory.file("whole")));
  io::merge_gguf(directory.file("1"), metadata, parts); // over a part
  CHECK(read_file(directory.file("1")) == read_file(directory.file("whole")));
  check_error(status_code::invalid_argument, {"'v' is in ", "and in "},
              [&] { io::merge_gguf(directory.file("bad"), {}, parts); });
  gguf_builder unknown;
  unknown.add_tensor("x", {5}, 999, byte_vector(32));
  write_file(directory.file("3"), unknown.build());
  check_error(status_code::unsupported, {"type 999"},
              [&] { io::merge_gguf(directory.file("bad"), {}, std::vector{directory.file("3")}); });
  CHECK(directory.names().size() == 5);
}
