// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "support.hpp"

#include <qlr/io/peft.hpp>
#include <qlr/io/peft_writer.hpp>

#include <support/generators.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

using module_list = std::vector<std::pair<std::string, index_t>>;

struct factor_pair {
  std::string module;
  matrix<float> left;
  matrix<float> right;
  float scale;
};

/// Writes a folder as a user would.
void write_folder(const temporary_directory& folder, const std::vector<factor_pair>& pairs, io::dtype type) {
  std::vector<io::owned_tensor> tensors;
  tensors.reserve(2 * pairs.size());
  module_list modules;
  for (const factor_pair& pair : pairs) {
    for (io::owned_tensor& tensor :
         io::peft_tensors(pair.module, pair.left.view(), pair.right.view(), pair.scale, type)) {
      tensors.push_back(std::move(tensor));
    }
    modules.emplace_back(pair.module, pair.right.rows());
  }
  std::vector<io::tensor_entry> entries;
  for (const io::owned_tensor& tensor : tensors) entries.push_back(tensor.entry());
  io::write_safetensors(folder.file("adapter_model.safetensors"), entries, {{"format", "pt"}});
  write_file(folder.file("adapter_config.json"), to_bytes(io::peft_config_json(modules, "some/model")));
}

/// The rule by which PEFT picks modules from a list of names.
bool is_target(const nlohmann::json& config, const std::string& module) {
  for (const std::string name : config.at("target_modules")) {
    if (module == name || module.ends_with("." + name)) return true;
  }
  return false;
}

/// Largest error of s L R, and the largest entry.
std::pair<double, double> product_error(const factor_pair& pair, const matrix<float>& left,
                                        const matrix<float>& right, double scale) {
  double error = 0;
  double largest = 0;
  for (index_t i = 0; i < pair.left.rows(); ++i) {
    for (index_t j = 0; j < pair.right.cols(); ++j) {
      double expected = 0;
      double found = 0;
      for (index_t r = 0; r < pair.right.rows(); ++r) {
        expected += static_cast<double>(pair.scale) * static_cast<double>(pair.left(i, r)) *
                    static_cast<double>(pair.right(r, j));
        found += scale * static_cast<double>(left(i, r)) * static_cast<double>(right(r, j));
      }
      error = std::max(error, std::fabs(found - expected));
      largest = std::max(largest, std::fabs(expected));
    }
  }
  return {error, largest};
}

} // namespace

TEST_CASE("peft_tensors: a folder reads back as the same s L R with scale 1", "[io]") {
  const std::vector<factor_pair> pairs{
      {"model.layers.0.self_attn.q_proj", normal_matrix(12, 4, 1), normal_matrix(4, 20, 2), 0.5F},
      {"model.layers.1.self_attn.q_proj", normal_matrix(12, 4, 3), normal_matrix(4, 20, 4), 1.0F},
      {"model.layers.10.mlp.down_proj", normal_matrix(7, 1, 5), normal_matrix(1, 9, 6), -3.0F},
      {"lm_head", normal_matrix(1, 2, 7), normal_matrix(2, 1, 8), 1.0F / 3.0F}};
  for (const auto& [type, bound] :
       {std::pair{io::dtype::f32, 1e-6}, std::pair{io::dtype::f16, 4e-3}, std::pair{io::dtype::bf16, 3e-2}}) {
    const temporary_directory folder;
    write_folder(folder, pairs, type);
    const io::peft_file file(folder.file(""));
    REQUIRE(file.pairs().size() == pairs.size());
    for (const factor_pair& pair : pairs) {
      CAPTURE(pair.module);
      const std::string prefix = "base_model.model." + pair.module;
      const auto& tensor = file.tensors().find(prefix + ".lora_A.weight");
      CHECK((tensor.type == type &&
             tensor.shape == std::vector<index_t>{pair.right.rows(), pair.right.cols()}));
      CHECK(file.tensors().find(prefix + ".lora_B.weight").shape ==
            std::vector<index_t>{pair.left.rows(), pair.left.cols()});
      bool is_found = false;
      for (const io::peft_pair& found : file.pairs()) {
        if (found.module != pair.module) continue;
        is_found = true;
        CHECK(found.scale == 1.0F);
        const auto [error, largest] = product_error(pair, file.left(found), file.right(found), 1.0);
        CHECK(error <= bound * (largest + 1.0));
      }
      CHECK(is_found);
    }
  }
}

