// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/io/safetensors.hpp>

#include "support.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using io::dtype;
using io::flatten;
using io::safetensors_file;
using io::tensor_entry;

namespace {

/// A file of that JSON text followed by that many zero bytes.
byte_vector file_of(std::string_view json, std::size_t data_bytes = 0) {
  const std::vector<std::uint64_t> length = {json.size()};
  return to_bytes(length) + to_bytes(json) + byte_vector(data_bytes);
}

/// JSON text of one tensor named t.
std::string tensor_json(std::string_view type, std::string_view shape, std::string_view offsets) {
  return sentence("{\"t\":{\"dtype\":\"", type, "\",\"shape\":", shape, ",\"data_offsets\":", offsets, "}}");
}

void check_malformed(std::string_view part, const byte_vector& contents) {
  CAPTURE(part);
  check_error(status_code::malformed_file, {"safetensors file 'broken'", std::string(part)},
              [&] { safetensors_file(contents, "broken"); });
}

template <class T>
matrix<float> read_values(std::string_view type, const std::vector<T>& values) {
  const std::string json =
      tensor_json(type, sentence("[", values.size(), "]"), sentence("[0,", values.size() * sizeof(T), "]"));
  byte_vector contents = file_of(json);
  contents = contents + to_bytes(values);
  return safetensors_file(contents).read_matrix("t");
}

const std::vector<float> six = {1, 2, 3, 4, 5, 6};

tensor_entry entry_of(std::string name, std::vector<index_t> shape, const std::vector<float>& values) {
  return {std::move(name), dtype::f32, std::move(shape), std::as_bytes(std::span(values))};
}

} // namespace

TEST_CASE("dtype: names and sizes are those of the format", "[io][host]") {
  const std::vector<std::pair<std::string_view, index_t>> expected = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
      {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},     {"I64", 8},     {"U64", 8}, {"F64", 8}};
  for (const auto& [name, bytes] : expected) {
    CAPTURE(name);
    REQUIRE(io::find_dtype(name).has_value());
    CHECK(io::dtype_name(*io::find_dtype(name)) == name);
    CHECK(io::dtype_bytes(*io::find_dtype(name)) == bytes);
  }
  CHECK(io::find_dtype("BF16") == dtype::bf16);
  CHECK_FALSE(io::find_dtype("float32").has_value());
  CHECK_FALSE(io::find_dtype("").has_value());
}

TEST_CASE("safetensors_file: tensors are listed in the order of their data", "[io][host]") {
  const byte_vector contents = file_of("{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[2,10]},"
                                       "\"a\":{\"dtype\":\"U8\",\"shape\":[1,2],\"data_offsets\":[0,2]},"
                                       "\"__metadata__\":{\"format\":\"pt\"}}  ",
                                       10);
  const safetensors_file file(contents);
  REQUIRE(file.tensors().size() == 2);
  CHECK(file.tensors()[0].name == "a");
  CHECK(file.tensors()[0].dtype_text == "U8");
  CHECK(file.tensors()[0].shape == std::vector<index_t>{1, 2});
  CHECK(file.tensors()[1].begin_bytes == 2);
  CHECK(file.tensors()[1].end_bytes == 10);
  CHECK(file.metadata().at("format") == "pt");
  CHECK(file.contains("b"));
  CHECK_FALSE(file.contains("c"));
  CHECK_FALSE(file.contains("__metadata__"));
  CHECK(file.find("b").type == dtype::f32);
  CHECK(file.bytes("a").data() == contents.data() + (contents.size() - 10));
}

TEST_CASE("safetensors_file: a file may hold no tensors", "[io][host]") {
  const safetensors_file file(file_of("{}"));
  CHECK(file.tensors().empty());
  CHECK(file.metadata().empty());
  check_error(status_code::invalid_argument, {"no tensor is named 'x', it has no tensors"},
              [&] { (void)file.find("x"); });
}

