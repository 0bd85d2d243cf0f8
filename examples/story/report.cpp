// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <common/text.hpp>
#include <story/report.hpp>

#include <qlr/version.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>

namespace {

using json = nlohmann::ordered_json;

std::optional<double> tokens_per_second(const report& run) {
  if (run.tokens == 0 || run.seconds <= 0) return std::nullopt;
  return static_cast<double>(run.tokens) / run.seconds;
}

/// The value, or null when there is none.
template <class T>
json value_if(bool is_there, const T& value) {
  return is_there ? json(value) : json(nullptr);
}

void add_quality(json& out, const std::optional<evaluation>& quality) {
  const evaluation found = quality.value_or(evaluation{});
  const auto add = [&](const char* key, const auto& value) {
    out[key] = value_if(quality.has_value(), value);
  };
  const auto add_compared = [&](const char* key, double value) {
    out[key] = value_if(quality.has_value() && !found.is_of_own_texts, value);
  };
  add("perplexity", found.perplexity);
  add_compared("perplexity_fp32", found.perplexity_fp32);
  add_compared("kl_divergence", found.kl_divergence);
  add_compared("top1_agreement", found.top1_agreement);
  add("evaluated_tokens", found.num_tokens);
}

} // namespace

void print_header(const arguments& args, const model_config& config, const compression& layers) {
  std::printf("%s  dim %lld, %lld layers, %lld tokens; ", printable(args.model).c_str(),
              static_cast<long long>(config.dim), static_cast<long long>(config.num_layers),
              static_cast<long long>(config.num_tokens));
  if (layers.was_compressed) {
    std::printf("compressed already\nlinear layers  %lld weights in %lld bytes, %.3f bits each; %.2f s\n\n",
                static_cast<long long>(layers.num_weights), static_cast<long long>(layers.packed_bytes),
                layers.bits_per_weight(), layers.seconds);
  } else if (args.is_compressed()) {
    const std::string formats = args.plan.empty() ? qlr::sentence(args.quantizer, ", rank ", args.rank)
                                                  : "plan " + printable(args.plan);
    std::printf("%s, %s\n", args.method.c_str(), formats.c_str());
    std::printf("linear layers  %lld weights in %lld bytes, %.3f bits each; relative error %.6f; %.2f s\n\n",
                static_cast<long long>(layers.num_weights), static_cast<long long>(layers.packed_bytes),
                layers.bits_per_weight(), layers.relative_error, layers.seconds);
  } else {
    std::printf("not compressed\n\n");
  }
  std::fflush(stdout);
}

void print_summary(const report& run) {
  if (const auto speed = tokens_per_second(run)) {
    std::printf("\n%lld tokens, %.0f tokens per second (", static_cast<long long>(run.tokens), *speed);
    if (run.args.is_compressed()) {
      std::printf("%s, %s, ", std::string(to_string(run.args.instruction_set)).c_str(),
                  std::string(to_string(run.args.mode)).c_str());
    }
    std::printf("%d threads)\n", run.threads);
  }
  if (!run.quality) return;
  if (run.quality->is_of_own_texts) {
    std::printf(
        "perplexity          %.4f   (%lld texts of its own, %lld tokens; no --reference to compare with)\n",
        run.quality->perplexity, static_cast<long long>(run.quality->num_texts),
        static_cast<long long>(run.quality->num_tokens));
    return;
  }
  std::printf("perplexity          %.4f   (fp32 %.4f; %lld texts of the fp32 model, %lld tokens)\n",
              run.quality->perplexity, run.quality->perplexity_fp32,
              static_cast<long long>(run.quality->num_texts),
              static_cast<long long>(run.quality->num_tokens));
  std::printf("KL divergence       %.6f nats per token\n", run.quality->kl_divergence);
  std::printf("top-1 agreement     %.2f %%\n", 100.0 * run.quality->top1_agreement);
  std::printf("bits per weight     %.4f   (%lld bytes packed)\n", run.layers.bits_per_weight(),
              static_cast<long long>(run.layers.packed_bytes));
}

std::string to_json(const report& run) {
  const arguments& args = run.args;
  const bool is_compressed = args.is_compressed(); // in the file or here
  const bool is_made_here = is_compressed && !run.layers.was_compressed;
  json out;
  out["qlr_version"] = qlr::version_string;
  out["model"] = args.model;
  out["tokenizer"] = args.tokenizer;
  out["reference"] = value_if(!args.reference.empty(), args.reference);
  out["method"] = value_if(!run.layers.was_compressed, args.method);
  const bool is_uniform = is_made_here && args.plan.empty();
  out["plan"] = value_if(!args.plan.empty(), args.plan);
  out["quantizer"] = value_if(is_uniform, args.quantizer);
  out["group_size"] = value_if(is_uniform, run.layers.group_size);
  out["scale"] = value_if(is_uniform, run.layers.scales);
  out["factor_bits"] = value_if(is_uniform, args.factor_bits);
  out["rank"] = value_if(is_uniform, args.rank);
  out["seed"] = args.seed;
  out["temperature"] = args.temperature;
  out["prompt"] = args.prompt;
  out["prompt_tokens"] = run.prompt_tokens;
  out["text"] = run.text;
  out["tokens"] = run.tokens;
  const std::optional<double> speed = tokens_per_second(run);
  out["tokens_per_second"] = value_if(speed.has_value(), speed.value_or(0.0));
  add_quality(out, run.quality);
  out["relative_error"] = value_if(is_made_here, run.layers.relative_error);
  out["bits_per_weight"] = run.layers.bits_per_weight();
  out["packed_bytes"] = run.layers.packed_bytes;
  out["seconds_decompose"] = value_if(is_made_here, run.layers.seconds);
  out["instruction_set"] = value_if(is_compressed, to_string(args.instruction_set));
  out["precision"] = value_if(is_compressed, to_string(args.mode));
  out["threads"] = run.threads;
  // Tokens may end within a character, and a path need not be UTF-8.
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}