TEST_CASE("peft_tensors: s is in lora_B, views of any strides are read", "[io]") {
  const matrix<float> transposed = normal_matrix(3, 5, 1); // L' (r,m)
  const matrix<float> right = normal_matrix(3, 4, 2);
  const auto tensors = io::peft_tensors("m", transposed.view().transposed(), right.view(), 2.0F);
  REQUIRE(tensors.size() == 2);
  CHECK(tensors[0].name == "base_model.model.m.lora_A.weight");
  CHECK(tensors[0].bytes == to_bytes(std::vector<float>(right.data(), right.data() + right.size())));
  CHECK(tensors[1].name == "base_model.model.m.lora_B.weight");
  std::vector<float> expected;
  for (index_t i = 0; i < 5; ++i) {
    for (index_t r = 0; r < 3; ++r) expected.push_back(2.0F * transposed(r, i));
  }
  CHECK(tensors[1].bytes == to_bytes(expected));
}

TEST_CASE("peft_tensors: refuses what PEFT cannot load", "[io]") {
  const matrix<float> left = normal_matrix(3, 2, 1);
  const matrix<float> right = normal_matrix(2, 4, 1);
  const auto refused = [&](status_code code, const std::vector<std::string>& parts, const matrix<float>& l,
                           const matrix<float>& r, float scale = 1.0F, io::dtype type = io::dtype::f32,
                           const std::string& module = "m") {
    check_error(code, parts, [&] { (void)io::peft_tensors(module, l.view(), r.view(), scale, type); });
  };
  refused(status_code::invalid_argument, {"module is ''"}, left, right, 1.0F, io::dtype::f32, "");
  refused(status_code::invalid_argument, {"F64", "F32, F16 and BF16"}, left, right, 1.0F, io::dtype::f64);
  refused(status_code::shape_mismatch, {"3 x 2", "3 x 4"}, left, normal_matrix(3, 4, 1));
  refused(status_code::invalid_argument, {"'m'", "3 x 0"}, matrix<float>(3, 0), matrix<float>(0, 4));
  refused(status_code::invalid_argument, {"0 x 2"}, matrix<float>(0, 2), right);
  refused(status_code::non_finite, {"L(0, 0)"}, matrix<float>(3, 2, NAN), right);
  refused(status_code::non_finite, {"R(0, 0)"}, left, matrix<float>(2, 4, INFINITY));
  refused(status_code::non_finite, {"scale is"}, left, right, NAN);
  refused(status_code::unsupported, {"lora_B", "F32"}, matrix<float>(3, 2, 1e30F), right, 1e30F);
  refused(status_code::unsupported, {"lora_B", "F16"}, matrix<float>(3, 2, 60.0F), right, 2000.0F,
          io::dtype::f16);
  refused(status_code::unsupported, {"lora_A", "F16"}, left, matrix<float>(2, 4, 1e5F), 1.0F, io::dtype::f16);
  refused(status_code::unsupported, {"lora_A", "BF16"}, left,
          matrix<float>(2, 4, std::numeric_limits<float>::max()), 1.0F, io::dtype::bf16);
}

