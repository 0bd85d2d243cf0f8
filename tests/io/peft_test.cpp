// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "support.hpp"

#include <qlr/io/peft.hpp>

#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

const std::string layer = "base_model.model.model.layers.";

/// The file's tensors by name, as float.
using tensor_map = std::map<std::string, matrix<float>>;

void write_tensors(const std::string& path, const tensor_map& tensors) {
  std::vector<io::tensor_entry> entries;
  for (const auto& [name, values] : tensors) entries.push_back(io::make_f32_entry(name, values.view()));
  io::write_safetensors(path, entries, {{"format", "pt"}});
}

/// Two layers of different rank, an embedding, a bias and a full tensor.
tensor_map usual_tensors() {
  tensor_map tensors;
  tensors[layer + "0.self_attn.q_proj.lora_A.weight"] = normal_matrix(4, 20, 1);
  tensors[layer + "0.self_attn.q_proj.lora_B.weight"] = normal_matrix(12, 4, 2);
  tensors[layer + "10.mlp.down_proj.lora_A.weight"] = normal_matrix(2, 9, 3);
  tensors[layer + "10.mlp.down_proj.lora_B.weight"] = normal_matrix(7, 2, 4);
  tensors["base_model.model.model.embed_tokens.lora_embedding_A"] = normal_matrix(4, 30, 5);
  tensors["base_model.model.model.embed_tokens.lora_embedding_B"] = normal_matrix(6, 4, 6);
  tensors[layer + "0.self_attn.q_proj.lora_B.bias"] = normal_matrix(1, 12, 7);
  tensors["base_model.model.lm_head.weight"] = normal_matrix(3, 5, 8);
  return tensors;
}

const io::peft_pair& pair_of(const io::peft_file& file, const std::string& module) {
  for (const io::peft_pair& pair : file.pairs()) {
    if (pair.module == module) return pair;
  }
  FAIL("no pair of " << module);
  return file.pairs().front();
}

/// The scale that a configuration gives a module of rank r.
float scale_with(const std::string& config, const std::string& module = "model.layers.0.self_attn.q_proj",
                 index_t rank = 4) {
  const temporary_directory folder;
  write_tensors(folder.file("a.safetensors"),
                {{"base_model.model." + module + ".lora_A.weight", normal_matrix(rank, 5, 1)},
                 {"base_model.model." + module + ".lora_B.weight", normal_matrix(5, rank, 2)}});
  write_file(folder.file("adapter_config.json"), to_bytes(config));
  return io::peft_file(folder.file("a.safetensors")).pairs().at(0).scale;
}

} // namespace

TEST_CASE("peft_file: finds every pair, its module, shape and factors", "[io]") {
  const temporary_directory folder;
  const tensor_map tensors = usual_tensors();
  write_tensors(folder.file("adapter_model.safetensors"), tensors);
  for (const std::string& path : {folder.file("adapter_model.safetensors"), folder.file("")}) {
    const io::peft_file file(path);
    REQUIRE(file.pairs().size() == 3);
    const io::peft_pair& q = pair_of(file, "model.layers.0.self_attn.q_proj");
    CHECK((q.rows == 12 && q.cols == 20 && q.rank == 4 && q.scale == 1.0F));
    CHECK(squared_error(file.left(q), tensors.at(q.left_name)) == 0.0);
    CHECK(squared_error(file.right(q), tensors.at(q.right_name)) == 0.0);
    const io::peft_pair& embedding = pair_of(file, "model.embed_tokens");
    CHECK((embedding.rows == 6 && embedding.cols == 30));
    CHECK(pair_of(file, "model.layers.10.mlp.down_proj").rank == 2);
  }
}

