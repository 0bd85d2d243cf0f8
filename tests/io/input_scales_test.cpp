// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "../support/oracles.hpp"
#include "decompositions.hpp"

#include <qlr/decompose/reconstruct.hpp>
#include <qlr/io/serialize.hpp>

#include <functional>
#include <limits>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// With scales of all sizes that are allowed.
decomposition make_smoothed(const made_of& what = {}) {
  decomposition parts = make_decomposition(what);
  random_source random(1);
  for (index_t j = 0; j < parts.cols(); ++j)
    parts.input_scales.push_back(static_cast<float>(std::exp(3 * random.normal())));
  parts.input_scales.front() = std::numeric_limits<float>::min();
  parts.input_scales.back() = 0x1p125F;
  return parts;
}

bool is_equal(const matrix<float>& a, const matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::equal(a.data(), a.data() + a.size(), b.data(), is_same);
}

void check_refused(const std::function<void(file_parts&)>& changes, const std::vector<std::string>& parts) {
  const temporary_directory folder;
  const std::string path = folder.file("a.safetensors");
  io::save(path, make_smoothed());
  file_parts file(path);
  changes(file);
  file.write(path);
  CAPTURE(parts);
  check_error(status_code::malformed_file, parts, [&] { (void)io::load(path); });
  check_error(status_code::malformed_file, parts, [&] { (void)io::decomposition_file(path); });
}

} // namespace

TEST_CASE("input scales: load returns the same bits", "[io][property]") {
  for (const factor_storage storage : {factor_storage::fp32, factor_storage::fp16, factor_storage::int8}) {
    for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {1, 7}, {7, 1}, {5, 70}}) {
      CAPTURE(to_string(storage), rows, cols);
      const temporary_directory folder;
      const decomposition parts =
          make_smoothed({.rows = rows, .cols = cols, .rank = 1, .factors = storage, .scale = 1.0F});
      io::save(folder.file("a"), parts);
      const decomposition found = io::load(folder.file("a"));
      REQUIRE(found.input_scales.size() == parts.input_scales.size());
      CHECK(std::equal(parts.input_scales.begin(), parts.input_scales.end(), found.input_scales.begin(),
                       is_same));
      CHECK(io::decomposition_file(folder.file("a")).input_scales() == parts.input_scales);
      CHECK(has_same_bytes(found.quantized, parts.quantized));
      CHECK(is_equal(found.left, parts.left));
      CHECK(is_equal(found.right, parts.right));
      CHECK(is_equal(reconstruct(found), reconstruct(parts)));
      CHECK(found.storage_bytes() ==
            make_decomposition({.rows = rows, .cols = cols, .rank = 1, .factors = storage}).storage_bytes() +
                4 * cols);
      io::save(folder.file("b"), found);
      CHECK(read_file(folder.file("a")) == read_file(folder.file("b")));
    }
  }
}

TEST_CASE("input scales: a file without them means ones", "[io]") {
  const temporary_directory folder;
  io::save(folder.file("a"), make_decomposition({}));
  CHECK(file_parts(folder.file("a")).tensors.count("input_scales") == 0);
  CHECK(io::load(folder.file("a")).input_scales.empty());
  io::save(folder.file("b"), make_smoothed());
  file_parts file(folder.file("b"));
  file.tensors.erase("input_scales");
  file.write(folder.file("b"));
  CHECK(io::load(folder.file("b")).input_scales.empty());
}

TEST_CASE("input scales: a file with impossible ones is refused", "[io]") {
  for (const float bad : {not_a_number, infinity, -infinity, 0.0F, -0.0F, -1.0F, 1e-45F, 1e-39F}) {
    CAPTURE(bad);
    for (const std::size_t place : {0U, 33U, 69U}) {
      check_refused([&](file_parts& file) { file.put<float>("input_scales", place, bad); },
                    {"input_scales holds", "each must be finite and positive"});
    }
  }
  for (const index_t count : {index_t{0}, index_t{1}, index_t{69}, index_t{71}}) {
    CAPTURE(count);
    check_refused([&](file_parts& file) { file.resize("input_scales", count); },
                  {"tensor input_scales has", "the metadata needs 280"});
  }
  check_refused(
      [](file_parts& file) {
        file.tensors.at("input_scales").type = io::dtype::f16;
        file.tensors.at("input_scales").shape = {140}; // as many bytes
      },
      {"input_scales", "the metadata needs F32"});
}

TEST_CASE("input scales: save refuses what load would refuse", "[io]") {
  const temporary_directory folder;
  const std::string path = folder.file("a.safetensors");
  for (const float bad : {not_a_number, infinity, 0.0F, -2.0F, 1e-40F}) {
    decomposition parts = make_smoothed();
    parts.input_scales[5] = bad;
    check_error(status_code::invalid_argument, {"input_scales holds"}, [&] { io::save(path, parts); });
  }
  decomposition parts = make_smoothed();
  parts.input_scales.pop_back();
  check_error(status_code::shape_mismatch, {"input_scales has 69 entries"}, [&] { io::save(path, parts); });
  CHECK(folder.names().empty());
}