TEST_CASE("safetensors_file: a missing name is answered with the names there are", "[io][host]") {
  std::vector<tensor_entry> tensors;
  for (int i = 10; i < 35; ++i) tensors.push_back(entry_of(sentence("layer", i), {0}, {}));
  const temporary_directory directory;
  const std::string path = directory.file("many.safetensors");
  io::write_safetensors(path, tensors);
  const safetensors_file file(path);
  const std::string listed = "'many.safetensors': no tensor is named 'layer9', it has 'layer10', 'layer11', ";
  for (const auto& call : {+[](const safetensors_file& f) { (void)f.find("layer9"); },
                           +[](const safetensors_file& f) { (void)f.bytes("layer9"); },
                           +[](const safetensors_file& f) { (void)f.read_matrix("layer9"); },
                           +[](const safetensors_file& f) { (void)f.f32_view("layer9"); },
                           +[](const safetensors_file& f) { (void)f.has_f32_view("layer9"); }}) {
    check_error(status_code::invalid_argument,
                {listed.substr(1 + listed.find('/') + 1), "'layer29' and 5 more"}, [&] { call(file); });
  }
}

TEST_CASE("safetensors_file: the length prefix is checked against the file", "[io][host]") {
  check_malformed("the file has 0 bytes, its header length alone takes 8", {});
  check_malformed("the file has 7 bytes", byte_vector(7));
  const auto with_length = [](std::uint64_t length) {
    return to_bytes(std::vector<std::uint64_t>{length}) + to_bytes("{}");
  };
  check_malformed("the header length is 3 bytes, but only 2 follow", with_length(3));
  check_malformed("the header length is 100000000 bytes, but only 2 follow", with_length(100'000'000));
  check_malformed("the header length is 100000001 bytes, allowed are at most 100000000",
                  with_length(100'000'001));
  check_malformed("the header length is 18446744073709551615 bytes, allowed are at most", with_length(~0ULL));
}

TEST_CASE("safetensors_file: the header must be one JSON object", "[io][host]") {
  check_malformed("the header starts with '', allowed is '{'", file_of(""));
  check_malformed("the header starts with '[', allowed is '{'", file_of("[]"));
  check_malformed("the header starts with ' '", file_of(" {}"));
  check_malformed("not valid JSON at its byte 2, near '{'", file_of("{"));
  check_malformed("not valid JSON", file_of("{}}"));
  check_malformed("not valid JSON", file_of("{} x"));
  check_malformed("not valid JSON", file_of("{\"a\":1e999}"));
  check_malformed("not valid JSON", file_of("{\"\xFF\":{}}"));
  check_malformed("the header has a zero byte at its byte 2", file_of(std::string_view("{}\0", 3)));
  check_malformed("header entry 't' is an array, allowed is an object", file_of("{\"t\":[]}"));
  check_malformed("header entry 't' is null, allowed is an object", file_of("{\"t\":null}"));
  check_malformed("header entry '__metadata__' is 5, allowed is an object", file_of("{\"__metadata__\":5}"));
}

TEST_CASE("safetensors_file: metadata maps strings to strings, each once", "[io][host]") {
  check_malformed("__metadata__ entry 'k' is 1, allowed is a string",
                  file_of("{\"__metadata__\":{\"k\":1}}"));
  check_malformed("__metadata__ entry 'k' is an object", file_of("{\"__metadata__\":{\"k\":{}}}"));
  check_malformed("__metadata__ entry 'k' is an array", file_of("{\"__metadata__\":{\"k\":[]}}"));
  check_malformed("__metadata__ has two entries 'k'", file_of("{\"__metadata__\":{\"k\":\"\",\"k\":\"\"}}"));
  check_malformed("__metadata__ is given twice", file_of("{\"__metadata__\":{},\"__metadata__\":{}}"));
}

