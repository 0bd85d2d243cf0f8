// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <story/checkpoint.hpp>

#include <qlr/core/finite.hpp>
#include <qlr/decompose/reconstruct.hpp>

#include <nlohmann/json.hpp>

#include <charconv>
#include <limits>
#include <utility>

namespace {

using nlohmann::json;
using qlr::index_t;
using qlr::status_code;

/// Reads the numbers of the configuration; every message names the file.
class config_reader {
public:
  config_reader(const qlr::io::checkpoint_folder& files, const std::string& path)
      : where_("model '" + path + "': ") {
    values_ = json::parse(config_text(files), nullptr, false);
    check(values_.is_object(), "its 'config' is not a JSON object");
  }

  [[nodiscard]] index_t size(const char* key) const {
    constexpr index_t largest = std::numeric_limits<std::int32_t>::max();
    const auto found = values_.find(key);
    check(found != values_.end(), "its config has no '", key, "'");
    const bool is_allowed = found->is_number_integer() && *found >= 1 && *found <= largest;
    check(is_allowed, "config ", key, " is ", text(*found), ", allowed are 1 to ", largest);
    return found->get<index_t>();
  }
  [[nodiscard]] double number(const char* key, double otherwise) const {
    const auto found = values_.find(key);
    if (found == values_.end()) return otherwise;
    const double value = found->is_number() ? found->get<double>() : 0.0;
    check(qlr::is_finite(static_cast<float>(value)) && value > 0, "config ", key, " is ", text(*found),
          ", allowed are numbers above 0");
    return value;
  }
  [[nodiscard]] bool flag(const char* key, bool otherwise) const {
    const auto found = values_.find(key);
    if (found == values_.end()) return otherwise;
    check(found->is_boolean(), "config ", key, " is ", text(*found), ", allowed are true and false");
    return found->get<bool>();
  }
  [[nodiscard]] std::string words(const char* key) const {
    const auto found = values_.find(key);
    return found != values_.end() && found->is_string() ? found->get<std::string>() : "";
  }

  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    qlr::require(condition, status_code::malformed_file, where_, parts...);
  }

private:
  /// From the first file that has it.
  [[nodiscard]] std::string config_text(const qlr::io::checkpoint_folder& files) const {
    for (std::size_t i = 0; i < files.num_shards(); ++i) {
      const auto& metadata = files.shard(i).metadata();
      if (const auto found = metadata.find("config"); found != metadata.end()) return found->second;
    }
    check(false, "its metadata has no 'config'");
    return {};
  }

  static std::string text(const json& value) {
    return value.dump(-1, ' ', true, json::error_handler_t::replace);
  }

  std::string where_;
  json values_;
};

/// The number after "theta " in the description of the rotary embedding, or llama2.c's.
double described_rope_base(const std::string& rope) {
  double base = 10000.0;
  const std::string_view word = "theta ";
  const std::size_t at = rope.find(word);
  if (at != std::string::npos)
    (void)std::from_chars(rope.data() + at + word.size(), rope.data() + rope.size(), base);
  return base;
}

bool has_weight(const qlr::io::checkpoint_folder& files, const std::string& name) {
  return files.contains(name) || files.is_compressed(name);
}

model_config read_config(const qlr::io::checkpoint_folder& files, const std::string& path) {
  const config_reader reader(files, path);
  model_config config;
  config.dim = reader.size("dim");
  config.hidden_dim = reader.size("hidden_dim");
  config.num_layers = reader.size("n_layers");
  config.num_heads = reader.size("n_heads");
  config.num_kv_heads = reader.size("n_kv_heads");
  config.num_tokens = reader.size("vocab_size");
  config.context = reader.size("max_seq_len");
  config.has_tied_head = reader.flag("tie_word_embeddings", !has_weight(files, "lm_head.weight"));
  config.norm_epsilon = static_cast<float>(reader.number("rms_norm_eps", 1e-5));
  const std::string rope = reader.words("rope");
  config.rope_base = static_cast<float>(reader.number("rope_theta", described_rope_base(rope)));
  reader.check(config.dim % (2 * config.num_heads) == 0, "config dim is ", config.dim,
               ", it must be a multiple of twice n_heads, which is ", config.num_heads);
  reader.check(config.num_heads % config.num_kv_heads == 0, "config n_heads is ", config.num_heads,
               ", it must be a multiple of n_kv_heads, which is ", config.num_kv_heads);
  reader.check(config.num_tokens > 2, "config vocab_size is ", config.num_tokens,
               ", allowed are 3 and above");
  // Weights stored for the other layout run as well and give nonsense.
  qlr::require(rope.empty() || rope.starts_with("interleaved"), status_code::unsupported, "model '", path,
               "': config rope is '", rope, "', allowed are interleaved pairs");
  return config;
}

