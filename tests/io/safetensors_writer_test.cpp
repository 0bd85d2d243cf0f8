// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/io/safetensors.hpp>

#include "support.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using io::dtype;
using io::safetensors_file;
using io::tensor_entry;

namespace {

/// A file of that JSON text followed by that many zero bytes.
byte_vector file_of(std::string_view json, std::size_t data_bytes = 0) {
  const std::vector<std::uint64_t> length = {json.size()};
  return to_bytes(length) + to_bytes(json) + byte_vector(data_bytes);
}

const std::vector<float> six = {1, 2, 3, 4, 5, 6};

tensor_entry entry_of(std::string name, std::vector<index_t> shape, const std::vector<float>& values) {
  return {std::move(name), dtype::f32, std::move(shape), std::as_bytes(std::span(values))};
}

} // namespace

TEST_CASE("write_safetensors: tensors and metadata come back, whatever their order", "[io][host]") {
  const temporary_directory directory;
  const std::vector<std::byte> raw = to_bytes("abc");
  const std::vector<double> wide = {1.5, -2.5};
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"quote\"\n", "\\ \xC3\xA9"}};
  std::vector<tensor_entry> tensors = {{"bytes", dtype::u8, {3}, raw},
                                       entry_of("w \xC3\xA9 \"", {2, 3}, six),
                                       {"bool", dtype::boolean, {1, 3}, raw},
                                       {"", dtype::f64, {2}, std::as_bytes(std::span(wide))}};
  io::write_safetensors(directory.file("a"), tensors, metadata);
  std::swap(tensors[0], tensors[3]);
  std::swap(tensors[1], tensors[2]);
  io::write_safetensors(directory.file("b"), tensors, metadata);
  CHECK(read_file(directory.file("a")) == read_file(directory.file("b")));

  const safetensors_file file(directory.file("a"));
  CHECK(file.metadata() == metadata);
  REQUIRE(file.tensors().size() == 4);
  for (const tensor_entry& tensor : tensors) {
    CAPTURE(tensor.name);
    const io::tensor_info& info = file.find(tensor.name);
    CHECK(info.type == tensor.type);
    CHECK(info.shape == tensor.shape);
    CHECK(info.begin_bytes % io::dtype_bytes(tensor.type) == 0);
    const std::span<const std::byte> bytes = file.bytes(tensor.name);
    CHECK(std::equal(bytes.begin(), bytes.end(), tensor.bytes.begin(), tensor.bytes.end()));
  }
  CHECK(file.tensors()[0].name.empty()); // 8-byte elements come first
  CHECK(file.has_f32_view("w \xC3\xA9 \""));
}

TEST_CASE("write_safetensors: the bytes are those of the reference implementation", "[io][host]") {
  const temporary_directory directory;
  const std::vector<float> values = {1, 2};
  io::write_safetensors(directory.file("f"), std::vector<tensor_entry>{entry_of("t", {2}, values)},
                        {{"k", "v"}});
  std::string json =
      "{\"__metadata__\":{\"k\":\"v\"},\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
  json.append((8 - json.size() % 8) % 8, ' ');
  CHECK(read_file(directory.file("f")) == file_of(json) + to_bytes(values));
}

TEST_CASE("write_safetensors: types are stored in the order of the reference implementation", "[io][host]") {
  const temporary_directory directory;
  const byte_vector zeros(8);
  std::vector<tensor_entry> tensors;
  for (const char* name : {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32",
                           "U32", "F32", "F64", "I64", "U64"}) {
    const dtype type = *io::find_dtype(name);
    const auto num_bytes = static_cast<std::size_t>(io::dtype_bytes(type));
    tensors.push_back({name, type, {1}, std::span(zeros).first(num_bytes)});
  }
  io::write_safetensors(directory.file("f"), tensors);
  const safetensors_file file(directory.file("f"));
  REQUIRE(file.tensors().size() == tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) CHECK(file.tensors()[i].name == tensors[14 - i].name);
}

TEST_CASE("write_safetensors: no tensors give an empty object", "[io][host]") {
  const temporary_directory directory;
  io::write_safetensors(directory.file("f"), {});
  CHECK(read_file(directory.file("f")) == file_of("{}      "));
  CHECK(safetensors_file(directory.file("f")).tensors().empty());
}

TEST_CASE("write_safetensors: contradictions are refused and nothing is written", "[io][host]") {
  const temporary_directory directory;
  const auto check = [&](std::string_view part, const std::vector<tensor_entry>& tensors,
                         const std::map<std::string, std::string>& metadata = {}) {
    check_error(status_code::invalid_argument, {std::string(part)},
                [&] { io::write_safetensors(directory.file("f"), tensors, metadata); });
    CHECK(directory.names().empty());
  };
  check("tensor 'a' is given twice",
        {entry_of("a", {6}, six), entry_of("b", {6}, six), entry_of("a", {6}, six)});
  check("tensor 'a': shape [2, 2] of F32 takes 16 bytes, but 24 are given", {entry_of("a", {2, 2}, six)});
  check("tensor 'a': shape is [-1, -6], all extents must be >= 0", {entry_of("a", {-1, -6}, six)});
  check("tensor 'a': shape [4294967296, 4294967296] exceeds", {entry_of("a", {1LL << 32, 1LL << 32}, six)});
  check("tensor 'a': shape has 17 dimensions, allowed are at most 16",
        {entry_of("a", std::vector<index_t>(17, 1), {1})});
  check("tensor '__metadata__': the name is reserved", {entry_of("__metadata__", {6}, six)});
  check("tensor name 'a\xFF' is not valid UTF-8", {entry_of("a\xFF", {6}, six)});
  check("metadata key 'k\xFF' is not valid UTF-8", {}, {{"k\xFF", "v"}});
  check("metadata value 'v\xFF' is not valid UTF-8", {}, {{"k", "v\xFF"}});
  check("the safetensors header has 100000032 bytes, allowed are at most 100000000", {},
        {{"k", std::string(100'000'000, 'v')}});
}

TEST_CASE("write_safetensors: an unwritable path is named and nothing is left", "[io][host]") {
  const temporary_directory directory;
  write_file(directory.file("plain"), {});
  const std::string path = directory.file("plain") + "/m.safetensors";
  check_error(status_code::io_failure, {"cannot write '" + path + "'", "Not a directory"},
              [&] { io::write_safetensors(path, {}); });
  CHECK(directory.names() == std::vector<std::string>{"plain"});
}

TEST_CASE("make_f32_entry: a matrix becomes a tensor, a view with gaps does not", "[io][host]") {
  const temporary_directory directory;
  matrix<float> values(2, 3);
  std::copy(six.begin(), six.end(), values.data());
  io::write_safetensors(directory.file("f"),
                        std::vector{io::make_f32_entry("w", values.view()),
                                    io::make_f32_entry("none", matrix<float>(0, 4).view())});
  const safetensors_file file(directory.file("f"));
  CHECK(file.find("w").shape == std::vector<index_t>{2, 3});
  CHECK(file.read_matrix("w")(1, 0) == 4);
  CHECK(file.find("none").shape == std::vector<index_t>{0, 4});
  check_error(status_code::invalid_argument,
              {"tensor 'w': strides are (1, 3), allowed are (2, 1): contiguous row-major"},
              [&] { (void)io::make_f32_entry("w", values.view().transposed()); });
}
