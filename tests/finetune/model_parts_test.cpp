// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "toy_model.hpp"

#include <qlr/train/optimizer.hpp>
#include <qlr/train/state.hpp>

#include <io/support.hpp>
#include <support/catch.hpp>
#include <support/oracles.hpp>

#include <map>
#include <span>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

std::vector<std::string> names_of(const std::vector<train::parameter_view<float>>& parameters) {
  std::vector<std::string> names;
  names.reserve(parameters.size());
  for (const auto& p : parameters) names.push_back(p.name);
  return names;
}

transformer<float> layers_only(const model_config& config) {
  return {toy_weights(config), dense_factory<float>()};
}

/// Losses of the steps, which end with the parameters changed.
std::vector<double> train_steps(transformer<float>& model, const toy_batch& batch, int count) {
  const auto parameters = model.parameters();
  const std::span<const train::parameter_view<float>> all(parameters);
  train::adamw<float> optimizer(all);
  std::vector<double> losses;
  for (int step = 0; step < count; ++step) {
    train::zero_gradients(all);
    losses.push_back(model.forward(batch.view()));
    model.backward();
    optimizer.step(all, 1e-2);
  }
  return losses;
}

} // namespace

TEST_CASE("transformer: layers are made block by block in the order of their names", "[finetune]") {
  const model_config config = toy_config(1);
  const model_weights weights = toy_weights(config);
  index_t calls = 0;
  const layer_factory<float> make = [&](index_t block, linear_layer which, matrix_view<const float> weight) {
    CHECK(block == calls / num_linear_layers);
    CHECK(which == calls % num_linear_layers);
    const auto& expected =
        weights.blocks[static_cast<std::size_t>(block)].linear[static_cast<std::size_t>(which)];
    CHECK(weight.data() == expected.data());
    ++calls;
    return train::any_layer<float>(train::dense_layer<float>(weight));
  };
  const transformer<float> model(weights, make);
  CHECK(calls == 14);
}

TEST_CASE("transformer: parameters have the names of the checkpoint's tensors", "[finetune]") {
  const model_config config = toy_config(1);
  transformer<float> model = layers_only(config);
  std::vector<std::string> expected;
  for (index_t block = 0; block < 2; ++block) {
    for (int i = 0; i < num_linear_layers; ++i) expected.push_back(linear_name(block, i));
  }
  CHECK(names_of(model.parameters()) == expected);

  transformer<float> whole = toy_model<float>(config);
  expected.insert(expected.begin(), "model.embed_tokens.weight");
  expected.insert(expected.begin() + 8, "model.layers.0.input_layernorm.weight");
  expected.insert(expected.begin() + 9, "model.layers.0.post_attention_layernorm.weight");
  expected.insert(expected.begin() + 17, "model.layers.1.input_layernorm.weight");
  expected.insert(expected.begin() + 18, "model.layers.1.post_attention_layernorm.weight");
  expected.emplace_back("model.norm.weight");
  CHECK(names_of(whole.parameters()) == expected);
  for (std::string& name : expected) name.insert(0, "student.");
  CHECK(names_of(whole.parameters("student.")) == expected);
  for (const auto& p : whole.parameters()) // decay would pull norms to 0
    CHECK(p.options.has_weight_decay == (p.name.find("norm") == std::string::npos));
}

TEST_CASE("transformer: counts the bytes of all its weights", "[finetune]") {
  const model_config config = toy_config(1);
  // embedding, final norm, and for each block two norms and the layers
  const index_t block = 2 * 12 + 12 * 12 * 2 + 4 * 12 * 2 + 20 * 12 * 3;
  const index_t numbers = 17 * 12 + 12 + 2 * block;
  CHECK(layers_only(config).stored_bytes() == 4 * numbers);
  CHECK(toy_model<double>(config).stored_bytes() == 8 * numbers);
}