TEST_CASE("peft_config_json: r is the most frequent rank, patterns hold the others", "[io]") {
  const module_list modules{
      {"model.layers.0.q", 4}, {"model.layers.1.q", 8}, {"model.layers.0.v", 8}, {"model.layers.1.v", 16}};
  const auto config = nlohmann::ordered_json::parse(io::peft_config_json(modules, "org/model"));
  CHECK((config.at("r") == 8 && config.at("lora_alpha") == 8));
  CHECK((config.at("rank_pattern").size() == 2 && config.at("rank_pattern").at("model.layers.1.v") == 16));
  CHECK(config.at("rank_pattern").at("model.layers.0.q") == 4);
  CHECK(config.at("alpha_pattern") == config.at("rank_pattern"));
  CHECK((config.at("peft_type") == "LORA" && config.at("task_type") == "CAUSAL_LM"));
  CHECK(config.at("base_model_name_or_path") == "org/model");
  CHECK((config.at("use_rslora") == false && config.at("fan_in_fan_out") == false));
  CHECK(config.at("target_modules").size() == 4);
  // Of ranks that are equally frequent the smaller one.
  const auto tied = nlohmann::json::parse(io::peft_config_json(module_list{{"a", 9}, {"b", 3}}, ""));
  CHECK((tied.at("r") == 3 && tied.at("base_model_name_or_path").is_null()));
}

TEST_CASE("peft_config_json: target_modules match no module that is left out", "[io]") {
  const module_list modules{{"model.layers.1.self_attn.q_proj", 4}, {"model.layers.1.mlp.up_proj", 4}};
  const auto config = nlohmann::json::parse(io::peft_config_json(modules, ""));
  for (const auto& [module, rank] : modules) CHECK(is_target(config, module));
  for (const char* const left_out :
       {"model.layers.11.self_attn.q_proj", "model.layers.1.self_attn.k_proj", "model.layers.0.mlp.up_proj",
        "model.layers.1.mlp.up_proj_2", "model.layers.1", "layers.1.mlp.up_proj", "up_proj"}) {
    CAPTURE(left_out);
    CHECK_FALSE(is_target(config, left_out));
  }
}

TEST_CASE("peft_config_json: every module finds its own rank among the patterns", "[io]") {
  // Names that are endings of others, that dots of others match, and characters with a meaning in patterns.
  const module_list modules{{"a.b", 2},     {"c.a.b", 4}, {"d.c.a.b", 4}, {"e.a.b", 6},
                            {"a_b", 4},     {"a.c", 5},   {"x.a_c", 4},   {"x.a.c", 7},
                            {"lm_head", 4}, {"m+n", 3},   {"m(n", 4},     {"p[0]", 9},
                            {"z.p[0]", 4},  {"q\\d", 11}, {"q1", 4},      {"a_c", 12}};
  const auto factors = [](index_t rank, std::uint64_t seed) {
    return std::pair{normal_matrix(3, rank, seed), normal_matrix(rank, 2, seed + 1)};
  };
  std::vector<factor_pair> pairs;
  for (const auto& [module, rank] : modules) {
    auto [left, right] = factors(rank, pairs.size());
    pairs.push_back({module, std::move(left), std::move(right), 1.0F});
  }
  const temporary_directory folder;
  write_folder(folder, pairs, io::dtype::f32);
  const io::peft_file file(folder.file("")); // refuses a rank that the patterns contradict
  CHECK(file.pairs().size() == modules.size());
  for (const io::peft_pair& pair : file.pairs()) {
    CAPTURE(pair.module);
    CHECK(pair.scale == 1.0F);
  }
}

TEST_CASE("peft_config_json: refuses lists that are no adapter", "[io]") {
  const auto refused = [](const module_list& modules, const std::vector<std::string>& parts) {
    check_error(status_code::invalid_argument, parts, [&] { (void)io::peft_config_json(modules, ""); });
  };
  refused({}, {"modules is empty"});
  refused({{"", 4}}, {"named ''"});
  refused({{"a", 4}, {"b", 4}, {"a", 4}}, {"'a'", "twice"});
  refused({{"a", 0}}, {"rank of 'a' is 0"});
}
