// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/io/npy.hpp>

#include "support.hpp"

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

byte_vector npy_bytes(std::string_view dictionary, const byte_vector& data, int major = 1) {
  std::string prefix = "\x93NUMPY";
  prefix += static_cast<char>(major);
  prefix += '\0';
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  for (std::size_t i = 0; i < length_bytes; ++i) {
    prefix += static_cast<char>((dictionary.size() >> (8 * i)) & 0xFFU);
  }
  return to_bytes(prefix) + to_bytes(dictionary) + data;
}

std::string dictionary(std::string_view descr, std::string_view shape, std::string_view order = "False") {
  return sentence("{'descr': '", descr, "', 'fortran_order': ", order, ", 'shape': ", shape, ", }      \n");
}

template <class T>
matrix<float> read_values(std::string_view descr, const std::vector<T>& values) {
  const std::string shape = sentence("(", values.size(), ",)");
  return io::read_npy(npy_bytes(dictionary(descr, shape), to_bytes(values)));
}

void check_refused(status_code code, std::string_view part, const byte_vector& contents) {
  CAPTURE(part);
  check_error(code, {"npy file 'broken.npy'", std::string(part)},
              [&] { (void)io::read_npy(contents, "broken.npy"); });
}

void check_malformed(std::string_view part, const byte_vector& contents) {
  check_refused(status_code::malformed_file, part, contents);
}

const std::vector<float> six = {1, 2, 3, 4, 5, 6};

} // namespace

TEST_CASE("read_npy: rows and columns come in C order", "[io][host]") {
  for (const int major : {1, 2, 3}) {
    const matrix<float> read = io::read_npy(npy_bytes(dictionary("<f4", "(2, 3)"), to_bytes(six), major));
    REQUIRE(read.rows() == 2);
    REQUIRE(read.cols() == 3);
    CHECK(read(0, 1) == 2);
    CHECK(read(1, 0) == 4);
  }
}

TEST_CASE("read_npy: Fortran order is undone", "[io][host]") {
  const matrix<float> read = io::read_npy(npy_bytes(dictionary("<f4", "(2, 3)", "True"), to_bytes(six)));
  REQUIRE(read.rows() == 2);
  REQUIRE(read.cols() == 3);
  CHECK(read(0, 0) == 1);
  CHECK(read(1, 0) == 2);
  CHECK(read(0, 1) == 3);
  CHECK(read(1, 2) == 6);
}

TEST_CASE("read_npy: Fortran order is undone across the blocks of the transposition", "[io][host]") {
  std::vector<float> values(130 * 67);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const matrix<float> read =
      io::read_npy(npy_bytes(dictionary("<f4", "(130, 67)", "True"), to_bytes(values)));
  bool all_equal = true;
  for (index_t i = 0; i < 130; ++i) {
    for (index_t j = 0; j < 67; ++j) all_equal = all_equal && read(i, j) == static_cast<float>(j * 130 + i);
  }
  CHECK(all_equal);
}

TEST_CASE("read_npy: one dimension gives one row in either order", "[io][host]") {
  for (const char* order : {"False", "True"}) {
    const matrix<float> read = io::read_npy(npy_bytes(dictionary("<f4", "(6,)", order), to_bytes(six)));
    CHECK(read.rows() == 1);
    CHECK(read.cols() == 6);
    CHECK(read(0, 5) == 6);
  }
}