checkpoint_block read_block(const qlr::io::checkpoint_folder& files, const model_config& config,
                            index_t block) {
  const std::string prefix = qlr::sentence("model.layers.", block, ".");
  checkpoint_block result;
  result.attention_norm = tensor(files, prefix + "input_layernorm.weight", 1, config.dim);
  result.mlp_norm = tensor(files, prefix + "post_attention_layernorm.weight", 1, config.dim);
  for (int i = 0; i < num_linear_layers; ++i) {
    const std::string name = linear_name(block, i);
    const auto [rows, cols] = linear_shape(config, i);
    if (!files.is_compressed(name)) {
      result.linear[static_cast<std::size_t>(i)] = tensor(files, name, rows, cols);
    }
  }
  return result;
}

void check_shape(bool fits, const std::string& name, index_t rows, index_t cols) {
  qlr::require(fits, status_code::malformed_file, "tensor ", name, " has not the shape ", rows, " x ", cols,
               " that the config needs");
}

} // namespace

std::pair<index_t, index_t> linear_shape(const model_config& config, int layer) {
  const std::array<std::pair<index_t, index_t>, num_linear_layers> shapes{{{config.dim, config.dim},
                                                                           {config.kv_dim(), config.dim},
                                                                           {config.kv_dim(), config.dim},
                                                                           {config.dim, config.dim},
                                                                           {config.hidden_dim, config.dim},
                                                                           {config.hidden_dim, config.dim},
                                                                           {config.dim, config.hidden_dim}}};
  return shapes[static_cast<std::size_t>(layer)];
}

std::string linear_name(index_t block, int layer) {
  return qlr::sentence("model.layers.", block, ".", linear_names[static_cast<std::size_t>(layer)], ".weight");
}

tensor::tensor(const qlr::io::checkpoint_folder& files, const std::string& name, index_t rows, index_t cols) {
  if (files.is_compressed(name)) { // embeddings, which are looked up row by row
    const qlr::io::decomposition_description about = files.describe(name);
    check_shape(about.quantized.rows == rows && about.quantized.cols == cols, name, rows, cols);
    copy_ = qlr::reconstruct(files.read_decomposition(name));
    view_ = std::as_const(copy_).view();
    qlr::require_finite(view_, name);
    return;
  }
  const qlr::io::checkpoint_tensor& found = files.find(name);
  const qlr::io::safetensors_file& file = files.shard(found.shard_index);
  const bool is_vector = rows == 1 && found.info->shape == std::vector{cols};
  check_shape(is_vector || found.info->shape == std::vector{rows, cols}, name, rows, cols);
  if (file.has_f32_view(name)) {
    view_ = file.f32_view(name);
  } else {
    copy_ = file.read_matrix(name);
    view_ = std::as_const(copy_).view();
  }
  qlr::require_finite(view_, name);
}

checkpoint::checkpoint(const std::string& path) : files_(path), config_(read_config(files_, path)) {
  embedding_ = tensor(files_, "model.embed_tokens.weight", config_.num_tokens, config_.dim);
  if (!config_.has_tied_head) head_ = tensor(files_, "lm_head.weight", config_.num_tokens, config_.dim);
  final_norm_ = tensor(files_, "model.norm.weight", 1, config_.dim);
  for (index_t i = 0; i < config_.num_layers; ++i) blocks_.push_back(read_block(files_, config_, i));
}

bool checkpoint::is_compressed() const {
  for (index_t block = 0; block < config_.num_layers; ++block) {
    for (int layer = 0; layer < num_linear_layers; ++layer) {
      if (files_.is_compressed(linear_name(block, layer))) return true;
    }
  }
  return false;
}
