// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "../support/oracles.hpp"
#include "checkpoints.hpp"

#include <qlr/decompose/reconstruct.hpp>
#include <qlr/io/checkpoint.hpp>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <type_traits>
#include <utility>

using namespace qlr;
using namespace qlr::test;

namespace {

const std::string first_shard = "model-00001-of-00002.safetensors";
const std::string second_shard = "model-00002-of-00002.safetensors";
const std::string index_name = "model.safetensors.index.json";

bool has_same_bits(const matrix<float>& a, const matrix<float>& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  return a.size() == 0 || std::memcmp(a.data(), b.data(), static_cast<std::size_t>(4 * a.size())) == 0;
}

bool is_same_decomposition(const decomposition& a, const decomposition& b) {
  return has_same_bytes(a.quantized, b.quantized) && has_same_bits(a.left, b.left) &&
         has_same_bits(a.right, b.right) && a.factors == b.factors && is_same(a.scale, b.scale) &&
         a.input_scales == b.input_scales && a.storage_bytes() == b.storage_bytes() &&
         has_same_bits(reconstruct(a), reconstruct(b));
}

decomposition smoothed(const made_of& what) {
  decomposition parts = make_decomposition(what);
  for (index_t j = 0; j < parts.cols(); ++j) parts.input_scales.push_back(0.5F + static_cast<float>(j % 7));
  return parts;
}

/// Four weights in two files, one of the files with dense tensors too.
struct sharded_checkpoint {
  temporary_directory folder;
  std::map<std::string, decomposition> weights;
  matrix<float> norm = normal_matrix(1, 9, 3);
  matrix<float> embedding = normal_matrix(5, 9, 4);

  sharded_checkpoint() {
    weights["a.b.weight"] = make_decomposition({});
    weights["a.weight"] = make_decomposition({.format = "uint4", .rows = 1, .cols = 1, .rank = 0});
    weights["a"] = make_decomposition({.format = "int3", .rows = 5, .factors = factor_storage::int8});
    weights["x.weight"] = smoothed({.format = "iq4_nl", .factors = factor_storage::int4});
    file_parts first = empty_file(folder);
    file_parts second = empty_file(folder);
    mark_as_checkpoint(first);
    mark_as_checkpoint(second);
    first.metadata["format"] = "pt";
    add_prefixed(first, folder, "a.b.weight.", weights["a.b.weight"]);
    add_f32(first, "norm.weight", norm);
    add_f32(second, "embed.weight", embedding);
    for (const char* const name : {"a.weight", "a", "x.weight"})
      add_prefixed(second, folder, name + std::string("."), weights[name]);
    std::map<std::string, std::string> index;
    for (const auto& entry : first.tensors) index[entry.first] = first_shard;
    for (const auto& entry : second.tensors) index[entry.first] = second_shard;
    first.write(folder.file(first_shard));
    second.write(folder.file(second_shard));
    write_file(folder.file(index_name), to_bytes(index_text(index)));
  }

  [[nodiscard]] std::string path() const {
    return std::filesystem::path(folder.file("x")).parent_path().string();
  }
};

#if defined(__linux__)
/// Bytes of this process that are in memory.
index_t resident_bytes() {
  std::ifstream statistics("/proc/self/statm");
  index_t total = 0;
  index_t resident = 0;
  statistics >> total >> resident;
  return resident * 4096;
}
#endif

} // namespace

TEST_CASE("tensors_of: names and keys are those of save with a prefix before them", "[io][property]") {
  for (const factor_storage storage : {factor_storage::fp32, factor_storage::fp16, factor_storage::int8}) {
    for (const std::string prefix : {"", "lm_head.weight.", "\xc3\xa9."}) {
      CAPTURE(prefix, to_string(storage));
      const temporary_directory folder;
      const decomposition parts = smoothed({.format = "uint4", .factors = storage});
      file_parts expected = empty_file(folder);
      add_prefixed(expected, folder, prefix, parts);
      io::decomposition_tensors found;
      {
        const decomposition copy = parts; // nothing may refer to it afterwards
        found = io::tensors_of(copy, prefix);
      }
      CHECK(found.metadata == expected.metadata);
      REQUIRE(found.tensors.size() == expected.tensors.size());
      for (const io::owned_tensor& tensor : found.tensors) {
        CAPTURE(tensor.name);
        REQUIRE(expected.tensors.count(tensor.name) == 1);
        CHECK((tensor.type == expected.tensors.at(tensor.name).type));
        CHECK(tensor.shape == expected.tensors.at(tensor.name).shape);
        CHECK(tensor.bytes == expected.tensors.at(tensor.name).bytes);
      }
    }
  }
}

