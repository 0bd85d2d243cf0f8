// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/report.hpp>

#include <common/output.hpp>
#include <finetune_story/curves.hpp>

#include <qlr/version.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace {

using qlr::index_t;

void add_run(summary& to, const training_curve& curve) {
  const std::vector<double>& losses = curve.held_out;
  if (to.mean.empty()) {
    to.mean.assign(losses.size(), 0.0);
    to.low = to.high = losses;
    to.example = curve;
  }
  for (std::size_t i = 0; i < losses.size(); ++i) {
    to.mean[i] += losses[i];
    to.low[i] = std::min(to.low[i], losses[i]);
    to.high[i] = std::max(to.high[i], losses[i]);
  }
  to.training_loss += curve.final_training_loss();
}

void finish(summary& one, double num_seeds) {
  for (double& loss : one.mean) loss /= num_seeds;
  one.training_loss /= num_seeds;
  one.loss_before = one.mean.front();
  one.loss_after = one.mean.back();
  one.lowest = one.low.back();
  one.highest = one.high.back();
}

curve to_curve(const summary& one) {
  curve result{.name = std::string(one.method->name), .mean = one.mean, .low = one.low, .high = one.high};
  for (const index_t step : one.example.evaluated_at) result.steps.push_back(static_cast<double>(step));
  return result;
}

nlohmann::json to_json(const finished_run& run) {
  return {{"method", run.key.method->name},
          {"bits", run.key.bits},
          {"seed", run.key.seed},
          {"training_loss", run.curve.training},
          {"evaluated_at", run.curve.evaluated_at},
          {"held_out_loss", run.curve.held_out},
          {"final_training_loss", run.curve.final_training_loss()},
          {"weight_bytes", run.curve.weight_bytes},
          {"gradient_bytes", run.curve.gradient_bytes},
          {"optimizer_bytes", run.curve.optimizer_bytes},
          {"refresh_bytes", run.curve.refresh_bytes}};
}

} // namespace

std::vector<summary> summarise(const std::vector<finished_run>& runs) {
  std::vector<summary> all;
  std::vector<double> counts;
  for (const finished_run& run : runs) {
    const bool is_new = all.empty() || all.back().method != run.key.method || all.back().bits != run.key.bits;
    if (is_new) {
      all.push_back({.method = run.key.method, .bits = run.key.bits});
      counts.push_back(0);
    }
    add_run(all.back(), run.curve);
    ++counts.back();
  }
  for (std::size_t i = 0; i < all.size(); ++i) finish(all[i], counts[i]);
  return all;
}

void print_table(const arguments& args, const std::vector<summary>& all) {
  const std::string task = args.task == "plain" ? std::string("stories as the model writes them")
                                                : args.texts.name + " is called " + args.texts.new_name;
  std::printf("%s, %lld steps of %lld texts of %lld tokens, rank %lld, %d seed(s)\n"
              "losses of held-out texts: mean (lowest to highest); memory in KB: weights of linear layers + "
              "gradients + optimizer, of all that learns, without LoQT's refreshes\n\n",
              task.c_str(), static_cast<long long>(args.training.num_steps),
              static_cast<long long>(args.training.batch_sequences),
              static_cast<long long>(args.texts.length), static_cast<long long>(args.training.layers.rank),
              args.num_seeds);
  std::printf("bits  method      before   after   (lowest - highest)  training  memory\n");
  std::vector<summary> sorted = all;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const summary& a, const summary& b) { return a.bits < b.bits; });
  for (const summary& one : sorted) {
    const auto kilobytes = [](index_t bytes) { return static_cast<double>(bytes) / 1024; };
    const std::string bits = one.bits == 0 ? "-" : std::to_string(one.bits);
    std::printf("%4s  %-10s  %6.4f  %6.4f  (%6.4f - %6.4f)    %6.4f    %5.0f + %4.0f + %4.0f\n", bits.c_str(),
                std::string(one.method->name).c_str(), one.loss_before, one.loss_after, one.lowest,
                one.highest, one.training_loss, kilobytes(one.example.weight_bytes),
                kilobytes(one.example.gradient_bytes), kilobytes(one.example.optimizer_bytes));
  }
}

void write_charts(const arguments& args, const std::vector<summary>& all) {
  if (args.output.empty()) return;
  for (const int bits : args.bits) {
    std::vector<curve> curves;
    for (const summary& one : all) {
      if (one.bits == bits || one.bits == 0) curves.push_back(to_curve(one));
    }
    const std::string title = qlr::sentence("Held-out loss at ", bits, " bits");
    write_text(qlr::sentence(args.output, "/loss_", bits, "bit.svg"),
               loss_chart(title, "steps", "cross entropy per token", curves));
  }
}

std::string to_json(const arguments& args, const std::vector<finished_run>& runs, double seconds) {
  nlohmann::json report{
      {"qlr_version", qlr::version_string},
      {"model", args.model},
      {"task", args.task},
      {"from_scratch", args.from_scratch},
      {"steps", args.training.num_steps},
      {"batch", args.training.batch_sequences},
      {"length", args.texts.length},
      {"texts", args.texts.num_training},
      {"held_out", args.texts.num_held_out},
      {"text_seed", args.texts.seed},
      {"name", args.texts.name},
      {"new_name", args.texts.new_name},
      {"seeds", args.num_seeds},
      {"evaluate_every", args.training.evaluation_interval},
      {"learning_rate_factor", args.training.learning_rate_factor},
      {"storage", args.training.layers.storage == parameter_storage::bf16 ? "bf16" : "fp32"},
      {"rank", args.training.layers.rank},
      {"group_size", args.training.layers.group_size},
      {"seconds_total", seconds},
      {"runs", nlohmann::json::array()}};
  for (const finished_run& run : runs) report["runs"].push_back(to_json(run));
  return report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}
