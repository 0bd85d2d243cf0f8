// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "checkpoints.hpp"

#include <qlr/io/checkpoint.hpp>

#include <filesystem>
#include <functional>

using namespace qlr;
using namespace qlr::test;

namespace {

const std::string index_name = "model.safetensors.index.json";

/// Two files of one tensor each, a.safetensors with "a" and b.safetensors with "b", and an index.
struct two_shards {
  temporary_directory folder;
  std::map<std::string, std::string> index{{"a", "a.safetensors"}, {"b", "b.safetensors"}};

  two_shards() {
    for (const char* const name : {"a", "b"}) {
      file_parts file = empty_file(folder);
      add_f32(file, name, normal_matrix(2, 3, 1));
      file.write(folder.file(name + std::string(".safetensors")));
    }
    write_index(index_text(index));
  }

  void write_index(const std::string& text) const { write_file(folder.file(index_name), to_bytes(text)); }
  [[nodiscard]] std::string path() const {
    return std::filesystem::path(folder.file("x")).parent_path().string();
  }
  void check_refused(const std::vector<std::string>& parts,
                     status_code code = status_code::malformed_file) const {
    check_error(code, parts, [&] { (void)io::checkpoint_folder(path()); });
  }
};

void refuse_index(const std::string& text, const std::vector<std::string>& parts) {
  CAPTURE(text);
  const two_shards made;
  made.write_index(text);
  made.check_refused(parts);
}

/// The checkpoint of one compressed weight "w", changed.
void refuse_compressed(const std::function<void(file_parts&)>& changes, const std::vector<std::string>& parts,
                       status_code code = status_code::malformed_file) {
  const temporary_directory folder;
  file_parts file = empty_file(folder);
  mark_as_checkpoint(file);
  add_prefixed(file, folder, "w.", make_decomposition({.format = "uint4"}));
  changes(file);
  file.write(folder.file("a.safetensors"));
  CAPTURE(parts);
  check_error(code, parts, [&] {
    const io::checkpoint_folder checkpoint(folder.file("a.safetensors"));
    (void)checkpoint.read_decomposition("w");
  });
}

} // namespace

TEST_CASE("checkpoint_folder: the two shards of these tests are a checkpoint", "[io]") {
  const two_shards made;
  CHECK(io::checkpoint_folder(made.path()).tensors().size() == 2);
  made.write_index("{\"z\":[1,{\"weight_map\":7}],\"metadata\":{\"weight_map\":{\"a\":1}},\"weight_map\":"
                   "{\"a\":\"a.safetensors\",\"b\":\"b.safetensors\"},\"y\":{\"q\":1}}");
  CHECK(io::checkpoint_folder(made.path()).tensors().size() == 2);
}

TEST_CASE("checkpoint_folder: an index that contradicts its shards is refused", "[io]") {
  two_shards made;
  SECTION("a tensor that its shard does not hold") {
    made.index["c"] = "b.safetensors";
    made.write_index(index_text(made.index));
    made.check_refused({"'c'", "b.safetensors", "does not hold it"});
  }
  SECTION("a tensor that is not in the index") {
    file_parts file(made.folder.file("b.safetensors"));
    add_f32(file, "extra", normal_matrix(2, 3, 1));
    file.write(made.folder.file("b.safetensors"));
    made.check_refused({"'extra' of b.safetensors is not in the index"});
  }
  SECTION("a tensor in two shards") {
    file_parts file(made.folder.file("b.safetensors"));
    add_f32(file, "a", normal_matrix(2, 3, 1));
    file.write(made.folder.file("b.safetensors"));
    made.check_refused({"'a' is in b.safetensors, the index says a.safetensors"});
  }
  SECTION("two tensors in each other's place") {
    made.write_index(index_text({{"a", "b.safetensors"}, {"b", "a.safetensors"}}));
    made.check_refused({"'a' is in a.safetensors, the index says b.safetensors"});
  }
  SECTION("a shard that is missing") {
    std::filesystem::remove(made.folder.file("b.safetensors"));
    made.check_refused({"b.safetensors"}, status_code::io_failure);
  }
  SECTION("a shard that is no safetensors file") {
    write_file(made.folder.file("b.safetensors"), to_bytes("hello"));
    made.check_refused({"b.safetensors"});
  }
  SECTION("a shard for nothing") {
    made.write_index(index_text({{"a", "a.safetensors"}, {"b", "a.safetensors"}}));
    made.check_refused({"'b'", "does not hold it"});
  }
}

TEST_CASE("checkpoint_folder: a shard elsewhere than beside the index is refused", "[io]") {
  for (const std::string name :
       {"../a.safetensors", "/tmp/a.safetensors", "sub/a.safetensors", "sub\\\\a.safetensors",
        "c:a.safetensors", "..safetensors", ".safetensors", ".a.safetensors", "a..safetensors", "a.bin", "",
        ".", "a\\u0000.safetensors", "a\\n.safetensors", "a.safetensors/"}) {
    refuse_index("{\"weight_map\":{\"a\":\"" + name + "\",\"b\":\"b.safetensors\"}}",
                 {"weight_map names the file", "allowed are names that end with .safetensors"});
  }
}

