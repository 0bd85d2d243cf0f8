// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/experiment.hpp>

#include <string>
#include <vector>

/// The runs of a method at some bits, over all seeds.
struct summary {
  const training_method* method = nullptr;
  int bits = 0;
  double loss_before = 0; ///< held-out, mean over the seeds
  double loss_after = 0;  ///< likewise
  double lowest = 0;      ///< of loss_after
  double highest = 0;
  double training_loss = 0;                  ///< mean of the last tenth of the steps
  training_curve example{};                  ///< of the first seed
  std::vector<double> mean{}, low{}, high{}; ///< held-out losses along the run
};

/// In the order of the runs.
[[nodiscard]] std::vector<summary> summarise(const std::vector<finished_run>& runs);

void print_table(const arguments& args, const std::vector<summary>& all);

/// One drawing for each number of bits.
void write_charts(const arguments& args, const std::vector<summary>& all);

[[nodiscard]] std::string to_json(const arguments& args, const std::vector<finished_run>& runs,
                                  double seconds);