TEST_CASE("peft_file: takes names with an adapter in them, plain names and convolutions", "[io]") {
  const temporary_directory folder;
  const std::string path = folder.file("a");
  write_tensors(path, {{"m.lora_A.default.weight", normal_matrix(2, 5, 1)},
                       {"m.lora_B.default.weight", normal_matrix(3, 2, 2)},
                       {"m.lora_A.other", normal_matrix(1, 5, 3)},
                       {"m.lora_B.other", normal_matrix(3, 1, 4)},
                       {"lora_A", normal_matrix(2, 6, 5)},
                       {"lora_B", normal_matrix(4, 2, 6)},
                       {"xlora_A.weight", normal_matrix(2, 6, 7)}});
  const io::peft_file file(path);
  REQUIRE(file.pairs().size() == 3);
  CHECK(file.pairs()[0].right_name == "lora_A");
  CHECK(file.pairs()[0].module.empty());
  CHECK(file.pairs()[1].left_name == "m.lora_B.default.weight");
  CHECK(file.pairs()[2].module == "m");

  const std::vector<float> zeros(100, 0.0F);
  const auto entry = [&](const std::string& name, std::vector<index_t> shape, std::size_t count) {
    return io::tensor_entry{name, io::dtype::f32, std::move(shape),
                            std::as_bytes(std::span(zeros).first(count))};
  };
  io::write_safetensors(path, std::vector<io::tensor_entry>{entry("c.lora_A.weight", {2, 3, 3, 3}, 54),
                                                            entry("c.lora_B.weight", {4, 2, 1, 1}, 8)});
  const io::peft_file convolution(path);
  CHECK((convolution.pairs().at(0).cols == 27 && convolution.pairs().at(0).rank == 2));
  CHECK(convolution.right(convolution.pairs()[0]).cols() == 27);
}

TEST_CASE("peft_file: the scale follows lora_alpha, use_rslora and the patterns", "[io]") {
  CHECK(scale_with(R"({"r": 4, "lora_alpha": 8})") == 2.0F);
  CHECK(scale_with(R"({"r": 4, "lora_alpha": 8, "use_rslora": true})") == 4.0F);
  CHECK(scale_with(R"({"r": 4, "lora_alpha": 5, "use_rslora": false, "rank_pattern": null})") == 1.25F);
  CHECK(scale_with(R"({})") == 1.0F);
  CHECK(scale_with(R"({"r": 16, "lora_alpha": 8, "rank_pattern": {"q_proj": 4}})") == 2.0F);
  CHECK(
      scale_with(R"({"r": 16, "lora_alpha": 8, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 2},
                       "use_rslora": true})") == 1.0F);
  // The first pattern that matches counts, as PEFT looks them up.
  CHECK(scale_with(R"({"r": 4, "alpha_pattern": {"self_attn.q_proj": 12, "q_proj": 4}})") == 3.0F);
  CHECK(scale_with(R"({"r": 4, "alpha_pattern": {"q_proj": 4, "self_attn.q_proj": 12}})") == 1.0F);
}

TEST_CASE("peft_file: patterns match whole names behind a dot", "[io]") {
  const auto matches = [](const std::string& pattern) {
    nlohmann::json config{{"r", 4}, {"lora_alpha", 4}};
    config["alpha_pattern"] = nlohmann::json::object({{pattern, 8}});
    return scale_with(config.dump()) == 2.0F;
  };
  for (const char* const pattern :
       {"q_proj", "self_attn.q_proj", "model.layers.0.self_attn.q_proj", "^model.layers.0.self_attn.q_proj",
        R"(layers\.0\.self_attn\.q_proj)", "layers.0.*q_proj", R"(layers.\d+.*)", "[a-z]_proj", "q_proj$",
        "q_?proj", "[pq]_pro+j", ".*"}) {
    CAPTURE(pattern);
    CHECK(matches(pattern));
  }
  for (const char* const pattern : {"proj", "_proj", "self_attn", "^q_proj", "^self_attn.q_proj", "v_proj",
                                    "q_proj.", R"(layers.\d\d.*)", "[a-p]_proj", "", "q_projj+"}) {
    CAPTURE(pattern);
    CHECK_FALSE(matches(pattern));
  }
  // Exponential for a backtracking matcher.
  CHECK_FALSE(matches(".*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*x"));
  for (const char* const pattern :
       {"(q|v)_proj", "q{2}", "[^a]_proj", R"(\w+)", "[a", "\\", "*a", "a$b", "[]"}) {
    CAPTURE(pattern);
    nlohmann::json config{{"alpha_pattern", nlohmann::json::object({{pattern, 8}})}};
    check_error(status_code::unsupported, {"pattern"}, [&] { (void)scale_with(config.dump()); });
  }
}

