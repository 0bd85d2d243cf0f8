// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <compress_checkpoint/selection.hpp>

#include <common/progress.hpp>

#include <mutex>
#include <string>
#include <vector>

/// Shows on a terminal how much is done, how fast, and how long the rest takes.
class bar {
public:
  bar(bool is_wanted, const std::vector<const layer_task*>& tasks);

  void begin(const layer_task& task);
  void end(const layer_task& task);

private:
  [[nodiscard]] std::string text(double seconds);

  std::size_t num_tasks_;
  std::mutex mutex_; // of what follows: text() runs on another thread
  std::size_t num_done_ = 0;
  double cost_done_ = 0;
  double cost_ = 0;
  double weights_done_ = 0;
  std::string name_;
  terminal_line line_; // last: its thread reads the other members
};
