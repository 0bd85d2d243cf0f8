// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/state.hpp>

#include <io/support.hpp>
#include <support/catch.hpp>
#include <support/oracles.hpp>
#include <train/states.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

constexpr status_code malformed = status_code::malformed_file;

/// A saved state, and a target whose numbers all differ from it.
class refusing_state {
public:
  refusing_state() {
    some_state saved(1);
    save_state(path(), [&](auto& archive) { saved.visit_state(archive, ""); });
  }

  [[nodiscard]] std::string path() const { return folder_.file("state"); }

  /// What loading the target says, with `visit` named after all else; checks that no number changed.
  template <class Visit>
  report refusal_of(some_state& target, Visit&& visit) const {
    const byte_vector before = target.bits();
    report found = report_of([&] {
      load_state(path(), [&](auto& archive) {
        target.visit_state(archive, "");
        visit(archive);
      });
    });
    CHECK(target.bits() == before);
    CHECK_FALSE(found.message.empty());
    return found;
  }
  report refusal_of(some_state& target) const {
    return refusal_of(target, [](auto& /*archive*/) {});
  }

private:
  temporary_directory folder_;
};

/// One tensor of a type and shape with zero bytes, in a file that says it is a training state.
void write_one(const std::string& path, std::string_view name, io::dtype type,
               const std::vector<index_t>& shape) {
  index_t size = io::dtype_bytes(type);
  for (const index_t extent : shape) size *= extent;
  const byte_vector zeros(static_cast<std::size_t>(size));
  const std::vector<io::tensor_entry> entries = {{std::string(name), type, shape, zeros}};
  io::write_safetensors(path, entries, {{"qlr.format", "training state"}, {"qlr.version", "1"}});
}

} // namespace

TEST_CASE("load_state: numbers that the file lacks are refused", "[train]") {
  const refusing_state file;
  some_state target(2);
  index_t number = 5;
  matrix<float> values(2, 2, 5.0F);
  std::vector<double> series = {5, 5};
  std::vector<std::uint8_t> bytes = {5};
  const auto refusal_of = [&](auto&& visit) { return file.refusal_of(target, visit); };
  CHECK(refusal_of([&](auto& archive) {
          archive.number("more", number);
        }).says(malformed, "no tensor is named more"));
  CHECK(refusal_of([&](auto& archive) {
          archive.values("more", values);
        }).says(malformed, "training state '" + file.path() + "': no tensor is named more"));
  CHECK(refusal_of([&](auto& archive) {
          archive.series("more", series);
        }).says(malformed, "no tensor is named more"));
  CHECK(refusal_of([&](auto& archive) {
          archive.bytes("more", bytes);
        }).says(malformed, "no tensor is named more"));
  CHECK(number == 5);
  CHECK(values(1, 1) == 5);
  CHECK(series == std::vector<double>{5, 5});
  CHECK(bytes[0] == 5);
}

TEST_CASE("load_state: numbers of another type are refused", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  const auto refusal_of = [&](auto&& visit) { return report_of([&] { load_state(path, visit); }); };
  matrix<float> floats(2, 2, 5.0F);
  matrix<double> doubles(2, 2, 5.0);
  matrix<bfloat16> halves(2, 2, bfloat16{5});
  matrix<std::int8_t> integers(2, 2, 5);
  for (const io::dtype stored : {io::dtype::f32, io::dtype::f64, io::dtype::bf16, io::dtype::f16,
                                 io::dtype::i8, io::dtype::u8, io::dtype::i32}) {
    CAPTURE(io::dtype_name(stored));
    write_one(path, "x", stored, {2, 2});
    const std::string sentence = "tensor x is " + std::string(io::dtype_name(stored)) + ", the state has";
    const auto check = [&](io::dtype own, auto& values) {
      if (own == stored) return;
      CHECK(refusal_of([&](auto& archive) { archive.values("x", values); }).says(malformed, sentence));
      CHECK(std::ranges::count(std::span(values.data(), 4), values(0, 0)) == 4);
    };
    check(io::dtype::f32, floats);
    check(io::dtype::f64, doubles);
    check(io::dtype::bf16, halves);
    check(io::dtype::i8, integers);
  }
  CHECK(floats(0, 0) == 5);
  CHECK(doubles(0, 0) == 5);
  CHECK(halves(0, 0).bits == 5);
  CHECK(integers(0, 0) == 5);
}

TEST_CASE("load_state: series, bytes and numbers of another type are refused", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  const auto refusal_of = [&](auto&& visit) { return report_of([&] { load_state(path, visit); }); };
  std::vector<double> series = {5};
  std::vector<index_t> integers = {5};
  std::vector<std::uint8_t> bytes = {5};
  index_t number = 5;
  write_one(path, "x", io::dtype::f32, {1});
  CHECK(refusal_of([&](auto& archive) { archive.series("x", series); }).says(malformed, "tensor x is F32"));
  CHECK(refusal_of([&](auto& archive) { archive.series("x", integers); }).says(malformed, "tensor x is F32"));
  CHECK(refusal_of([&](auto& archive) { archive.bytes("x", bytes); }).says(malformed, "tensor x is F32"));
  CHECK(refusal_of([&](auto& archive) { archive.number("x", number); }).says(malformed, "tensor x is F32"));
  CHECK(series[0] == 5);
  CHECK(integers[0] == 5);
  CHECK(bytes[0] == 5);
  CHECK(number == 5);
}