TEST_CASE("checkpoint_folder: an index that is no index is refused", "[io]") {
  refuse_index("", {"not valid JSON"});
  refuse_index("{", {"not valid JSON"});
  refuse_index("{}", {"weight_map is missing"});
  refuse_index("[]", {"it is an array"});
  refuse_index("7", {"it is a number"});
  refuse_index("\"weight_map\"", {"it is a text"});
  refuse_index("{\"weight_map\":null}", {"weight_map is null"});
  refuse_index("{\"weight_map\":true}", {"weight_map is a truth value"});
  refuse_index("{\"weight_map\":-1}", {"weight_map is a number"});
  refuse_index("{\"weight_map\":[\"a\"]}", {"weight_map is an array"});
  refuse_index("{\"weight_map\":{\"a\":7}}", {"entry 'a' is a number"});
  refuse_index("{\"weight_map\":{\"a\":1.5}}", {"entry 'a' is a number"});
  refuse_index("{\"weight_map\":{\"a\":{}}}", {"entry 'a' is an object or array"});
  refuse_index("{\"weight_map\":{\"a\":[]}}", {"entry 'a' is an object or array"});
  refuse_index("{\"weight_map\":{},\"weight_map\":{}}", {"weight_map is given twice"});
  refuse_index("{\"weight_map\":{\"a\":\"a.safetensors\",\"a\":\"b.safetensors\"}}", {"two entries 'a'"});
  refuse_index("{\"weight_map\":{\"\xff\":\"a.safetensors\"}}", {"not valid JSON"});
  refuse_index("{\"weight_map\":{\"a\":\"\xff.safetensors\"}}", {"not valid JSON"});
  refuse_index(index_text({{"a", "a.safetensors"}, {"b", "b.safetensors"}}) + "x", {"not valid JSON"});
  refuse_index(index_text({{"a", "a.safetensors"}, {"b", "b.safetensors"}}) + std::string(1, '\0') + "x",
               {"zero byte"});
  refuse_index("{\"z\":" + std::string(100000, '[') + "}", {"nested more than 16"});
}

TEST_CASE("checkpoint_folder: changed bytes of an index are accepted or refused, nothing else", "[io]") {
  const two_shards made;
  const std::string text = index_text(made.index);
  random_source random(5);
  int num_refused = 0;
  for (index_t round = 0; round < 400; ++round) {
    std::string changed = text;
    for (index_t i = 0; i <= round % 3; ++i) {
      const auto at = static_cast<std::size_t>(random.below(static_cast<index_t>(text.size())));
      constexpr std::string_view bytes = "{}[]\",:\\/.ab019-\x01\x7f\xff\xc3 ";
      changed[at] = bytes[static_cast<std::size_t>(random.below(static_cast<index_t>(bytes.size())))];
    }
    made.write_index(changed);
    try {
      (void)io::checkpoint_folder(made.path());
    } catch (const error&) {
      ++num_refused;
    }
  }
  CHECK(num_refused > 200);
}

TEST_CASE("checkpoint_folder: a folder without a checkpoint, or with two, is refused", "[io]") {
  const temporary_directory folder;
  const std::string path = std::filesystem::path(folder.file("x")).parent_path().string();
  check_error(status_code::io_failure, {"neither model.safetensors nor model.safetensors.index.json"},
              [&] { (void)io::checkpoint_folder(path); });
  check_error(status_code::io_failure, {"missing"},
              [&] { (void)io::checkpoint_folder(folder.file("missing")); });
  const two_shards made;
  file_parts(made.folder.file("a.safetensors")).write(made.folder.file("model.safetensors"));
  made.check_refused({"both model.safetensors and model.safetensors.index.json"});
  CHECK(io::checkpoint_folder(made.folder.file("model.safetensors")).tensors().size() == 1);
  CHECK(io::checkpoint_folder(made.folder.file(index_name)).tensors().size() == 2);
}

TEST_CASE("checkpoint_folder: a compressed weight that contradicts itself is refused", "[io]") {
  refuse_compressed([](file_parts& file) { file.metadata.at("qlr.version") = "2"; }, {"qlr.version is 2"},
                    status_code::unsupported);
  refuse_compressed([](file_parts& file) { file.metadata.erase("qlr.version"); }, {"qlr.version", "missing"});
  refuse_compressed([](file_parts& file) { file.metadata.at("w.qlr.version") = "2"; }, {"w.qlr.version is 2"},
                    status_code::unsupported);
  refuse_compressed([](file_parts& file) { file.metadata.at("w.qlr.format") = "x"; },
                    {"w.qlr.format is 'x'", "expected 'decomposition'"});
  refuse_compressed([](file_parts& file) { add_f32(file, "w", normal_matrix(2, 3, 1)); },
                    {"weight 'w' is compressed and a tensor of its own too"});
  const temporary_directory folder;
  file_parts whole = empty_file(folder);
  add_prefixed(whole, folder, "w.", make_decomposition({.format = "uint4"}));
  for (const auto& entry : whole.metadata) {
    const std::string& key = entry.first;
    CAPTURE(key);
    if (key == "w.qlr.format") continue; // without it there is no such weight
    refuse_compressed([&](file_parts& file) { file.metadata.erase(key); }, {key, "missing"});
  }
  for (const auto& entry : whole.tensors) {
    const std::string& name = entry.first;
    CAPTURE(name);
    refuse_compressed([&](file_parts& file) { file.tensors.erase(name); }, {name, "missing"});
  }
}

TEST_CASE("checkpoint_folder: a weight compressed in two shards is refused", "[io]") {
  const two_shards made;
  for (const char* const name : {"a", "b"}) {
    file_parts file(made.folder.file(name + std::string(".safetensors")));
    mark_as_checkpoint(file);
    file.metadata["w.qlr.format"] = "decomposition";
    file.write(made.folder.file(name + std::string(".safetensors")));
  }
  made.check_refused({"weight 'w' is compressed in a.safetensors and in b.safetensors"});
}
