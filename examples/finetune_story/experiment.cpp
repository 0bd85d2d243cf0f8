// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/experiment.hpp>

#include <common/progress.hpp>

#include <qlr/core/status.hpp>
#include <qlr/matmul/isa.hpp>
#include <qlr/version.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <string>

namespace {

using qlr::index_t;

/// What the terminal shows.
class progress_text {
public:
  progress_text(index_t num_runs, index_t steps_per_run)
      : num_runs_(num_runs), num_steps_(num_runs * steps_per_run) {}

  void add_step(const run_key& key, double loss) {
    const std::lock_guard lock(mutex_);
    ++steps_done_;
    latest_ = key.description();
    loss_ = loss;
  }
  /// Steps that an earlier call of the program did.
  void skip(index_t steps) {
    const std::lock_guard lock(mutex_);
    steps_done_ += steps;
    steps_skipped_ += steps;
  }
  void finish_run() { ++runs_done_; }

  [[nodiscard]] std::string text(double seconds) {
    const std::lock_guard lock(mutex_);
    constexpr int width = 20;
    const double share = static_cast<double>(steps_done_) / static_cast<double>(num_steps_);
    const auto filled = static_cast<std::size_t>(share * width);
    char line[160];
    std::snprintf(line, sizeof line, "[%s%s] %lld/%lld runs  %s: loss %.4f  %.0f s left",
                  std::string(filled, '#').c_str(), std::string(width - filled, '.').c_str(),
                  static_cast<long long>(runs_done_), static_cast<long long>(num_runs_), latest_.c_str(),
                  loss_, seconds_left(seconds));
    return line;
  }

private:
  [[nodiscard]] double seconds_left(double seconds) const {
    const auto done = static_cast<double>(steps_done_ - steps_skipped_);
    return done > 0 ? seconds * static_cast<double>(num_steps_ - steps_done_) / done : 0.0;
  }

  std::mutex mutex_;
  index_t num_runs_;
  index_t num_steps_;
  index_t steps_done_ = 0;
  index_t steps_skipped_ = 0;
  std::atomic<index_t> runs_done_{0};
  std::string latest_ = "starting";
  double loss_ = 0;
};

/// A number that stands for 32-bit words in their order, by FNV-1a's rule.
class word_hash {
public:
  void add(std::uint32_t word) { value_ = (value_ ^ word) * 0x100000001B3U; }
  void add(const qlr::matrix<float>& values) {
    for (index_t i = 0; i < values.size(); ++i) add(std::bit_cast<std::uint32_t>(values.data()[i]));
  }
  void add(const std::vector<std::vector<token_t>>& sequences) {
    for (const std::vector<token_t>& sequence : sequences) {
      for (const token_t token : sequence) add(static_cast<std::uint32_t>(token));
    }
  }
  [[nodiscard]] std::uint64_t value() const { return value_; }

private:
  std::uint64_t value_ = 0xCBF29CE484222325U;
};

/// States belong to the weights and texts that they came from.
std::uint64_t hash_of(const model_weights& weights, const texts& sequences) {
  word_hash hash;
  hash.add(weights.embedding);
  hash.add(weights.final_norm);
  for (const block_weights& block : weights.blocks) {
    hash.add(block.attention_norm);
    hash.add(block.mlp_norm);
    for (const qlr::matrix<float>& weight : block.linear) hash.add(weight);
  }
  hash.add(sequences.training);
  hash.add(sequences.held_out);
  return hash.value();
}

/// Everything that the numbers of a run depend on, besides its key.
std::string experiment_label(const arguments& args, const model_weights& weights, const texts& sequences) {
  const training_options& t = args.training;
  return qlr::sentence("qlr ", qlr::version_string, ' ', qlr::to_string(qlr::default_isa()),
                       ", weights and texts ", hash_of(weights, sequences), ", steps ", t.num_steps, " of ",
                       t.batch_sequences, ", evaluated every ", t.evaluation_interval, ", rate ",
                       t.learning_rate_factor, ", rank ", t.layers.rank, ", group ", t.layers.group_size,
                       ", storage ", t.layers.storage == parameter_storage::bf16 ? "bf16" : "fp32",
                       t.trained == trained_parts::everything ? ", everything" : "");
}

/// The first tokens of texts side by side, as many as calibration needs.
std::vector<token_t> calibration_tokens(const texts& from, batch_shape& shape) {
  constexpr std::size_t most_texts = 64;
  const std::size_t count = std::min(most_texts, from.training.size());
  std::vector<token_t> tokens;
  for (std::size_t i = 0; i < count; ++i)
    tokens.insert(tokens.end(), from.training[i].begin(), from.training[i].end() - 1);
  shape.sequences = static_cast<index_t>(count);
  shape.length = static_cast<index_t>(from.training.front().size()) - 1;
  return tokens;
}

training_curve run_one(const run_key& key, const arguments& args, const training_data& data,
                       const std::string& label, progress_text& shown) {
  training learner(key, args.training, data);
  const std::string path = args.state.empty() ? "" : args.state + "/" + key.file_stem() + ".safetensors";
  if (!path.empty() && std::filesystem::exists(path)) learner.load(path, label);
  shown.skip(learner.num_steps_done());
  while (!learner.is_done()) {
    learner.step();
    shown.add_step(key, learner.curve().training.back());
    const bool is_due = learner.is_done() || learner.num_steps_done() % args.save_interval == 0;
    if (!path.empty() && is_due) learner.save(path, label);
  }
  shown.finish_run();
  return learner.curve();
}

void make_folder(const std::string& path) {
  if (path.empty()) return;
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  qlr::require(!failure, qlr::status_code::io_failure, "cannot make the folder '", path,
               "': ", failure.message());
}

} // namespace

std::vector<finished_run> run_experiment(const arguments& args, const qlr::executor& run) {
  const checkpoint source(args.model);
  const tokenizer words(args.tokenizer, source.config().num_tokens);
  const model_weights weights =
      args.from_scratch ? random_weights(source.config(), args.texts.seed) : copy_weights(source);
  make_folder(args.output);
  make_folder(args.state);
  const story_texts stories = make_texts(make_dense_model(source), words, args.texts, run);
  const texts& sequences = args.task == "plain" ? stories.plain : stories.shifted;
  batch_shape shape;
  const std::vector<token_t> read = calibration_tokens(sequences, shape);
  const layer_covariances covariances = measure_covariances(weights, shape, read);
  const std::string label = experiment_label(args, weights, sequences);

  std::vector<finished_run> results;
  for (const run_key& key : list_runs(args)) results.push_back({key, {}});
  progress_text shown(static_cast<index_t>(results.size()), args.training.num_steps);
  terminal_line line(!args.quiet, [&](double seconds) { return shown.text(seconds); });
  std::atomic<bool> has_failed{false};
  auto task = [&](index_t i) {
    if (has_failed) return; // the report would lack a run anyway; states are kept
    finished_run& result = results[static_cast<std::size_t>(i)];
    try {
      result.curve = run_one(result.key, args, {weights, sequences, covariances}, label, shown);
    } catch (const qlr::error& failure) {
      has_failed = true;
      qlr::fail(failure.code(), result.key.description(), ": ", failure.what());
    }
  };
  run(static_cast<index_t>(results.size()), task);
  return results;
}