TEST_CASE("peft_file: broken configurations are refused", "[io]") {
  const auto refused = [](const std::string& config, const std::vector<std::string>& parts) {
    CAPTURE(config);
    check_error(status_code::malformed_file, parts, [&] { (void)scale_with(config); });
  };
  refused("", {"not a JSON object"});
  refused("[]", {"not a JSON object"});
  refused("{", {"not a JSON object"});
  refused(R"({"a": )" + std::string(100000, '[') + std::string(100000, ']') + "}", {"not a JSON object"});
  refused(R"({"r": "4"})", {"r is not a number"});
  refused(R"({"r": 0})", {"a rank is 0"});
  refused(R"({"r": 2.5})", {"a rank is 2.5"});
  refused(R"({"r": 8})", {"is 8", "have 4"});
  refused(R"({"lora_alpha": true})", {"lora_alpha"});
  refused(R"({"lora_alpha": 1e300})", {"lora_alpha", "out of range"});
  refused(R"({"use_rslora": 1})", {"use_rslora"});
  refused(R"({"rank_pattern": 3})", {"rank_pattern"});
  refused(R"({"alpha_pattern": {"q_proj": "x"}})", {"alpha_pattern", "q_proj"});
}

TEST_CASE("peft_file: half pairs and shapes that do not fit are refused", "[io]") {
  const temporary_directory folder;
  const auto refused = [&](const tensor_map& tensors, const std::vector<std::string>& parts) {
    write_tensors(folder.file("a"), tensors);
    check_error(status_code::malformed_file, parts, [&] { io::peft_file file(folder.file("a")); });
  };
  refused({{"m.lora_A.weight", normal_matrix(2, 3, 1)}}, {"m.lora_B.weight", "missing"});
  refused({{"m.lora_B.weight", normal_matrix(2, 3, 1)}}, {"m.lora_A.weight", "missing"});
  refused({{"m.lora_A.weight", normal_matrix(2, 3, 1)}, {"m.lora_B.weight", normal_matrix(4, 3, 1)}},
          {"ranks differ"});
  refused({{"m.lora_A.weight", matrix<float>(0, 3)}, {"m.lora_B.weight", matrix<float>(4, 0)}},
          {"none of them 0"});
  const std::vector<float> values(4, 1.0F);
  const auto entry = [&](const char* name) {
    return io::tensor_entry{name, io::dtype::f32, {4}, std::as_bytes(std::span(values))};
  };
  io::write_safetensors(folder.file("a"), std::vector<io::tensor_entry>{entry("lora_A"), entry("lora_B")});
  check_error(status_code::malformed_file, {"two dimensions"}, [&] { io::peft_file file(folder.file("a")); });
  check_error(status_code::io_failure, {"nowhere"}, [&] { io::peft_file file(folder.file("nowhere")); });
}

