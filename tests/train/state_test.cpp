// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/state.hpp>

#include <io/support.hpp>
#include <support/catch.hpp>
#include <support/oracles.hpp>
#include <train/states.hpp>

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

using metadata_map = std::map<std::string, std::string>;

void save(const std::string& path, some_state& state, const metadata_map& metadata = {}) {
  save_state(
      path, [&](auto& archive) { state.visit_state(archive, "s."); }, metadata);
}
void load(const std::string& path, some_state& state) {
  load_state(path, [&](auto& archive) { state.visit_state(archive, "s."); });
}

} // namespace

TEST_CASE("save_state: what is loaded has the same bits in every type", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state.safetensors");
  some_state saved(1);
  const byte_vector before = saved.bits();
  save(path, saved);
  CHECK(saved.bits() == before);
  some_state loaded(2);
  REQUIRE(loaded.bits() != before);
  load(path, loaded);
  CHECK(loaded.bits() == before);
}

TEST_CASE("save_state: NaN, infinities, zeros with a sign and denormal numbers come back", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  some_state saved(1);
  saved.floats(0, 0) = std::bit_cast<float>(0x7F812345U); // a signalling NaN with a payload
  saved.floats(0, 1) = -0.0F;
  saved.floats(0, 2) = -std::numeric_limits<float>::denorm_min();
  saved.doubles(0, 0) = -std::numeric_limits<double>::infinity();
  saved.halves(0, 0) = bfloat16{0xFFFF};
  saved.step = std::numeric_limits<index_t>::min();
  save(path, saved);
  some_state loaded(2);
  load(path, loaded);
  CHECK(loaded.bits() == saved.bits());
}

TEST_CASE("save_state: a series comes back with its own length", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  for (const std::size_t length : {0U, 1U, 1000U}) {
    CAPTURE(length);
    some_state saved(1);
    saved.losses.assign(length, 0.5);
    save(path, saved);
    some_state loaded(2);
    loaded.losses.assign(7, 3.0);
    load(path, loaded);
    CHECK(loaded.losses == saved.losses);
  }
}

TEST_CASE("save_state: the file is a safetensors file that names and types every number", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  some_state saved(1);
  save(path, saved, {{"method", "lrq"}});
  const io::safetensors_file file(path);
  const std::map<std::string, std::pair<io::dtype, std::vector<index_t>>> expected = {
      {"s.floats", {io::dtype::f32, {3, 4}}},  {"s.doubles", {io::dtype::f64, {2, 2}}},
      {"s.halves", {io::dtype::bf16, {1, 5}}}, {"s.integers", {io::dtype::i8, {2, 3}}},
      {"s.empty", {io::dtype::f32, {0, 4}}},   {"s.codes", {io::dtype::u8, {9}}},
      {"s.losses", {io::dtype::f64, {6}}},     {"s.seen", {io::dtype::i64, {2}}},
      {"s.step", {io::dtype::i64, {1}}}};
  CHECK(file.tensors().size() == expected.size());
  for (const auto& [name, kind] : expected) {
    CAPTURE(name);
    REQUIRE(file.contains(name));
    CHECK(file.find(name).type == kind.first);
    CHECK(file.find(name).shape == kind.second);
  }
  const metadata_map metadata = {{"method", "lrq"}, {"qlr.format", "training state"}, {"qlr.version", "1"}};
  CHECK(file.metadata() == metadata);
}

TEST_CASE("save_state: the same numbers give the same bytes", "[train]") {
  const temporary_directory folder;
  some_state first(1);
  some_state second(1);
  save(folder.file("a"), first);
  save(folder.file("b"), second);
  CHECK(read_file(folder.file("a")) == read_file(folder.file("b")));
}

TEST_CASE("save_state: an archive says whether it saves or loads, and neither while it checks", "[train]") {
  const temporary_directory folder;
  index_t number = 3;
  std::string answers;
  const auto visit = [&](auto& archive) {
    answers += archive.is_saving() ? "saving " : "";
    answers += archive.is_loading() ? "loading " : "";
    answers += archive.is_saving() || archive.is_loading() ? "" : "checking ";
    archive.number("number", number);
  };
  save_state(folder.file("state"), visit);
  CHECK(answers == "saving ");
  answers.clear();
  load_state(folder.file("state"), visit);
  CHECK(answers == "checking loading ");
}

TEST_CASE("save_state: the file is replaced as a whole", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  some_state first(1);
  some_state second(2);
  second.losses.assign(5000, 1.0); // a longer file, then a shorter one
  save(path, first);
  save(path, second);
  save(path, first);
  some_state loaded(3);
  load(path, loaded);
  CHECK(loaded.bits() == first.bits());
  CHECK(folder.names() == std::vector<std::string>{"state"});
}

TEST_CASE("save_state: where it fails, an older file stays and no other appears", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  some_state state(1);
  save(path, state);
  const byte_vector before = read_file(path);
  const auto name_twice = [&](auto& archive) {
    state.visit_state(archive, "s.");
    archive.number("s.step", state.step);
  };
  CHECK(report_of([&] { save_state(path, name_twice); }).says(status_code::invalid_argument, "s.step"));
  const report not_text = report_of([&] { save(path, state, {{"note", "\xFF"}}); });
  CHECK(not_text.says(status_code::invalid_argument, "UTF-8"));
  CHECK(read_file(path) == before);
  CHECK(folder.names() == std::vector<std::string>{"state"});

  const std::string nowhere = folder.file("missing/state");
  CHECK(report_of([&] { save(nowhere, state); }).says(status_code::io_failure, "missing/state"));
  CHECK(folder.names() == std::vector<std::string>{"state"});
}

TEST_CASE("load_state: the check sees the metadata, and its refusal changes nothing", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  some_state saved(1);
  save(path, saved, {{"rank", "4"}, {"seed", "17"}});
  some_state target(2);
  const byte_vector before = target.bits();
  const auto visit = [&](auto& archive) { target.visit_state(archive, "s."); };
  const auto refuse = [](const metadata_map& metadata) {
    fail(status_code::invalid_argument, "rank is ", metadata.at("rank"), ", the run has 8");
  };
  CHECK(report_of([&] {
          load_state(path, visit, refuse);
        }).says(status_code::invalid_argument, "rank is 4, the run has 8"));
  CHECK(target.bits() == before);
  // The options explain more than the tensors that differ because of them: they are compared first.
  target.floats = matrix<float>(8, 8, 0.0F);
  CHECK(report_of([&] {
          load_state(path, visit, refuse);
        }).says(status_code::invalid_argument, "rank is 4, the run has 8"));
  target.floats = matrix<float>(3, 4, 0.0F);
  metadata_map seen;
  load_state(path, visit, [&](const metadata_map& metadata) { seen = metadata; });
  CHECK(seen.at("seed") == "17");
  CHECK(target.bits() == saved.bits());
}