TEST_CASE("tensors_of: errors name the weight", "[io]") {
  decomposition parts = make_decomposition({});
  parts.left(1, 2) = std::numeric_limits<float>::quiet_NaN();
  check_error(status_code::non_finite, {"x.weight.L(1, 2)"},
              [&] { (void)io::tensors_of(parts, "x.weight."); });
}

TEST_CASE("checkpoint_folder: shards are read through their index", "[io]") {
  const sharded_checkpoint made;
  for (const std::string& path : {made.path(), made.folder.file(index_name)}) {
    CAPTURE(path);
    io::checkpoint_folder opened(path);
    const io::checkpoint_folder checkpoint(std::move(opened)); // names and views survive a move
    CHECK(checkpoint.has_index());
    REQUIRE(checkpoint.num_shards() == 2);
    CHECK(checkpoint.shard_name(0) == first_shard);
    CHECK(checkpoint.shard_name(1) == second_shard);
    CHECK(checkpoint.folder() == made.path());
    CHECK(checkpoint.shard(0).metadata().at("format") == "pt");

    std::size_t at = 0;
    for (std::size_t i = 0; i < 2; ++i) {
      for (const io::tensor_info& info : checkpoint.shard(i).tensors()) {
        REQUIRE(at < checkpoint.tensors().size());
        const io::checkpoint_tensor& tensor = checkpoint.tensors()[at++];
        CHECK(tensor.name == info.name);
        CHECK(tensor.info == &info);
        CHECK(tensor.shard_index == i);
        CHECK(&checkpoint.find(info.name) == &tensor);
        CHECK(checkpoint.bytes(info.name).data() == checkpoint.shard(i).bytes(info.name).data());
      }
    }
    CHECK(at == checkpoint.tensors().size());
    CHECK(has_same_bits(checkpoint.read_matrix("norm.weight"), made.norm));
    CHECK(has_same_bits(checkpoint.read_matrix("embed.weight"), made.embedding));
    CHECK_FALSE(checkpoint.contains("a.weight"));
    CHECK_FALSE(checkpoint.contains("zzz"));
    check_error(status_code::invalid_argument, {"no tensor is named 'zzz'"},
                [&] { (void)checkpoint.read_matrix("zzz"); });
    check_error(status_code::invalid_argument, {"'a.weight'", "is compressed"},
                [&] { (void)checkpoint.find("a.weight"); });
  }
}

TEST_CASE("checkpoint_folder: compressed weights are read by name", "[io]") {
  const sharded_checkpoint made;
  const io::checkpoint_folder checkpoint(made.path());
  REQUIRE(checkpoint.compressed().size() == made.weights.size());
  CHECK(std::ranges::is_sorted(checkpoint.compressed(), {}, &io::compressed_weight::name));
  for (const auto& entry : made.weights) {
    const std::string& name = entry.first;
    const decomposition& expected = entry.second;
    CAPTURE(name);
    CHECK(checkpoint.is_compressed(name));
    CHECK(is_same_decomposition(checkpoint.read_decomposition(name), expected));
    const io::compressed_weight& weight = checkpoint.find_compressed(name);
    CHECK(weight.name == name);
    CHECK(weight.shard_index == (name == "a.b.weight" ? 0U : 1U));

    const io::decomposition_description about = checkpoint.describe(name);
    CHECK(about.format_name == expected.quantized.format_name());
    CHECK(about.quantized.rows == expected.rows());
    CHECK(about.quantized.cols == expected.cols());
    CHECK(about.rank == expected.rank());
    CHECK((about.factors == expected.factors));
    CHECK(is_same(about.scale, expected.scale));
    CHECK(about.has_input_scales == !expected.input_scales.empty());
    CHECK(about.storage_bytes() == expected.storage_bytes());
  }
  CHECK_FALSE(checkpoint.is_compressed("norm.weight"));
  CHECK_FALSE(checkpoint.is_compressed("a.b"));
  check_error(status_code::invalid_argument, {"no compressed weight is named 'norm.weight'", "it has 4"},
              [&] { (void)checkpoint.read_decomposition("norm.weight"); });
}

