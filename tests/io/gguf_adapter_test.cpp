// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/io/gguf_adapter.hpp>

#include "../support/catch.hpp"
#include "gguf_builder.hpp"
#include "support.hpp"

#include <algorithm>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

matrix<float> matrix_of(index_t rows, index_t cols, const std::vector<float>& values) {
  matrix<float> result(rows, cols);
  std::copy(values.begin(), values.end(), result.data());
  return result;
}

} // namespace

TEST_CASE("gguf adapter: factors, names and scale come back, for embeddings too", "[io][host]") {
  const temporary_directory directory;
  std::vector<io::gguf_adapter_pair> pairs;
  for (const char* const name : {"blk.0.attn_q.weight", "token_embd.weight"}) {
    pairs.push_back({name, matrix_of(3, 1, {1, 2, 3}), matrix_of(1, 2, {4, 5}), 0.5F});
  }
  pairs.push_back({"none", matrix<float>(3, 0), matrix<float>(0, 2), 1.0F});
  for (const io::gguf_tensor_type type : {io::gguf_tensor_type::f32, io::gguf_tensor_type::f16}) {
    io::save_gguf_adapter(directory.file("x"), "llama", pairs, type);
    const io::gguf_file file(directory.file("x"));
    CHECK(file.find("blk.0.attn_q.weight.lora_a").shape == std::vector<index_t>{1, 2});
    CHECK(file.find("blk.0.attn_q.weight.lora_b").shape == std::vector<index_t>{3, 1});
    CHECK(file.find("token_embd.weight.lora_a").shape == std::vector<index_t>{3, 1});
    CHECK(file.find("token_embd.weight.lora_b").shape == std::vector<index_t>{2, 1});
    CHECK(file.metadata().find("adapter.lora.alpha")->second.number() == 0.0);
    const io::gguf_adapter adapter = io::load_gguf_adapter(file);
    CHECK(adapter.architecture == "llama");
    REQUIRE(adapter.pairs.size() == 2);
    for (const io::gguf_adapter_pair& pair : adapter.pairs) {
      CHECK(pair.scale == 1.0F);
      CHECK(pair.left(2, 0) == 1.5F);
      CHECK(pair.right(0, 1) == 5.0F);
    }
  }
}

TEST_CASE("gguf adapter: the scale is alpha over the rank", "[io][host]") {
  gguf_builder builder;
  builder.add_text("general.type", "adapter");
  builder.add_text("general.architecture", "llama");
  builder.add_text("adapter.type", "lora");
  builder.add_value("adapter.lora.alpha", 6, number<float>(3.0F));
  builder.add_f32("w.lora_a", {1, 2}, {1, 2});
  builder.add_f32("w.lora_b", {2, 1}, {3, 4});
  const byte_vector contents = builder.build();
  CHECK(io::load_gguf_adapter(io::gguf_file(contents)).pairs.at(0).scale == 1.5F);
  builder.add_f32("v.lora_a", {1, 2}, {1, 2});
  const byte_vector half = builder.build();
  check_error(status_code::malformed_file, {"'v.lora_a' needs 'v.lora_b'"},
              [&] { (void)io::load_gguf_adapter(io::gguf_file(half)); });
}
