// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <io/support.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>

#include <qlr/io/gguf_llama.hpp>
#include <qlr/quant/formats.hpp>

#include <cmath>
#include <set>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

std::string config_with(const std::string& more = {}, const std::string& architecture = "LlamaForCausalLM") {
  return R"({"architectures": [")" + architecture + R"("], "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 80,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-05, "rope_theta": 500000.0)" +
         more + "}";
}

} // namespace

TEST_CASE("gguf_llama: rotating the rows in GGUF's order is rotating them in transformers' order", "[io]") {
  // transformers rotates element i with element i + head / 2, GGUF files element 2 i with 2 i + 1, by one
  // angle.
  constexpr index_t heads = 3;
  constexpr index_t head = 8;
  const matrix<float> x = normal_matrix(heads * head, 1, 1);
  const std::vector<index_t> order = io::gguf_row_order(heads * head, heads);
  CHECK(std::set<index_t>(order.begin(), order.end()).size() == order.size());
  const matrix<float> y = io::permute_rows(x.view(), order);
  for (index_t h = 0; h < heads; ++h) {
    for (index_t i = 0; i < head / 2; ++i) {
      const double angle = 0.3 * static_cast<double>(i + 1);
      const auto a = static_cast<double>(x(h * head + i, 0));
      const auto b = static_cast<double>(x(h * head + i + head / 2, 0));
      const auto c = static_cast<double>(y(h * head + 2 * i, 0));
      const auto d = static_cast<double>(y(h * head + 2 * i + 1, 0));
      CHECK(a * std::cos(angle) - b * std::sin(angle) == c * std::cos(angle) - d * std::sin(angle));
      CHECK(a * std::sin(angle) + b * std::cos(angle) == c * std::sin(angle) + d * std::cos(angle));
    }
  }
  check_error(status_code::invalid_argument, {"rows is 12", "heads, which are 4"},
              [] { (void)io::gguf_row_order(12, 4); });
}

TEST_CASE("gguf_llama: rows of quantized matrices move with their scales", "[io]") {
  const std::vector<index_t> order{2, 0, 4, 1, 3};
  const matrix<float> w = normal_matrix(5, 96, 2);
  for (const char* const format : {"q4_0", "q8_0", "iq4_nl", "nf4", "int3"}) {
    CAPTURE(format);
    const quantized_matrix q = make_quantizer(format).quantize(w.view(), {}, {});
    const matrix<float> before = dequantize(q);
    const matrix<float> after = dequantize(io::permute_rows(q, order));
    for (index_t i = 0; i < 5; ++i) {
      for (index_t j = 0; j < 96; ++j) CHECK(after(i, j) == before(order[static_cast<std::size_t>(i)], j));
    }
  }
  const quantized_matrix nested =
      make_quantizer("nf4", {32, double_quantized(), false}).quantize(w.view(), {}, {});
  check_error(status_code::unsupported, {"cannot be moved"}, [&] { (void)io::permute_rows(nested, order); });
  const quantized_matrix affine = make_quantizer("uint4").quantize(w.view(), {}, {});
  check_error(status_code::unsupported, {"zero points"}, [&] { (void)io::permute_rows(affine, order); });
  check_error(status_code::shape_mismatch, {"order has 5"},
              [&] { (void)io::permute_rows(normal_matrix(4, 2, 1).view(), order); });
}

TEST_CASE("gguf_llama: tensors have llama.cpp's names", "[io]") {
  const std::vector<std::pair<std::string, std::string>> names{
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"},
      {"model.layers.12.input_layernorm.weight", "blk.12.attn_norm.weight"},
      {"model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"},
      {"model.layers.3.self_attn.o_proj.weight", "blk.3.attn_output.weight"},
      {"model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"}};
  for (const auto& [name, expected] : names) CHECK(io::gguf_llama::name_of(name) == expected);
  for (const char* const name :
       {"model.layers.0.self_attn.q_proj.bias", "model.layers.x.input_layernorm.weight",
        "model.layers.input_layernorm.weight", "input_layernorm.weight", "x"}) {
    check_error(status_code::unsupported, {name}, [&] { (void)io::gguf_llama::name_of(name); });
  }
}