TEST_CASE("read_npy: every element type is converted", "[io][host]") {
  CHECK(read_values<double>("<f8", {-0.1})(0, 0) == -0.1F);
  CHECK(std::isinf(read_values<double>("<f8", {1e300})(0, 0)));
  CHECK(read_values<std::uint16_t>("<f2", {0xC100})(0, 0) == -2.5F);
  CHECK(read_values<std::int8_t>("|i1", {-128})(0, 0) == -128);
  CHECK(read_values<std::uint8_t>("|u1", {255})(0, 0) == 255);
  CHECK(read_values<std::int16_t>("<i2", {-30000})(0, 0) == -30000);
  CHECK(read_values<std::int32_t>("<i4", {-70000})(0, 0) == -70000);
  CHECK(read_values<std::int64_t>("<i8", {-5'000'000'000})(0, 0) == -5e9F);
}

TEST_CASE("read_npy: empty matrices have their shape", "[io][host]") {
  CHECK(io::read_npy(npy_bytes(dictionary("<f4", "(0,)"), {})).cols() == 0);
  for (const char* order : {"False", "True"}) {
    const matrix<float> read =
        io::read_npy(npy_bytes(dictionary("<f4", "(1152921504606846976, 0)", order), {}));
    CHECK(read.rows() == index_t{1} << 60);
    CHECK(read.cols() == 0);
  }
}

TEST_CASE("read_npy: keys come in any order, with either quotes and with or without the last comma",
          "[io][host]") {
  const matrix<float> read =
      io::read_npy(npy_bytes("{\"shape\":(3,2),\"fortran_order\":False,\"descr\":\"<f4\"}", to_bytes(six)));
  CHECK(read.rows() == 3);
  CHECK(read.cols() == 2);
}

TEST_CASE("read_npy: types that are not handled are named", "[io][host]") {
  const auto check = [](std::string_view part, std::string_view descr) {
    check_refused(status_code::unsupported, part, npy_bytes(dictionary(descr, "(6,)"), to_bytes(six)));
  };
  check("descr '>f4' is big-endian", ">f4");
  check("descr '|O' holds Python objects", "|O");
  check("descr '<c8' is another element type, readable are <f4", "<c8");
  check("descr '|V2' is another", "|V2");
  check("descr '' is another", "");
  check_refused(
      status_code::unsupported, "descr is '[('a', '<f4')], 'fortran",
      npy_bytes("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }", to_bytes(six)));
}

TEST_CASE("read_npy: no or more than two dimensions are refused", "[io][host]") {
  check_refused(status_code::unsupported, "shape [] has 0 dimensions",
                npy_bytes(dictionary("<f4", "()"), to_bytes(std::vector<float>{1})));
  check_refused(status_code::unsupported, "shape [1, 2, 3] has 3 dimensions, a matrix has 1 or 2",
                npy_bytes(dictionary("<f4", "(1, 2, 3)"), to_bytes(six)));
}

TEST_CASE("read_npy: sizes that lie are refused", "[io][host]") {
  check_malformed("shape [2, 4] of <f4 takes 32 bytes, but 24 follow",
                  npy_bytes(dictionary("<f4", "(2, 4)"), to_bytes(six)));
  check_malformed("takes 20 bytes, but 24 follow", npy_bytes(dictionary("<f4", "(5,)"), to_bytes(six)));
  check_malformed("exceeds the address space",
                  npy_bytes(dictionary("<f4", "(4294967296, 4294967296)"), to_bytes(six)));
  check_malformed("exceeds the address space", npy_bytes(dictionary("<f8", "(0, 9223372036854775807)"), {}));
  check_malformed("shape holds a number above 9223372036854775807",
                  npy_bytes(dictionary("<f4", "(9223372036854775808,)"), to_bytes(six)));
}

TEST_CASE("read_npy: a file that ends early is refused at every length", "[io][host]") {
  for (const int major : {1, 2}) {
    const byte_vector whole = npy_bytes(dictionary("<f4", "(2, 3)"), to_bytes(six), major);
    for (std::size_t length = 0; length < whole.size(); ++length) {
      CAPTURE(length);
      const std::span<const std::byte> part(whole.data(), length);
      check_error(status_code::malformed_file, {}, [&] { (void)io::read_npy(part); });
    }
  }
  check_malformed("does not start with the bytes \\x93NUMPY", {});
  check_malformed("ends within its version number", to_bytes("\x93NUMPY\x01"));
  check_malformed("ends within its header length", to_bytes(std::string_view("\x93NUMPY\x01\x00\x01", 9)));
  check_malformed("the header length is 65535 bytes, but only 1 follow",
                  to_bytes(std::string_view("\x93NUMPY\x01\x00\xFF\xFF{", 11)));
}

TEST_CASE("read_npy: an unknown version is refused", "[io][host]") {
  check_refused(status_code::unsupported, "format version is 4.0, readable are 1.0, 2.0 and 3.0",
                npy_bytes(dictionary("<f4", "(6,)"), to_bytes(six), 4));
}

TEST_CASE("read_npy: a header that is not the expected dictionary is refused where it fails", "[io][host]") {
  const auto check = [](std::string_view part, std::string_view text) {
    check_malformed(part, npy_bytes(text, to_bytes(six)));
  };
  check("the header has its end at its byte 0, expected '{'", "");
  check("the header has '[1]' at its byte 0, expected '{'", "[1]");
  check("the header has no descr", "{'fortran_order': False, 'shape': (6,), }");
  check("the header has no fortran_order", "{'descr': '<f4', 'shape': (6,), }");
  check("the header has no shape", "{'descr': '<f4', 'fortran_order': False, }");
  check("descr is given twice", "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,), }");
  check("the header has the key 'other'", "{'other': 1}");
  check("expected a string", "{1: 2}");
  check("expected a string that ends", "{'descr");
  check("the header has '1, 'fortran_order': ' at its byte 10, expected a string",
        "{'descr': 1, 'fortran_order': False, 'shape': (6,), }");
  check("expected ':'", "{'descr' '<f4'}");
  check("expected True or False", "{'descr': '<f4', 'fortran_order': 0, 'shape': (6,), }");
  check("expected '('", "{'descr': '<f4', 'fortran_order': False, 'shape': 6, }");
  check("a tuple of one number ends with a comma",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6), }");
  check("has '-6,), }' at its byte", "{'descr': '<f4', 'fortran_order': False, 'shape': (-6,), }");
  check("expected an integer >= 0", "{'descr': '<f4', 'fortran_order': False, 'shape': (,), }");
  check("has '.0,), }' at its byte", "{'descr': '<f4', 'fortran_order': False, 'shape': (6.0,), }");
  check("expected ')'", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3 4), }");
  check("expected '}'", "{'descr': '<f4', 'fortran_order': False, 'shape': (6,) 'x'}");
  check("spaces until the end of the header", "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), } x");
  check("spaces until the end of the header",
        std::string_view("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }\0", 58));
}

TEST_CASE("write_npy: reading gives back every bit", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("m.npy");
  matrix<float> values(3, 2);
  const std::vector<float> awkward = {
      -0.0F,   1e-45F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(),
      3.4e38F, 1};
  std::copy(awkward.begin(), awkward.end(), values.data());
  io::write_npy(path, values.view());
  const matrix<float> read = io::read_npy(path);
  REQUIRE(read.rows() == 3);
  REQUIRE(read.cols() == 2);
  for (std::size_t i = 0; i < awkward.size(); ++i) {
    CHECK(std::bit_cast<std::uint32_t>(read.data()[i]) == std::bit_cast<std::uint32_t>(awkward[i]));
  }
  CHECK(directory.names() == std::vector<std::string>{"m.npy"});
}

TEST_CASE("write_npy: strided views are gathered", "[io][host]") {
  const temporary_directory directory;
  matrix<float> values(1000, 150); // more elements than one flush takes
  for (index_t i = 0; i < values.size(); ++i) values.data()[i] = static_cast<float>(i);
  const matrix_view<const float> view = values.view().transposed();
  io::write_npy(directory.file("t.npy"), view);
  const matrix<float> read = io::read_npy(directory.file("t.npy"));
  REQUIRE(read.rows() == 150);
  REQUIRE(read.cols() == 1000);
  bool all_equal = true;
  for (index_t i = 0; i < 150; ++i) {
    for (index_t j = 0; j < 1000; ++j) all_equal = all_equal && read(i, j) == values(j, i);
  }
  CHECK(all_equal);
}

TEST_CASE("write_npy: the data starts at a multiple of 64 bytes after numpy's own header", "[io][host]") {
  const temporary_directory directory;
  const matrix<float> values(3, 5, 0.0F);
  io::write_npy(directory.file("m.npy"), values.view());
  const byte_vector bytes = read_file(directory.file("m.npy"));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  CHECK((bytes.size() - 60) % 64 == 0);
  CHECK(text.substr(0, 10) == std::string_view("\x93NUMPY\x01\x00\x76\x00", 10));
  CHECK(text.substr(10, 59) == "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }");
  CHECK(text[127] == '\n');
}

TEST_CASE("write_npy: awkward shapes come back", "[io][host]") {
  const temporary_directory directory;
  const auto check = [&](index_t rows, index_t cols) {
    CAPTURE(rows, cols);
    io::write_npy(directory.file("m.npy"), matrix<float>(rows, cols, 7.0F).view());
    const matrix<float> read = io::read_npy(directory.file("m.npy"));
    CHECK(read.rows() == rows);
    CHECK(read.cols() == cols);
  };
  check(0, 0);
  check(0, 5);
  check(index_t{1} << 60, 0);
  check(1, 1);
  check(1, 9);
  check(9, 1);
}

TEST_CASE("write_npy: an unwritable path is named and nothing is left", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("missing") + "/m.npy";
  const matrix<float> values(1, 1, 0.0F);
  check_error(status_code::io_failure, {"cannot write '" + path + "'"},
              [&] { io::write_npy(path, values.view()); });
  CHECK(directory.names().empty());
}

TEST_CASE("read_npy: a missing file is named", "[io][host]") {
  check_error(status_code::io_failure, {"cannot read '/nowhere/m.npy'"},
              [] { (void)io::read_npy("/nowhere/m.npy"); });
}