TEST_CASE("safetensors_file: every field of a tensor is there once", "[io][host]") {
  check_malformed("tensor 't': dtype is missing", file_of("{\"t\":{}}"));
  check_malformed("tensor 't': shape is missing",
                  file_of("{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,0]}}"));
  check_malformed("tensor 't': data_offsets is missing", file_of("{\"t\":{\"dtype\":\"F32\",\"shape\":[]}}"));
  check_malformed("tensor 't': dtype is given twice",
                  file_of("{\"t\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}"));
  check_malformed("tensor 't': shape is given twice", file_of("{\"t\":{\"shape\":[],\"shape\":[]}}"));
  check_malformed("tensor 't': data_offsets is given twice",
                  file_of("{\"t\":{\"data_offsets\":[0,0],\"data_offsets\":[0,0]}}"));
  const std::string tensor = "\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
  check_malformed("tensor 't' is given twice", file_of("{" + tensor + "," + tensor + "}"));
}

TEST_CASE("safetensors_file: fields of the wrong kind are refused", "[io][host]") {
  check_malformed("tensor 't': dtype is 5, allowed is a string", file_of("{\"t\":{\"dtype\":5}}"));
  check_malformed("tensor 't': shape is '2', allowed is an array", file_of("{\"t\":{\"shape\":\"2\"}}"));
  check_malformed("tensor 't': data_offsets is an object", file_of("{\"t\":{\"data_offsets\":{}}}"));
  const auto check_shape = [](std::string_view part, std::string_view shape) {
    check_malformed(part, file_of(tensor_json("F32", shape, "[0,4]"), 4));
  };
  check_shape("tensor 't': shape holds -1, allowed are integers 0 ... 9223372036854775807", "[-1]");
  check_shape("shape holds -9223372036854775808", "[-9223372036854775808]");
  check_shape("shape holds '1.0'", "[1.0]");
  check_shape("shape holds 9223372036854775808", "[9223372036854775808]");
  check_shape("shape holds '18446744073709551616'", "[18446744073709551616]");
  check_shape("shape holds true", "[true]");
  check_shape("shape holds '1'", "[\"1\"]");
  check_shape("shape holds an array", "[[1]]");
  check_shape("shape has more than 16 dimensions", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]");
  const auto check_offsets = [](std::string_view part, std::string_view offsets) {
    check_malformed(part, file_of(tensor_json("F32", "[1]", offsets), 4));
  };
  check_offsets("data_offsets holds -4", "[-4,0]");
  check_offsets("data_offsets holds null", "[null,4]");
  check_offsets("data_offsets holds 0 numbers, allowed are exactly 2", "[]");
  check_offsets("data_offsets holds 1 numbers, allowed are exactly 2", "[0]");
  check_offsets("data_offsets holds 3 numbers, allowed are exactly 2", "[0,4,4]");
}

TEST_CASE("safetensors_file: ranges must lie in the file and fit the shape", "[io][host]") {
  const auto check = [](std::string_view part, std::string_view shape, std::string_view offsets) {
    check_malformed(part, file_of(tensor_json("F32", shape, offsets), 8));
  };
  check("tensor 't': data_offsets begin at 8 and end before it, at 0", "[2]", "[8,0]");
  check("tensor 't': data_offsets end at 9, but the data part has 8 bytes", "[2]", "[0,9]");
  check("data_offsets end at 9223372036854775807, but", "[2]", "[0,9223372036854775807]");
  check("data_offsets span 8 bytes, but shape [3] of F32 takes 12", "[3]", "[0,8]");
  check("data_offsets span 8 bytes, but shape [] of F32 takes 4", "[]", "[0,8]");
  check("shape [4294967296, 4294967296] of 'F32' exceeds the address space", "[4294967296,4294967296]",
        "[0,8]");
  check("shape [2305843009213693952] of 'F32' exceeds the address space", "[2305843009213693952]", "[0,0]");
  check("exceeds the address space", "[4294967296,4294967296,0]", "[0,0]");
}

