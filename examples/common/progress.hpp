// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

/// Shows on a terminal's standard error that work longer than a second is going on; nothing anywhere else.
class progress {
public:
  /// @param what  of which a number is shown: "iteration 3 is running"
  progress(bool is_wanted, const char* what) : what_(what) {
#if __has_include(<unistd.h>)
    if (is_wanted && isatty(STDERR_FILENO) != 0) worker_ = std::thread([this] { show(); });
#else
    (void)is_wanted;
#endif
  }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  ~progress() {
    {
      const std::lock_guard lock(mutex_);
      is_done_ = true;
    }
    changed_.notify_all();
    if (worker_.joinable()) worker_.join();
  }

  /// @param num_done  steps that are finished
  void set_step(int num_done) {
    const std::lock_guard lock(mutex_);
    clear_line();
    num_done_ = num_done;
  }

private:
  void show() {
    using namespace std::chrono_literals;
    const auto start = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex_);
    auto pause = std::chrono::milliseconds(1000);
    while (!changed_.wait_for(lock, pause, [this] { return is_done_; })) {
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      std::fprintf(stderr, "\r%s %d is running, %.0f s", what_, num_done_ + 1, seconds);
      std::fflush(stderr);
      is_shown_ = true;
      pause = 250ms;
    }
    clear_line();
  }

  void clear_line() {
    if (is_shown_) std::fprintf(stderr, "\r%40s\r", "");
    is_shown_ = false;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  const char* what_;
  int num_done_ = 0;
  bool is_done_ = false;
  bool is_shown_ = false;
  std::thread worker_; // last: it uses the other members
};