TEST_CASE("save_peft: what was written reads back as the same s L R with everything else", "[io]") {
  const temporary_directory folder;
  const tensor_map tensors = usual_tensors();
  write_tensors(folder.file("adapter_model.safetensors"), tensors);
  const std::string config =
      R"({"r": 4, "lora_alpha": 8, "rank_pattern": {"down_proj": 2}, "peft_type": "LORA"})";
  write_file(folder.file("adapter_config.json"), to_bytes(config));
  const io::peft_file source(folder.file(""));
  std::vector<io::peft_factors> factors;
  for (const io::peft_pair& pair : source.pairs()) factors.push_back({source.left(pair), source.right(pair)});
  for (const io::dtype type : {io::dtype::f32, io::dtype::f16}) {
    const temporary_directory target;
    io::save_peft(target.file("adapter_model.safetensors"), source, factors, type);
    CHECK(target.names().size() == 2);
    CHECK(read_file(target.file("adapter_config.json")) == to_bytes(config));
    const io::peft_file again(target.file(""));
    REQUIRE(again.pairs().size() == source.pairs().size());
    for (std::size_t i = 0; i < factors.size(); ++i) {
      const io::peft_pair& pair = again.pairs()[i];
      CHECK(pair.right_name == source.pairs()[i].right_name);
      CHECK(pair.scale == source.pairs()[i].scale);
      // fp16 rounds to 11 bits.
      const double bound = type == io::dtype::f32 ? 0.0 : std::pow(2.0, -22);
      double norm = 0;
      for (index_t j = 0; j < factors[i].left.size(); ++j)
        norm += std::pow(static_cast<double>(factors[i].left.data()[j]), 2);
      CHECK(squared_error(again.left(pair), factors[i].left) <= bound * norm);
    }
    const std::string bias = layer + "0.self_attn.q_proj.lora_B.bias";
    CHECK(squared_error(again.tensors().read_matrix(bias), tensors.at(bias)) == 0.0);
    CHECK(again.tensors().contains("base_model.model.lm_head.weight"));
    CHECK(again.tensors().metadata().at("format") == "pt");
  }
}

TEST_CASE("save_peft: fewer vectors are filled up, no configuration gives one with scale 1", "[io]") {
  const temporary_directory folder;
  write_tensors(folder.file("a.safetensors"), usual_tensors());
  const io::peft_file source(folder.file("a.safetensors"));
  std::vector<io::peft_factors> factors;
  for (const io::peft_pair& pair : source.pairs())
    factors.push_back({normal_matrix(pair.rows, 1, 1), normal_matrix(1, pair.cols, 2)});
  io::save_peft(folder.file("b.safetensors"), source, factors, io::dtype::f32);
  const io::peft_file again(folder.file("b.safetensors"));
  CHECK_FALSE(again.config_text().empty());
  for (const io::peft_pair& pair : again.pairs()) {
    CHECK(pair.scale == 1.0F);
    const matrix<float> left = again.left(pair);
    CHECK(left.cols() == pair.rank);
    CHECK(left(pair.rows - 1, 0) == normal_matrix(pair.rows, 1, 1)(pair.rows - 1, 0));
    CHECK(left(pair.rows - 1, pair.rank - 1) == 0.0F);
  }
}

TEST_CASE("save_peft: refuses what it cannot write and leaves nothing behind", "[io]") {
  const temporary_directory folder;
  write_tensors(folder.file("a.safetensors"),
                {{"lora_A", normal_matrix(2, 5, 1)}, {"lora_B", normal_matrix(3, 2, 2)}});
  const io::peft_file source(folder.file("a.safetensors"));
  const auto refused = [&](const matrix<float>& left, const matrix<float>& right, status_code code,
                           const std::vector<std::string>& parts, io::dtype type = io::dtype::f16) {
    const std::vector<io::peft_factors> factors{{left, right}};
    check_error(code, parts, [&] { io::save_peft(folder.file("b.safetensors"), source, factors, type); });
    CHECK(folder.names() == std::vector<std::string>{"a.safetensors"});
  };
  const matrix<float> right = normal_matrix(2, 5, 1);
  const matrix<float> left = normal_matrix(3, 2, 1);
  refused(left, right, status_code::invalid_argument, {"BF16"}, io::dtype::bf16);
  refused(left, normal_matrix(2, 6, 1), status_code::shape_mismatch, {"lora_B"});
  refused(normal_matrix(3, 3, 1), normal_matrix(3, 5, 1), status_code::shape_mismatch, {"3 x 3"});
  refused(matrix<float>(3, 2, 1e6F), right, status_code::unsupported, {"1e+06", "F16"});
  refused(matrix<float>(3, 2, INFINITY), right, status_code::non_finite, {"L(0, 0)"});
  check_error(status_code::shape_mismatch, {"0 entries"},
              [&] { io::save_peft(folder.file("b.safetensors"), source, {}); });
}
