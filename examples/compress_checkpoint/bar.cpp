// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/bar.hpp>

#include <common/text.hpp>
#include <compress_checkpoint/layer.hpp>

#include <array>
#include <cstdio>

bar::bar(bool is_wanted, const std::vector<const layer_task*>& tasks)
    : num_tasks_(tasks.size()), line_(is_wanted, [this](double seconds) { return text(seconds); }) {
  const std::lock_guard lock(mutex_);
  for (const layer_task* task : tasks) cost_ += estimated_cost(*task);
}

void bar::begin(const layer_task& task) {
  const std::lock_guard lock(mutex_);
  name_ = task.name;
}

void bar::end(const layer_task& task) {
  const std::lock_guard lock(mutex_);
  ++num_done_;
  cost_done_ += estimated_cost(task);
  weights_done_ += static_cast<double>(task.rows * task.cols);
}

std::string bar::text(double seconds) {
  const std::lock_guard lock(mutex_);
  constexpr std::size_t width = 24;
  constexpr std::size_t longest_name = 40;
  const double share = cost_ > 0 ? cost_done_ / cost_ : 1.0;
  const auto filled = static_cast<std::size_t>(share * width);
  std::string line = "[" + std::string(filled, '#') + std::string(width - filled, '.') + "] ";
  line += qlr::sentence(num_done_, '/', num_tasks_);
  if (num_done_ > 0) {
    std::array<char, 80> numbers{};
    (void)std::snprintf(numbers.data(), numbers.size(), "  %.1f million weights/s  %.0f s left",
                        weights_done_ / seconds / 1e6, seconds * (1 - share) / share);
    line += numbers.data();
  }
  const std::string name = printable(name_);
  return line + "  " + (name.size() > longest_name ? "..." + name.substr(name.size() - longest_name) : name);
}
