// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cuda/simulator/simulated_thread.hpp>

#include <cuda_runtime_api.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace qlr::test {

/// How kernels are simulated from now on, in this process.
inline simulation_options& current_simulation() {
  static simulation_options options;
  return options;
}

/// Kernels launched since the start of the process, by name.
inline std::vector<std::string>& launched_kernels() {
  static std::vector<std::string> names;
  return names;
}

/// Runs one kernel to its end, a few blocks at a time.
template <class Kernel>
class simulation {
public:
  simulation(const Kernel& kernel, const cuda::detail::launch_shape& shape, const simulation_options& options)
      : kernel_(kernel), shape_(shape), options_(options), engine_(options.seed) {}

  void run() {
    while (next_ < shape_.blocks || !blocks_.empty()) {
      while (next_ < shape_.blocks && static_cast<index_t>(blocks_.size()) < options_.resident_blocks) {
        blocks_.push_back(std::make_unique<running_block>(kernel_, next_++, shape_, options_));
      }
      if (run_pass()) {
        num_idle_ = 0;
      } else if (++num_idle_ > 10000) {
        throw std::logic_error(std::string(Kernel::name) +
                               ": threads wait at a barrier or for a flag that never comes");
      }
      std::erase_if(blocks_, [](const auto& block) { return block->is_done(); });
    }
  }

private:
  struct running_thread {
    running_thread(const Kernel& kernel, simulated_block& block, int index, const simulation_options& options)
        : thread(block, index, options), body([this, &kernel] { kernel(thread); }) {
      thread.attach(body);
    }
    simulated_thread thread;
    fiber body;
  };

  struct running_block {
    running_block(const Kernel& kernel, index_t index, const cuda::detail::launch_shape& shape,
                  const simulation_options& options)
        : state(index, shape.blocks, shape) {
      for (int i = 0; i < shape.threads; ++i) threads.emplace_back(kernel, state, i, options);
    }
    [[nodiscard]] bool is_done() const {
      return std::all_of(threads.begin(), threads.end(),
                         [](const running_thread& each) { return each.body.is_done(); });
    }
    simulated_block state;
    std::deque<running_thread> threads;
  };

  /// Each thread that can runs once; false when all of them wait or spin.
  bool run_pass() {
    bool has_progress = false;
    for (const std::size_t b : order_of(blocks_.size())) {
      std::deque<running_thread>& threads = blocks_[b]->threads;
      for (const std::size_t i : order_of(threads.size())) {
        running_thread& each = threads[i];
        if (each.body.is_done() || each.thread.is_waiting()) continue;
        const bool was_spinning = each.thread.is_spinning();
        each.body.resume();
        has_progress = has_progress || !was_spinning || !each.thread.is_spinning();
      }
    }
    return has_progress;
  }

  std::vector<std::size_t> order_of(std::size_t count) {
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (options_.order == thread_order::descending) std::reverse(order.begin(), order.end());
    if (options_.order == thread_order::shuffled) std::shuffle(order.begin(), order.end(), engine_);
    return order;
  }

  const Kernel& kernel_;
  cuda::detail::launch_shape shape_;
  const simulation_options& options_;
  std::mt19937_64 engine_;
  std::vector<std::unique_ptr<running_block>> blocks_;
  index_t next_ = 0;
  int num_idle_ = 0;
};

/// launcher_policy that runs kernels on the host, to their end, before launch() returns.
struct simulated_launcher {
  template <cuda::detail::kernel_body Kernel>
  static bool has_warpgroup_code() {
    return true;
  }

  template <cuda::detail::kernel_body Kernel>
  static void launch(const Kernel& kernel, const cuda::detail::launch_shape& shape, cudaStream_t /*stream*/) {
    if (shape.threads <= 0 || shape.threads > Kernel::most_threads ||
        shape.threads % cuda::detail::warp_size != 0)
      throw std::logic_error(std::string(Kernel::name) + ": bad number of threads");
    launched_kernels().emplace_back(Kernel::name);
    simulation<Kernel>(kernel, shape, current_simulation()).run();
  }
};

} // namespace qlr::test
