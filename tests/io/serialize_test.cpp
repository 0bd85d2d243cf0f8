// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "../support/oracles.hpp"
#include "decompositions.hpp"

#include <qlr/decompose/reconstruct.hpp>
#include <qlr/io/serialize.hpp>

#include <clocale>
#include <limits>
#include <type_traits>

using namespace qlr;
using namespace qlr::test;

namespace {

bool has_same_bits(const matrix<float>& a, const matrix<float>& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  return a.size() == 0 || std::memcmp(a.data(), b.data(), static_cast<std::size_t>(4 * a.size())) == 0;
}

void check_same(const decomposition& expected, const decomposition& found) {
  const quantized_layout& a = expected.quantized.layout();
  const quantized_layout& b = found.quantized.layout();
  CHECK(b.rows == a.rows);
  CHECK(b.cols == a.cols);
  CHECK(b.group_size == a.group_size);
  CHECK(b.bits == a.bits);
  CHECK((b.order == a.order));
  CHECK((b.zeros == a.zeros));
  CHECK(to_string(b.scales) == to_string(a.scales));
  CHECK(found.quantized.format_name() == expected.quantized.format_name());
  CHECK(has_same_bytes(found.quantized, expected.quantized));
  CHECK((found.factors == expected.factors));
  CHECK(is_same(found.scale, expected.scale));
  CHECK(has_same_bits(found.left, expected.left));
  CHECK(has_same_bits(found.right, expected.right));
  CHECK(found.storage_bytes() == expected.storage_bytes());
  CHECK(has_same_bits(reconstruct(found), reconstruct(expected)));
}

void check_round_trip(const made_of& what) {
  const temporary_directory folder;
  const decomposition parts = make_decomposition(what);
  io::save(folder.file("a.safetensors"), parts);
  check_same(parts, io::load(folder.file("a.safetensors")));
  CHECK(folder.names().size() == 1);
}

constexpr factor_storage all_storages[] = {factor_storage::fp32, factor_storage::fp16, factor_storage::int8,
                                           factor_storage::int4};

format_options with_scales(std::string_view text, std::optional<index_t> group_size = {}) {
  format_options options;
  options.scales = parse_scale_format(text);
  options.group_size = group_size;
  return options;
}

} // namespace

TEST_CASE("save: load returns the same bits for every format and factor storage", "[io][property]") {
  for (const format_description& format : named_formats) {
    CAPTURE(format.name);
    for (const factor_storage storage : all_storages) {
      CAPTURE(to_string(storage));
      check_round_trip({.format = format.name, .factors = storage});
    }
  }
}

TEST_CASE("save: load returns the same bits for every shape and rank", "[io][property]") {
  const std::pair<index_t, index_t> shapes[] = {{1, 1}, {1, 7}, {7, 1}, {3, 31}, {5, 64}, {4, 65}, {130, 33}};
  for (const auto& [rows, cols] : shapes) {
    for (const index_t rank : {index_t{0}, index_t{1}, std::min(rows, cols), index_t{9}}) {
      for (const std::string_view format : {"nf4", "int3", "uint5", "q4_0", "sign"}) {
        for (const factor_storage storage : all_storages) {
          CAPTURE(rows, cols, rank, format, to_string(storage));
          check_round_trip({.format = format, .rows = rows, .cols = cols, .rank = rank, .factors = storage});
        }
      }
    }
  }
}

TEST_CASE("save: load returns the same bits for every storage of scales", "[io][property]") {
  for (const char* const text : {"fp32", "fp16", "bf16", "e8m0", "e4m3", "dq", "dq:2,bf16,3", "dq:3,fp16,7",
                                 "dq:5,fp32,1", "dq-bnb"}) {
    for (const index_t group_size : {group_per_tensor, group_per_row, index_t{1}, index_t{13}, index_t{70}}) {
      CAPTURE(text, group_size);
      check_round_trip({.format = "int4", .options = with_scales(text, group_size)});
      check_round_trip({.format = "uint3", .options = with_scales(text, group_size)});
    }
  }
}

TEST_CASE("save: any finite scale of the product survives", "[io][property]") {
  for (const float scale : {0.0F, -0.0F, 1.0F, -2.5F, 1.0F / 3.0F, 16777217.0F, 1e-45F, 1.17549435e-38F,
                            3.40282347e38F, -3.0e-39F}) {
    CAPTURE(scale);
    const temporary_directory folder;
    decomposition parts = make_decomposition({});
    parts.scale = scale;
    io::save(folder.file("a.safetensors"), parts);
    CHECK(is_same(io::load(folder.file("a.safetensors")).scale, scale));
  }
}

// Scales of factors are bf16, which has no coarse subnormal step at these sizes: with it the largest code
// need not be in use, and quantizing the decoded values again would find another scale.
TEST_CASE("save: quantized factors keep their bits however small they are", "[io][property]") {
  for (const factor_storage storage : {factor_storage::int8, factor_storage::int4}) {
    for (const double size : {1e-2, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6, 3e-7, 1e-8, 0.0}) {
      CAPTURE(to_string(storage), size);
      check_round_trip({.rows = 80, .cols = 200, .rank = 8, .factors = storage, .factor_size = size});
    }
  }
}