TEST_CASE("load_state: matrices of another shape are refused", "[train]") {
  const refusing_state file;
  constexpr std::string_view sentence = "has another shape than what is trained";
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{4, 3}, {2, 6}, {3, 3}, {0, 0}}) {
    some_state target(2);
    target.floats = matrix<float>(rows, cols, 1.0F);
    CHECK(file.refusal_of(target).says(malformed, "tensor floats " + std::string(sentence)));
  }
  some_state fewer(2);
  fewer.codes.resize(8);
  CHECK(file.refusal_of(fewer).says(malformed, "tensor codes " + std::string(sentence)));
  some_state other_empty(2);
  other_empty.empty = matrix<float>(0, 5);
  CHECK(file.refusal_of(other_empty).says(malformed, "tensor empty " + std::string(sentence)));
}

TEST_CASE("load_state: series and numbers of another shape are refused", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  const auto refusal_of = [&](auto&& visit) { return report_of([&] { load_state(path, visit); }); };
  std::vector<double> series = {5};
  index_t number = 5;
  matrix<double> values(1, 4, 5.0);
  for (const auto& shape : {std::vector<index_t>{}, {2, 2}, {1, 1, 4}}) {
    write_one(path, "x", io::dtype::f64, shape);
    const std::string sentence = qlr::sentence("tensor x has ", shape.size(), " dimensions, a series has 1");
    CHECK(refusal_of([&](auto& archive) { archive.series("x", series); }).says(malformed, sentence));
    CHECK(refusal_of([&](auto& archive) { archive.values("x", values); }).says(malformed, "another shape"));
  }
  for (const auto& shape : {std::vector<index_t>{}, {0}, {2}, {1, 1}}) {
    write_one(path, "x", io::dtype::i64, shape);
    CHECK(refusal_of([&](auto& archive) { archive.number("x", number); }).says(malformed, "another shape"));
  }
  CHECK(series == std::vector<double>{5});
  CHECK(number == 5);
  CHECK(values(0, 3) == 5);
}

TEST_CASE("load_state: what the file holds beyond the state is refused", "[train]") {
  const refusing_state file;
  some_state target(2);
  const byte_vector before = target.bits();
  const report found = report_of([&] {
    load_state(file.path(), [&](auto& archive) {
      archive.values("floats", target.floats);
      archive.values("doubles", target.doubles);
      archive.values("halves", target.halves);
      archive.values("integers", target.integers);
      archive.values("empty", target.empty);
      archive.bytes("codes", target.codes);
      archive.series("losses", target.losses);
      archive.series("seen", target.seen);
    });
  });
  CHECK(found.says(malformed, "tensor step belongs to no part of what is trained"));
  CHECK(target.bits() == before);
}

TEST_CASE("load_state: a file that is no training state, or of another version, is refused", "[train]") {
  const temporary_directory folder;
  const std::string path = folder.file("state");
  some_state target(2);
  const byte_vector before = target.bits();
  const auto refusal_with = [&](const std::map<std::string, std::string>& metadata) {
    const byte_vector bytes(8);
    const std::vector<io::tensor_entry> entries = {{"step", io::dtype::i64, {1}, bytes}};
    io::write_safetensors(path, entries, metadata);
    bool is_asked = false;
    const auto check = [&](const std::map<std::string, std::string>&) { is_asked = true; };
    report found = report_of([&] {
      load_state(
          path, [&](auto& archive) { archive.number("step", target.step); }, check);
    });
    CHECK_FALSE(is_asked);
    return found;
  };
  constexpr std::string_view no_state = "it is none, its metadata lacks qlr.format = training state";
  CHECK(refusal_with({}).says(malformed, no_state));
  CHECK(refusal_with({{"qlr.version", "1"}}).says(malformed, no_state));
  CHECK(refusal_with({{"qlr.format", "decomposition"}, {"qlr.version", "1"}}).says(malformed, no_state));
  CHECK(refusal_with({{"qlr.format", "training state"}})
            .says(malformed, "its version is missing, this program reads 1"));
  CHECK(refusal_with({{"qlr.format", "training state"}, {"qlr.version", "2"}})
            .says(malformed, "its version is 2, this program reads 1"));
  CHECK(target.bits() == before);
}

TEST_CASE("load_state: a file that is cut anywhere is refused", "[train]") {
  const refusing_state file;
  const byte_vector whole = read_file(file.path());
  some_state target(2);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    write_file(file.path(), byte_vector(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)));
    const report found = file.refusal_of(target);
    REQUIRE(static_cast<int>(found.code) == static_cast<int>(malformed));
  }
  write_file(file.path(), whole + byte_vector(1));
  CHECK(file.refusal_of(target).code == malformed);
}

TEST_CASE("load_state: a file that is not there is named", "[train]") {
  const temporary_directory folder;
  some_state target(2);
  const byte_vector before = target.bits();
  const report found = report_of(
      [&] { load_state(folder.file("absent"), [&](auto& archive) { target.visit_state(archive, ""); }); });
  CHECK(found.says(status_code::io_failure, "absent"));
  CHECK(target.bits() == before);
}