TEST_CASE("safetensors_file: the tensors cover the data part exactly", "[io][host]") {
  const auto two = [](std::string_view first, std::string_view second) {
    return file_of(sentence("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":", first,
                            "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":", second, "}}"),
                   10);
  };
  check_malformed("tensor 'b' begins at byte 2 of the data part and overlaps another that ends at 4",
                  two("[0,4]", "[2,6]"));
  check_malformed("tensor 'b' begins at byte 0 of the data part and overlaps", two("[0,4]", "[0,4]"));
  check_malformed("bytes 4 ... 6 of the data part, before tensor 'b', belong to no tensor",
                  two("[0,4]", "[6,10]"));
  check_malformed("bytes 0 ... 2 of the data part, before tensor 'b', belong to no tensor",
                  two("[6,10]", "[2,6]"));
  check_malformed("the tensors end at byte 8 of the data part, but it has 10 bytes", two("[0,4]", "[4,8]"));
  check_malformed("the tensors end at byte 0 of the data part, but it has 1 bytes", file_of("{}", 1));
}

TEST_CASE("safetensors_file: unknown fields are passed over, but not at any depth", "[io][host]") {
  const auto with_extra = [](const std::string& extra) {
    return file_of("{\"t\":{\"extra\":" + extra + ",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                   1);
  };
  CHECK(safetensors_file(with_extra("{\"shape\":[1,{}],\"a\":-1.5,\"b\":null}")).contains("t"));
  CHECK(safetensors_file(with_extra(std::string(16, '[') + std::string(16, ']'))).contains("t"));
  check_malformed("tensor 't': a field is nested more than 16 levels deep",
                  with_extra(std::string(17, '[') + std::string(17, ']')));
  check_malformed("a field is nested more than 16 levels deep", with_extra(std::string(1'000'000, '[')));
}

TEST_CASE("safetensors_file: names in messages cannot steer a terminal", "[io][host]") {
  check_malformed("header entry '\\x1b[31m\\x00' is 5", file_of("{\"\\u001b[31m\\u0000\":5}"));
  check_malformed("header entry '" + std::string(120, 'x') + "...' is 5",
                  file_of("{\"" + std::string(5000, 'x') + "\":5}"));
}

TEST_CASE("safetensors_file: an unknown dtype can be listed but not read", "[io][host]") {
  const byte_vector contents = file_of(tensor_json("F4", "[2,2]", "[0,2]"), 2);
  const safetensors_file file(contents, "odd");
  CHECK(file.tensors()[0].dtype_text == "F4");
  CHECK_FALSE(file.tensors()[0].type.has_value());
  CHECK(file.bytes("t").size() == 2);
  CHECK_FALSE(file.has_f32_view("t"));
  check_error(status_code::unsupported, {"'odd': tensor 't': dtype is 'F4', readable as a matrix are F32"},
              [&] { (void)file.read_matrix("t"); });
  check_error(status_code::unsupported, {"dtype is 'F4', a view without a copy needs F32"},
              [&] { (void)file.f32_view("t"); });
  check_malformed("data_offsets end at 3, but the data part has 2",
                  file_of(tensor_json("F4", "[2,2]", "[0,3]"), 2));
  check_malformed("exceeds the address space",
                  file_of(tensor_json("F4", "[4294967296,4294967296]", "[0,2]"), 2));
}

TEST_CASE("read_matrix: every readable type is converted", "[io][host]") {
  CHECK(read_values<float>("F32", {-1.5F})(0, 0) == -1.5F);
  CHECK(read_values<double>("F64", {0.1})(0, 0) == 0.1F);
  CHECK(std::isinf(read_values<double>("F64", {-1e300})(0, 0)));
  CHECK(read_values<std::uint16_t>("F16", {0xC100})(0, 0) == -2.5F);
  CHECK(read_values<std::uint16_t>("BF16", {0x4049})(0, 0) == 3.140625F);
  CHECK(read_values<std::int8_t>("I8", {-128})(0, 0) == -128);
  CHECK(read_values<std::uint8_t>("U8", {255})(0, 0) == 255);
  check_error(status_code::unsupported, {"tensor 't': dtype is 'I32', readable as a matrix are F32, F16"},
              [] { (void)read_values<std::int32_t>("I32", {1}); });
}

TEST_CASE("read_matrix: the shape decides rows and columns", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("shapes.safetensors");
  const std::vector<float> one = {7};
  io::write_safetensors(
      path, std::vector<tensor_entry>{entry_of("scalar", {}, one), entry_of("one", {1, 1}, one),
                                      entry_of("vector", {6}, six), entry_of("matrix", {2, 3}, six),
                                      entry_of("empty", {0, 5}, {}), entry_of("cube", {3, 1, 2}, six),
                                      entry_of("hollow", {3, 0, 2}, {})});
  const safetensors_file file(path);
  const auto check = [&](std::string_view name, index_t rows, index_t cols, flatten mode = flatten::never) {
    CAPTURE(name);
    const matrix<float> read = file.read_matrix(name, mode);
    CHECK(read.rows() == rows);
    CHECK(read.cols() == cols);
    REQUIRE(file.has_f32_view(name, mode));
    const matrix_view<const float> view = file.f32_view(name, mode);
    CHECK(view.rows() == rows);
    CHECK(view.cols() == cols);
    for (index_t i = 0; i < rows * cols; ++i) CHECK(view.data()[i] == read.data()[i]);
  };
  check("scalar", 1, 1);
  check("one", 1, 1);
  check("vector", 1, 6);
  check("matrix", 2, 3);
  check("matrix", 2, 3, flatten::trailing_dimensions);
  check("empty", 0, 5);
  check("cube", 3, 2, flatten::trailing_dimensions);
  check("hollow", 3, 0, flatten::trailing_dimensions);
  CHECK(file.read_matrix("cube", flatten::trailing_dimensions)(1, 1) == 4);
  CHECK_FALSE(file.has_f32_view("cube"));
  const std::string message =
      "tensor 'cube': shape [3, 1, 2] has 3 dimensions, a matrix has at most 2 unless";
  check_error(status_code::unsupported, {message}, [&] { (void)file.read_matrix("cube"); });
  check_error(status_code::unsupported, {message}, [&] { (void)file.f32_view("cube"); });
}

TEST_CASE("f32_view: views point into the file, and only where the type and the alignment allow",
          "[io][host]") {
  const std::string json = "{\"h\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]},"
                           "\"f\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}";
  std::vector<std::uint64_t> storage(64); // aligned to 8 bytes
  const auto place = [&](std::size_t padding) {
    const byte_vector contents =
        file_of(json + std::string(padding, ' ')) + to_bytes(std::string_view("\0\0\0\0\x80\x3f", 6));
    std::memcpy(storage.data(), contents.data(), contents.size());
    return std::as_bytes(std::span(storage)).first(contents.size());
  };
  for (std::size_t padding = 0; padding < 4; ++padding) {
    const std::span<const std::byte> contents = place(padding);
    const safetensors_file file(contents);
    const bool is_aligned = (8 + json.size() + padding + 2) % 4 == 0;
    CAPTURE(padding);
    CHECK(file.has_f32_view("f") == is_aligned);
    CHECK(file.read_matrix("f")(0, 0) == 1.0F);
    if (is_aligned) {
      CHECK(static_cast<const void*>(file.f32_view("f").data()) == contents.data() + contents.size() - 4);
    } else {
      check_error(status_code::unsupported,
                  {"tensor 'f': its data starts at byte 2 of a data part that is not aligned"},
                  [&] { (void)file.f32_view("f"); });
    }
    CHECK_FALSE(file.has_f32_view("h"));
    check_error(status_code::unsupported, {"tensor 'h': dtype is 'F16', a view without a copy needs F32"},
                [&] { (void)file.f32_view("h"); });
  }
}

TEST_CASE("safetensors_file: moving keeps views valid", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("m.safetensors");
  io::write_safetensors(path, std::vector<tensor_entry>{entry_of("t", {2, 3}, six)});
  safetensors_file file(path);
  const matrix_view<const float> view = file.f32_view("t");
  const safetensors_file moved = std::move(file);
  CHECK(view(1, 2) == 6);
  CHECK(moved.f32_view("t").data() == view.data());
  CHECK(moved.find("t").name == "t");
}

TEST_CASE("safetensors_file: a missing file is named", "[io][host]") {
  check_error(status_code::io_failure, {"cannot read '/nowhere/m.safetensors'"},
              [] { safetensors_file("/nowhere/m.safetensors"); });
}