TEST_CASE("save: the same decomposition gives the same bytes", "[io]") {
  const temporary_directory folder;
  for (const factor_storage storage : all_storages) {
    io::save(folder.file("a"), make_decomposition({.format = "uint4", .factors = storage}));
    io::save(folder.file("b"), make_decomposition({.format = "uint4", .factors = storage}));
    io::save(folder.file("c"), io::load(folder.file("a")));
    CHECK(read_file(folder.file("a")) == read_file(folder.file("b")));
    CHECK(read_file(folder.file("a")) == read_file(folder.file("c")));
  }
}

TEST_CASE("save: numbers in the file do not depend on the locale", "[io]") {
  const std::string before = std::setlocale(LC_NUMERIC, nullptr);
  for (const char* const locale : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de-DE", "de_DE"}) {
    if (std::setlocale(LC_NUMERIC, locale) != nullptr)
      break; // none may be installed: then this is a plain round trip
  }
  const temporary_directory folder;
  io::save(folder.file("a"), make_decomposition({.scale = 1.5F}));
  const float scale = io::load(folder.file("a")).scale;
  std::setlocale(LC_NUMERIC, before.c_str());
  CHECK(file_parts(folder.file("a")).metadata.at("qlr.scale") == "1.5");
  CHECK(is_same(scale, 1.5F));
  CHECK(is_same(io::load(folder.file("a")).scale, 1.5F));
}

TEST_CASE("save: the file has the documented tensors and metadata", "[io]") {
  const temporary_directory folder;
  io::save(folder.file("a"),
           make_decomposition(
               {.format = "uint4", .options = with_scales("dq:3,bf16,5"), .factors = factor_storage::fp16}));
  const file_parts file(folder.file("a"));
  const std::map<std::string, std::string> expected{{"qlr.format", "decomposition"},
                                                    {"qlr.version", "1"},
                                                    {"qlr.scale", "0.300000012"},
                                                    {"qlr.factors", "fp16"},
                                                    {"Q.format", "uint4"},
                                                    {"Q.rows", "6"},
                                                    {"Q.cols", "70"},
                                                    {"Q.group_size", "64"},
                                                    {"Q.bits", "4"},
                                                    {"Q.order", "lsb_first"},
                                                    {"Q.zeros", "integer"},
                                                    {"Q.scales", "dq:3,bf16,5"}};
  for (const auto& [key, value] : expected) {
    CAPTURE(key);
    REQUIRE(file.metadata.count(key) == 1);
    CHECK(file.metadata.at(key) == value);
  }
  CHECK(file.metadata.size() == expected.size() + 1); // Q.scale_base
  const auto check_tensor = [&](const char* name, io::dtype type, const std::vector<index_t>& shape) {
    CAPTURE(name);
    REQUIRE(file.tensors.count(name) == 1);
    CHECK((file.tensors.at(name).type == type));
    CHECK(file.tensors.at(name).shape == shape);
  };
  check_tensor("Q.codes", io::dtype::u8, {6, 35});
  check_tensor("Q.levels", io::dtype::f32, {16});
  check_tensor("Q.scales", io::dtype::u8, {5}); // 12 scales of 3 bits
  check_tensor("Q.supers", io::dtype::bf16, {3});
  check_tensor("Q.zeros", io::dtype::u8, {6});
  check_tensor("L", io::dtype::f16, {6, 3});
  check_tensor("R", io::dtype::f16, {3, 70});
  CHECK(file.tensors.size() == 7);
}

TEST_CASE("decomposition_file: codes, scales and zero points stay where they are in the file", "[io]") {
  static_assert(!std::is_copy_constructible_v<io::decomposition_file>);
  const temporary_directory folder;
  const decomposition parts = make_decomposition({.format = "uint4", .options = with_scales("dq:4,fp16,8")});
  io::save(folder.file("a"), parts);
  const byte_vector bytes = read_file(folder.file("a"));
  io::decomposition_file first{io::safetensors_file(bytes)};
  const io::decomposition_file file(std::move(first)); // views survive a move
  const auto is_inside = [&](const std::uint8_t* pointer, index_t count) {
    const auto* const begin = reinterpret_cast<const std::uint8_t*>(bytes.data());
    return pointer >= begin && pointer + count <= begin + bytes.size();
  };
  const quantized_matrix_view& q = file.quantized();
  CHECK(is_inside(q.codes, q.layout.code_bytes()));
  CHECK(is_inside(q.zeros, q.layout.zero_bytes()));
  CHECK(is_inside(q.scales.codes, scale_code_bytes(q.layout.scales, q.layout.num_scales())));
  CHECK(is_inside(q.scales.supers, scale_super_bytes(q.layout.scales, q.layout.num_scales())));
  matrix<float> dense(q.rows(), q.cols());
  dequantize(q, dense.view());
  CHECK(has_same_bits(dense, dequantize(parts.quantized)));
  CHECK(has_same_bits(file.left(), parts.left));
  CHECK(has_same_bits(file.right(), parts.right));
  CHECK(is_same(file.scale(), parts.scale));
  CHECK((file.factors() == factor_storage::fp16));
}

TEST_CASE("decomposition: it outlives the file it was read from", "[io]") {
  const decomposition parts = make_decomposition({.format = "iq4_nl", .factors = factor_storage::int8});
  decomposition found;
  {
    const temporary_directory folder;
    io::save(folder.file("a"), parts);
    found = io::load(folder.file("a"));
  }
  check_same(parts, found);
}