TEST_CASE("transformer: a layer can be replaced", "[finetune]") {
  const model_config config = toy_config(1);
  transformer<float> model = layers_only(config);
  const toy_batch batch({2, 4}, config);
  const double before = model.evaluate(batch.view());
  model_weights weights = toy_weights(config);
  weights.blocks[1].linear[down] = normal_matrix(12, 20, 5);
  model.layer(1, down) = train::dense_layer<float>(weights.blocks[1].linear[down].view());
  const double after = model.evaluate(batch.view());
  CHECK(after != before);
  CHECK(after == transformer<float>(weights, dense_factory<float>()).evaluate(batch.view()));
}

TEST_CASE("transformer: learns a batch by heart", "[finetune]") {
  const model_config config = toy_config(1);
  const bool is_whole = GENERATE(false, true);
  transformer<float> model = is_whole ? toy_model<float>(config) : layers_only(config);
  const std::vector<double> losses = train_steps(model, toy_batch({2, 6}, config), 60);
  CHECK(losses.back() < 0.1 * losses.front());
}

TEST_CASE("transformer: a saved state continues with the same bits", "[finetune]") {
  const temporary_directory directory;
  const std::string path = directory.file("model.safetensors");
  const model_config config = toy_config(1);
  const bool is_whole = GENERATE(false, true);
  const toy_batch batch({2, 6}, config);
  transformer<float> model = is_whole ? toy_model<float>(config) : layers_only(config);
  train_steps(model, batch, 3);
  train::save_state(path, [&](auto& archive) { model.visit_state(archive, "model."); });
  transformer<float> restored = is_whole ? toy_model<float>(config) : layers_only(config);
  REQUIRE(restored.evaluate(batch.view()) != model.evaluate(batch.view()));
  train::load_state(path, [&](auto& archive) { restored.visit_state(archive, "model."); });
  CHECK(train_steps(restored, batch, 3) == train_steps(model, batch, 3));
  transformer<float> other = is_whole ? layers_only(config) : toy_model<float>(config);
  CHECK_THROWS_AS(train::load_state(path, [&](auto& archive) { other.visit_state(archive, "model."); }),
                  error);
}

TEST_CASE("transformer: refuses batches that contradict themselves", "[finetune]") {
  const model_config config = toy_config(1);
  transformer<float> model = layers_only(config);
  const toy_batch batch({2, 4}, config);
  const auto refusal = [&](const toy_batch& other) {
    const report forward = report_of([&] { model.forward(other.view()); });
    const report evaluation = report_of([&] { (void)model.evaluate(other.view()); });
    CHECK(forward.message == evaluation.message);
    CHECK(forward.code == status_code::invalid_argument);
    return forward.message;
  };
  CHECK(refusal(batch).empty());
  toy_batch other = batch;
  other.shape.length = 5;
  CHECK(refusal(other) == "the batch has 8 tokens, 2 texts of 5 need 10");
  other = batch;
  other.targets.pop_back();
  CHECK(refusal(other) == "the batch has 8 tokens and 7 targets, these must be as many");
  for (const token_t wrong : {-1, 17}) {
    other = batch;
    other.tokens[6] = wrong;
    CHECK(refusal(other) == sentence("token 6 is ", wrong, ", allowed are 0 to 16"));
  }
  for (const token_t wrong : {-2, 17}) {
    other = batch;
    other.targets[7] = wrong;
    CHECK(refusal(other) == sentence("a target is ", wrong, ", allowed are -1 to 16"));
  }
  other = batch;
  other.targets.assign(8, token_batch::not_counted);
  CHECK(refusal(other) == "the batch has no target that counts");
  CHECK(refusal(toy_batch({1, 71}, config)) ==
        "batch is 1 texts of 71 tokens, allowed are 1 text and above of 1 to 70 tokens");
  CHECK(refusal(toy_batch({0, 4}, config)) ==
        "batch is 0 texts of 4 tokens, allowed are 1 text and above of 1 to 70 tokens");
}
