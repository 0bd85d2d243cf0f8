// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// A complete small language model on the fused product: reads a Llama checkpoint, compresses its linear
// layers, writes a text with them, and measures what the compression costs; --help tells the rest.
#include <common/output.hpp>
#include <common/program.hpp>
#include <common/text.hpp>
#include <story/arguments.hpp>
#include <story/compress.hpp>
#include <story/evaluate.hpp>
#include <story/report.hpp>
#include <story/sampler.hpp>
#include <story/sensitivity.hpp>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace {

using qlr::index_t;

std::vector<token_t> encode_prompt(const arguments& args, const tokenizer& words, index_t context) {
  // Before any work on a text that is far too long.
  const auto length = static_cast<index_t>(args.prompt.size());
  const bool may_fit = length / words.longest_token() < context;
  std::vector<token_t> prompt;
  if (may_fit) prompt = words.encode(args.prompt);
  qlr::require(may_fit && static_cast<index_t>(prompt.size()) <= context, qlr::status_code::invalid_argument,
               "prompt has ", length, " bytes, more than the model's context of ", context, " tokens allows");
  return prompt;
}

/// Tokens to generate: as asked for, or as many as fit.
index_t choose_num_tokens(const arguments& args, index_t prompt_tokens, index_t context) {
  const index_t most = context - prompt_tokens + 1; // the last one is not read again
  if (!args.tokens) return std::min(arguments::default_tokens, most);
  qlr::require(*args.tokens <= most, qlr::status_code::invalid_argument, "tokens is ", *args.tokens,
               ", allowed are 0 to ", most, ": the context is ", context, " and the prompt has ",
               prompt_tokens);
  return *args.tokens;
}

/// Writes a text and, unless it is to be quiet, prints it token by token.
void tell(const arguments& args, const tokenizer& words, session& reader, std::vector<token_t> text,
          index_t count, report& result) {
  const bool is_printed = args.json != "-";
  const std::size_t prompt_tokens = text.size();
  const auto add_token = [&](std::size_t i) {
    const std::string_view bytes = words.decode(text[i - 1], text[i]);
    result.text += bytes;
    if (is_printed) std::fputs(printable(bytes, "\n\t").c_str(), stdout);
  };
  for (std::size_t i = 1; i < prompt_tokens; ++i) add_token(i);
  const generation story = generate(reader, text, count, sampler(args.temperature, args.seed), [&] {
    add_token(text.size() - 1);
    std::fflush(stdout);
  });
  if (is_printed && text.size() > 1) std::fputc('\n', stdout);
  result.prompt_tokens = static_cast<index_t>(prompt_tokens);
  result.tokens = static_cast<index_t>(text.size() - prompt_tokens);
  result.seconds = story.seconds;
}

void check_compression(const arguments& args, const checkpoint& weights) {
  qlr::require(!weights.is_compressed() || args.compression_option.empty(),
               qlr::status_code::invalid_argument, "model '", args.model, "' is compressed already, ",
               args.compression_option, " needs one that is not");
  qlr::require(weights.is_compressed() || args.reference.empty(), qlr::status_code::invalid_argument,
               "reference is '", args.reference, "', it needs a compressed model; '", args.model,
               "' is compared with itself");
}

/// The model that the other one is compared with, for --reference.
std::optional<checkpoint> open_reference(const arguments& args, const checkpoint& weights) {
  std::optional<checkpoint> reference;
  if (args.reference.empty()) return reference;
  reference.emplace(args.reference);
  qlr::require(!reference->is_compressed() && reference->config() == weights.config(),
               qlr::status_code::invalid_argument, "reference '", args.reference, "' is ",
               reference->is_compressed() ? "compressed" : "a model of another config", ", model '",
               args.model, "' was not made from it");
  return reference;
}

model make_model(const arguments& args, const checkpoint& weights, const qlr::executor& threads,
                 compression& layers) {
  if (weights.is_compressed()) return load_compressed_model(weights, args, layers);
  if (args.is_compressed()) return make_compressed_model(weights, args, threads, layers);
  layers = describe_dense(weights);
  return make_dense_model(weights);
}

/// Against the uncompressed model; a compressed one without --reference against nothing, on texts of its own.
evaluation measure_quality(const arguments& args, const checkpoint& weights,
                           const std::optional<checkpoint>& reference, const model& speaker,
                           const qlr::executor& threads) {
  if (reference) return evaluate(make_dense_model(*reference), speaker, args.mode, threads);
  if (!weights.is_compressed()) return evaluate(make_dense_model(weights), speaker, args.mode, threads);
  evaluation result = evaluate(speaker, speaker, args.mode, threads);
  result.is_of_own_texts = true;
  return result;
}

void run(const arguments& args) {
  const checkpoint weights(args.model);
  check_compression(args, weights);
  const std::optional<checkpoint> reference = open_reference(args, weights);
  const tokenizer words(args.tokenizer, weights.config().num_tokens);
  const index_t context = weights.config().context;
  const std::vector<token_t> prompt = encode_prompt(args, words, context);
  const index_t count = choose_num_tokens(args, static_cast<index_t>(prompt.size()), context);
  const std::string json_file = args.json == "-" ? "" : args.json;
  check_outputs({json_file, args.sensitivity});

  qlr::thread_pool pool(args.threads);
  const qlr::executor threads(pool);
  compression layers;
  model speaker = make_model(args, weights, threads, layers);
  if (!args.quiet) print_header(args, weights.config(), layers);
  report result{args, layers};
  result.threads = pool.num_threads();
  session reader(speaker, std::min(context, static_cast<index_t>(prompt.size()) + count), args.mode, threads);
  tell(args, words, reader, prompt, count, result);
  if (args.evaluate) result.quality = measure_quality(args, weights, reference, speaker, threads);
  if (!args.sensitivity.empty()) {
    write_text(args.sensitivity, sensitivity_json(weights, speaker, layers, args.mode, threads));
  }
  if (!args.quiet) print_summary(result);
  if (!args.json.empty()) write_text(args.json, to_json(result));
}

} // namespace

int main(int argc, char** argv) {
  return run_program("story", [&] { run(parse_arguments(argc, argv)); });
}
