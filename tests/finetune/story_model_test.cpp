// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "toy_model.hpp"

#include <story/model.hpp>

#include <support/catch.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

/// The trained model, where it is there.
std::optional<checkpoint> find_trained_model() {
  const std::string path = std::string(QLR_TEST_DATA_DIR) + "/weights/stories260K.safetensors";
  if (std::filesystem::exists(path)) return checkpoint(path);
  std::cout << "SKIPPED: weights not found: " << path << '\n';
  return std::nullopt;
}

double standard_deviation(const matrix<float>& values) {
  double squares = 0;
  for (index_t i = 0; i < values.size(); ++i)
    squares += static_cast<double>(values.data()[i]) * static_cast<double>(values.data()[i]);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

bool is_same(const matrix<float>& a, matrix_view<const float> b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  return std::equal(a.data(), a.data() + a.size(), b.data());
}

} // namespace

TEST_CASE("transformer: logits of a trained model are those of the program that reads it", "[finetune]") {
  const std::optional<checkpoint> files = find_trained_model();
  if (!files) return;
  const batch_shape shape{2, 96}; // a session reads 64 tokens at once
  const toy_batch batch(shape, files->config());
  const model dense = make_dense_model(*files);
  const executor serial;
  session reader(dense, shape.length, precision::exact, serial);
  transformer<float> model(copy_weights(*files), dense_factory<float>());
  const matrix_view<const float> logits = model.logits(shape, batch.tokens);
  matrix<float> expected(shape.length, files->config().num_tokens);
  for (index_t text = 0; text < shape.sequences; ++text) {
    reader.clear();
    const std::span<const token_t> tokens = batch.tokens;
    reader.read(
        tokens.subspan(static_cast<std::size_t>(text * shape.length), static_cast<std::size_t>(shape.length)),
        expected.view());
    const float* actual = logits.row(text * shape.length);
    double largest = 0;
    for (index_t i = 0; i < expected.size(); ++i)
      largest = std::max(largest, std::fabs(static_cast<double>(actual[i] - expected.data()[i])));
    CHECK(largest < 2e-4); // logits of size 20, sums in another order through five blocks
    CHECK(largest > 0);    // two programs: equal bits would mean that one compares with itself
  }
}

TEST_CASE("transformer: float and double agree on the gradients of a trained model", "[finetune]") {
  const std::optional<checkpoint> files = find_trained_model();
  if (!files) return;
  const model_weights weights = copy_weights(*files);
  transformer<float> fast(weights, dense_factory<float>(), trained_parts::everything);
  transformer<double> exact(weights, dense_factory<double>(), trained_parts::everything);
  const toy_batch batch({4, 32}, weights.config);
  CHECK(is_near(fast.forward(batch.view()), exact.forward(batch.view()), 1e-5));
  fast.backward();
  exact.backward();
  const auto approximate = fast.parameters();
  const auto reference = exact.parameters();
  for (std::size_t k = 0; k < reference.size(); ++k) {
    double difference = 0;
    double size = 0;
    for (index_t i = 0; i < reference[k].size(); ++i) {
      difference += std::pow(static_cast<double>(approximate[k].gradient[i]) - reference[k].gradient[i], 2);
      size += std::pow(reference[k].gradient[i], 2);
    }
    INFO(reference[k].name);
    CHECK(std::sqrt(difference / size) < 1e-5); // about a hundred roundings of 2^-24
  }
}

TEST_CASE("copy_weights: has what the checkpoint has", "[finetune]") {
  const std::optional<checkpoint> files = find_trained_model();
  if (!files) return;
  const model_weights weights = copy_weights(*files);
  CHECK(weights.config == files->config());
  CHECK(is_same(weights.embedding, files->embedding()));
  CHECK(std::equal(weights.final_norm.data(), weights.final_norm.data() + 64, files->final_norm()));
  REQUIRE(weights.blocks.size() == 5);
  for (std::size_t k = 0; k < 5; ++k) {
    const checkpoint_block& block = files->blocks()[k];
    CHECK(is_same(weights.blocks[k].attention_norm, block.attention_norm.view()));
    CHECK(is_same(weights.blocks[k].mlp_norm, block.mlp_norm.view()));
    for (std::size_t i = 0; i < 7; ++i) CHECK(is_same(weights.blocks[k].linear[i], block.linear[i].view()));
  }
}

TEST_CASE("random_weights: have the shapes of the model and the spread of Llama's", "[finetune]") {
  model_config config = toy_config(2);
  config.dim = 64;
  config.num_heads = 8;
  config.hidden_dim = 172;
  config.num_layers = 5;
  config.num_tokens = 512;
  const model_weights weights = random_weights(config, 3);
  CHECK(weights.config == config);
  CHECK(weights.embedding.rows() == 512);
  CHECK(weights.embedding.cols() == 64);
  // A sample's spread is off by 1 / sqrt(2 count): 1.6 % for the smallest matrix; four times that is allowed.
  CHECK(is_near(standard_deviation(weights.embedding), 0.02, 0.02 * 0.064));
  CHECK(is_same(weights.final_norm, matrix<float>(1, 64, 1.0F).view()));
  REQUIRE(weights.blocks.size() == 5);
  for (const block_weights& block : weights.blocks) {
    CHECK(is_same(block.attention_norm, matrix<float>(1, 64, 1.0F).view()));
    CHECK(is_same(block.mlp_norm, matrix<float>(1, 64, 1.0F).view()));
    for (int which = 0; which < num_linear_layers; ++which) {
      const matrix<float>& weight = block.linear[static_cast<std::size_t>(which)];
      CHECK(std::pair(weight.rows(), weight.cols()) == linear_shape(config, which));
      const double expected = which == output || which == down ? 0.02 / std::sqrt(10.0) : 0.02;
      CHECK(is_near(standard_deviation(weight), expected, expected * 0.064));
    }
  }
}

TEST_CASE("random_weights: a seed gives the same numbers, another seed others", "[finetune]") {
  const model_config config = toy_config(1);
  const model_weights weights = random_weights(config, 3);
  const model_weights again = random_weights(config, 3);
  const model_weights other = random_weights(config, 4);
  CHECK(is_same(again.blocks[1].linear[up], weights.blocks[1].linear[up].view()));
  CHECK_FALSE(is_same(other.blocks[1].linear[up], weights.blocks[1].linear[up].view()));
  CHECK_FALSE(is_same(weights.blocks[0].linear[gate], weights.blocks[0].linear[up].view()));
  CHECK_FALSE(is_same(weights.blocks[0].linear[up], weights.blocks[1].linear[up].view()));
}

TEST_CASE("random_weights: refuse a model with a head of its own", "[finetune]") {
  model_config config = toy_config(1);
  config.has_tied_head = false;
  CHECK(report_of([&] {
          (void)random_weights(config, 1);
        }).says(status_code::unsupported, "only tied embeddings are trained"));
}