TEST_CASE("gguf_llama: metadata is read from config.json", "[io]") {
  const temporary_directory folder;
  const io::gguf_llama model(config_with());
  io::write_gguf(folder.file("m.gguf"), model.metadata(io::gguf_tensor_type::q4_0), {});
  const io::gguf_file file(folder.file("m.gguf"));
  const auto integer = [&](const char* key) { return file.metadata().find(key)->second.integer().value(); };
  CHECK(file.metadata().find("general.architecture")->second.text() == "llama");
  CHECK(integer("llama.block_count") == 2);
  CHECK(integer("llama.context_length") == 128);
  CHECK(integer("llama.embedding_length") == 64);
  CHECK(integer("llama.feed_forward_length") == 96);
  CHECK(integer("llama.attention.head_count") == 4);
  CHECK(integer("llama.attention.head_count_kv") == 2);
  CHECK(integer("llama.rope.dimension_count") == 16);
  CHECK(integer("llama.vocab_size") == 80);
  CHECK(integer("general.file_type") == 2);
  CHECK(file.metadata().find("llama.rope.freq_base")->second.number() == 500000.0);
  CHECK(file.metadata().find("llama.attention.layer_norm_rms_epsilon")->second.number() ==
        static_cast<double>(1e-5F));
  CHECK(file.metadata().find("tokenizer.ggml.model")->second.text() == "no_vocab");
  CHECK(model.row_order("model.layers.0.self_attn.q_proj.weight", 64) == io::gguf_row_order(64, 4));
  CHECK(model.row_order("model.layers.0.self_attn.k_proj.weight", 32) == io::gguf_row_order(32, 2));
  CHECK(model.row_order("model.layers.0.self_attn.v_proj.weight", 32).empty());
}

TEST_CASE("gguf_llama: a vocabulary is copied from another file", "[io]") {
  const temporary_directory folder;
  io::write_gguf(folder.file("v.gguf"),
                 {{"tokenizer.ggml.model", "llama"},
                  {"tokenizer.ggml.tokens", std::vector<std::string>{"<s>", "a"}},
                  {"general.name", "other"}},
                 {});
  const io::gguf_file source(folder.file("v.gguf"));
  io::gguf_llama model(config_with());
  model.copy_vocabulary(source);
  io::write_gguf(folder.file("m.gguf"), model.metadata(io::gguf_tensor_type::q8_0), {});
  const io::gguf_file file(folder.file("m.gguf"));
  CHECK(file.metadata().find("tokenizer.ggml.model")->second.text() == "llama");
  CHECK(file.metadata().find("tokenizer.ggml.tokens")->second.count() == 2);
  CHECK(file.metadata().find("general.name") == file.metadata().end());
  io::write_gguf(folder.file("n.gguf"), {{"general.name", "x"}}, {});
  const io::gguf_file without(folder.file("n.gguf"));
  check_error(status_code::invalid_argument, {"tokenizer"}, [&] { model.copy_vocabulary(without); });
}

TEST_CASE("gguf_llama: other models and broken configurations are refused", "[io]") {
  const auto refuse = [](status_code code, const std::string& part, const std::string& config) {
    CAPTURE(config);
    check_error(code, {part}, [&] { const io::gguf_llama model(config); });
  };
  constexpr auto malformed = status_code::malformed_file;
  refuse(malformed, "not a JSON object", "[1]");
  refuse(malformed, "not a JSON object", "{");
  refuse(status_code::unsupported, "GPT2LMHeadModel", config_with("", "GPT2LMHeadModel"));
  refuse(status_code::unsupported, "missing", "{}");
  refuse(status_code::unsupported, "attention_bias", config_with(R"(, "attention_bias": true)"));
  refuse(status_code::unsupported, "rope_scaling", config_with(R"(, "rope_scaling": {"type": "linear"})"));
  refuse(malformed, "head_dim", config_with(R"(, "head_dim": -1)"));
  refuse(malformed, "head_dim", config_with(R"(, "head_dim": "x")"));
  refuse(malformed, "hidden_size", R"({"architectures": ["LlamaForCausalLM"], "num_attention_heads": 4})");
  refuse(malformed, "num_attention_heads", R"({"architectures": ["LlamaForCausalLM"]})");
  CHECK_NOTHROW(
      io::gguf_llama(config_with(R"(, "rope_scaling": null, "head_dim": null)", "MistralForCausalLM")));
}