TEST_CASE("checkpoint_folder: every part of a compressed weight has an owner", "[io]") {
  const sharded_checkpoint made;
  const io::checkpoint_folder checkpoint(made.path());
  std::map<std::string, std::size_t> num_parts;
  for (const io::checkpoint_tensor& tensor : checkpoint.tensors()) {
    const io::compressed_weight* const owner = checkpoint.find_owner(tensor.name);
    CAPTURE(std::string(tensor.name));
    const bool is_dense = tensor.name == "norm.weight" || tensor.name == "embed.weight";
    REQUIRE((owner == nullptr) == is_dense);
    if (owner != nullptr) ++num_parts[owner->name];
  }
  for (const auto& [name, parts] : made.weights)
    CHECK(num_parts[name] == io::tensors_of(parts).tensors.size());
}

TEST_CASE("mapped_decomposition: codes stay in the file of a checkpoint", "[io]") {
  const sharded_checkpoint made;
  const io::checkpoint_folder checkpoint(made.path());
  for (const auto& [name, expected] : made.weights) {
    CAPTURE(name);
    io::mapped_decomposition opened = checkpoint.map_decomposition(name);
    const io::mapped_decomposition mapped(std::move(opened)); // the level table survives a move
    const auto* const codes = reinterpret_cast<const std::byte*>(mapped.quantized().codes);
    CHECK(codes == checkpoint.bytes(name + ".Q.codes").data());
    matrix<float> dense(mapped.quantized().rows(), mapped.quantized().cols());
    dequantize(mapped.quantized(), dense.view());
    CHECK(has_same_bits(dense, dequantize(expected.quantized)));
    checkpoint.release(name);
    CHECK(is_same_decomposition(mapped.to_memory(), expected));
  }
}

TEST_CASE("checkpoint_folder: one file is a checkpoint too", "[io]") {
  const temporary_directory folder;
  const decomposition parts = make_decomposition({});
  file_parts file = empty_file(folder);
  mark_as_checkpoint(file);
  add_prefixed(file, folder, "w.", parts);
  file.write(folder.file("any name"));
  std::filesystem::create_directory(folder.file("sub"));
  file.write(folder.file("sub/model.safetensors"));
  for (const char* const path : {"any name", "sub", "sub/model.safetensors"}) {
    CAPTURE(path);
    const io::checkpoint_folder checkpoint(folder.file(path));
    CHECK_FALSE(checkpoint.has_index());
    CHECK(checkpoint.num_shards() == 1);
    CHECK(is_same_decomposition(checkpoint.read_decomposition("w"), parts));
  }
}

TEST_CASE("checkpoint_folder: keys of other files name no compressed weight", "[io]") {
  const temporary_directory folder;
  file_parts file = empty_file(folder);
  add_prefixed(file, folder, "w.", make_decomposition({}));
  file.write(folder.file("unmarked"));
  CHECK(io::checkpoint_folder(folder.file("unmarked")).compressed().empty());
  file.metadata["qlr.format"] = "something else";
  file.write(folder.file("unmarked"));
  CHECK(io::checkpoint_folder(folder.file("unmarked")).compressed().empty());
  io::save(folder.file("single"), make_decomposition({}));
  CHECK(io::checkpoint_folder(folder.file("single")).compressed().empty());
  io::write_safetensors(folder.file("nothing"), {});
  CHECK(io::checkpoint_folder(folder.file("nothing")).tensors().empty());
}

