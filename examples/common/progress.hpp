// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

/// A line that is rewritten on a terminal's standard error after a second of work; nothing anywhere else.
class terminal_line {
public:
  /// @param text  what to show after so many seconds; called on a thread of its own
  terminal_line(bool is_wanted, std::function<std::string(double seconds)> text) : text_(std::move(text)) {
#if __has_include(<unistd.h>)
    if (is_wanted && isatty(STDERR_FILENO) != 0) worker_ = std::thread([this] { show(); });
#else
    (void)is_wanted;
#endif
  }
  terminal_line(const terminal_line&) = delete;
  terminal_line& operator=(const terminal_line&) = delete;
  ~terminal_line() {
    {
      const std::lock_guard lock(mutex_);
      is_done_ = true;
    }
    changed_.notify_all();
    if (worker_.joinable()) worker_.join();
  }

  /// Takes the line away, so that something else can be printed.
  void clear() {
    const std::lock_guard lock(mutex_);
    erase();
  }

private:
  void show() {
    using namespace std::chrono_literals;
    const auto start = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex_);
    auto pause = std::chrono::milliseconds(1000);
    while (!changed_.wait_for(lock, pause, [this] { return is_done_; })) {
      const std::string text =
          text_(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      // \x1b[K: what a longer line left behind
      std::fprintf(stderr, "\r%s\x1b[K", text.c_str());
      std::fflush(stderr);
      is_shown_ = true;
      pause = 250ms;
    }
    erase();
  }

  void erase() {
    if (is_shown_) std::fprintf(stderr, "\r\x1b[K");
    is_shown_ = false;
  }

  std::function<std::string(double)> text_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_done_ = false;
  bool is_shown_ = false;
  std::thread worker_; // last: it uses the other members
};

/// Shows that a numbered step is running: "iteration 3 is running, 12 s".
class progress {
public:
  progress(bool is_wanted, std::string what)
      : line_(is_wanted, [this, what = std::move(what)](double seconds) {
          return what + ' ' + std::to_string(num_done_ + 1) + " is running, " +
                 std::to_string(static_cast<long long>(seconds)) + " s";
        }) {}

  /// @param num_done  steps that are finished
  void set_step(int num_done) {
    num_done_ = num_done;
    line_.clear();
  }

private:
  std::atomic<int> num_done_{0};
  terminal_line line_; // last: its thread reads the other member
};