TEST_CASE("write_checkpoint_index: the index that is read", "[io]") {
  const temporary_directory folder;
  std::map<std::string, std::string> shards;
  for (std::size_t i = 0; i < 3; ++i) {
    file_parts file = empty_file(folder);
    const std::string name = "layer \"" + std::to_string(i) + "\" \xc3\xa9";
    add_f32(file, name, normal_matrix(2, 3, i));
    shards[name] = io::shard_file_name(i, 3);
    file.write(folder.file(shards[name]));
  }
  io::write_checkpoint_index(folder.file(index_name), shards, 72);
  const io::checkpoint_folder checkpoint(folder.file(index_name));
  CHECK(checkpoint.num_shards() == 3);
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(checkpoint.shard_name(i) == "model-0000" + std::to_string(i + 1) + "-of-00003.safetensors");
  CHECK(checkpoint.tensors().size() == 3);
  CHECK(io::shard_file_name(0, 1) == "model.safetensors");
  CHECK(io::shard_file_name(99998, 123456) == "model-99999-of-123456.safetensors");
  const byte_vector text = read_file(folder.file(index_name));
  CHECK(std::string(reinterpret_cast<const char*>(text.data()), text.size()).find("\"total_size\": 72") !=
        std::string::npos);
  check_error(status_code::invalid_argument, {"UTF-8"}, [&] {
    io::write_checkpoint_index(folder.file("b"), {{"\xff", "x.safetensors"}}, 0);
  });
}

TEST_CASE("release: the bytes are read again when they are needed", "[io]") {
  const temporary_directory folder;
  const std::size_t count = std::size_t{6} << 20U;
  std::vector<std::uint32_t> numbers(count); // 24 MiB
  for (std::size_t i = 0; i < count; ++i) numbers[i] = static_cast<std::uint32_t>(i * 2654435761U);
  const byte_vector small = to_bytes("neighbours");
  const auto wide = std::as_bytes(std::span(numbers));
  io::write_safetensors(folder.file("a"), std::vector<io::tensor_entry>{
                                              {"a", io::dtype::u8, {10}, small},
                                              {"w", io::dtype::u32, {static_cast<index_t>(count)}, wide},
                                              {"z", io::dtype::u8, {10}, small}});
  const io::safetensors_file file(folder.file("a"));
  for (int round = 0; round < 2; ++round) {
    CHECK(std::ranges::equal(file.bytes("w"), wide));
    CHECK(std::ranges::equal(file.bytes("a"), small));
#if defined(__linux__)
    const index_t before = resident_bytes();
    file.release("w");
    CHECK(before - resident_bytes() > (index_t{20} << 20));
#endif
  }
  file.release("a"); // less than a page
  CHECK(std::ranges::equal(file.bytes("a"), small));
  CHECK(std::ranges::equal(file.bytes("z"), small));
  CHECK(std::ranges::equal(file.bytes("w"), wide));
  check_error(status_code::invalid_argument, {"'b'"}, [&] { file.release("b"); });
}

TEST_CASE("release: memory that is no file keeps its bytes", "[io]") {
  const temporary_directory folder;
  const byte_vector bytes(std::size_t{4} << 20U, std::byte{7});
  const auto count = static_cast<index_t>(bytes.size());
  io::write_safetensors(folder.file("a"),
                        std::vector<io::tensor_entry>{{"w", io::dtype::u8, {count}, bytes}});
  const byte_vector contents = read_file(folder.file("a"));
  const io::safetensors_file in_memory(contents);
  in_memory.release("w");
  CHECK(std::ranges::equal(in_memory.bytes("w"), bytes));

  const io::mapped_file mapped(folder.file("a"));
  check_error(status_code::invalid_argument, {"is not part of the file"}, [&] { mapped.release(bytes); });
  check_error(status_code::invalid_argument, {"is not part of the file"}, [&] {
    mapped.release({mapped.bytes().data(), mapped.size() + 1});
  });
  CHECK(std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{7}; }));
  mapped.release(mapped.bytes());
  mapped.release({});
  CHECK(std::ranges::equal(mapped.bytes(), contents));
}
