// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>

#include <algorithm>
#include <atomic>
#include <concepts>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace qlr {

/// Non-owning reference to a callable `void(index_t)`; valid while the callable lives.
class task_ref {
public:
  template <class F>
    requires(std::invocable<F&, index_t> && !std::same_as<std::remove_cvref_t<F>, task_ref>)
  task_ref(F&& task) // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(task)))),
        call_([](void* object, index_t index) {
          (*static_cast<std::remove_reference_t<F>*>(object))(index);
        }) {}

  void operator()(index_t index) const { call_(object_, index); }

private:
  void* object_;
  void (*call_)(void*, index_t);
};

/// Non-owning reference to whatever runs `task(0) ... task(num_tasks - 1)`; the default runs them in order.
///
/// Work is always cut into the same tasks whatever runs them, so results have the same bits on any number of
/// threads. A callable given to it must run every task exactly once, in any order, and return after the last.
class executor {
public:
  executor() = default;

  /// Wraps a caller's own `parallel_for(num_tasks, task)`.
  template <class F>
    requires(std::invocable<F&, index_t, task_ref> && !std::same_as<std::remove_cvref_t<F>, executor>)
  executor(F& parallel_for) // NOLINT(google-explicit-constructor)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(parallel_for)))),
        call_([](void* object, index_t num_tasks, task_ref task) {
          (*static_cast<F*>(object))(num_tasks, task);
        }) {}

  void operator()(index_t num_tasks, task_ref task) const {
    if (call_ != nullptr && num_tasks > 1) {
      call_(object_, num_tasks, task);
    } else {
      for (index_t i = 0; i < num_tasks; ++i) task(i);
    }
  }

private:
  void* object_ = nullptr;
  void (*call_)(void*, index_t, task_ref) = nullptr;
};

/// Calls `body(begin, end)` for consecutive ranges of at most `grain` indices that cover [0, count).
template <std::invocable<index_t, index_t> Body>
void for_each_range(const executor& run, index_t count, index_t grain, Body&& body) {
  const index_t num_ranges = (count + grain - 1) / grain;
  auto task = [&](index_t range) { body(range * grain, std::min(count, (range + 1) * grain)); };
  run(num_ranges, task);
}

/// A fixed set of threads; the calling thread works too.
///
/// Convertible to `executor`. An exception thrown by a task is rethrown to the caller once all threads are
/// idle; of several, the one with the lowest task index. A call from within a task runs serially.
class thread_pool {
public:
  /// @param num_threads  threads that work at once, the caller included; 0 = one per hardware thread
  /// @throws qlr::error invalid_argument: num_threads < 0
  /// @throws std::system_error: the system starts no further thread
  explicit thread_pool(int num_threads = 0) {
    require(num_threads >= 0, status_code::invalid_argument, "threads is ", num_threads,
            ", allowed are 0 (one per hardware thread) and above");
    const int hardware = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    const int total = num_threads == 0 ? hardware : num_threads;
    workers_.reserve(static_cast<std::size_t>(total - 1));
    rollback on_failure{this}; // threads that run already use this object
    for (int i = 1; i < total; ++i) workers_.emplace_back([this] { work(); });
    on_failure.pool = nullptr;
  }

  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  ~thread_pool() { stop(); }

  [[nodiscard]] int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Runs task(0) ... task(num_tasks - 1); safe to call from several threads at once (calls then take turns).
  void operator()(index_t num_tasks, task_ref task) {
    if (workers_.empty() || num_tasks <= 1 || is_inside_task()) {
      for (index_t i = 0; i < num_tasks; ++i) task(i);
      return;
    }
    const std::lock_guard turn(turn_);
    job current{task, num_tasks};
    {
      const std::lock_guard lock(mutex_);
      current_ = &current;
      ++generation_;
    }
    wake_.notify_all();
    help(current);
    {
      const std::lock_guard lock(mutex_);
      current_ = nullptr; // a worker that wakes late finds nothing to do
    }
    wait_awake([&] { return current.num_helpers == 0; });
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [&] { return current.num_helpers == 0; });
    if (current.failure) std::rethrow_exception(current.failure);
  }

private:
  struct job {
    task_ref task;
    index_t num_tasks;
    std::atomic<index_t> next{0};
    std::atomic<int> num_helpers{0}; // changes only under mutex_
    std::exception_ptr failure;      // guarded by mutex_
    index_t failed_index = 0;        // guarded by mutex_
    job(task_ref t, index_t n) : task(t), num_tasks(n) {}
  };

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  struct rollback {
    thread_pool* pool;
    ~rollback() {
      if (pool != nullptr) pool->stop();
    }
  };

  /// Waits about a hundred microseconds for what usually happens soon: a sleeping thread takes long to wake.
  template <class Condition>
  static void wait_awake(Condition&& condition) {
    constexpr int attempts = 500;
    for (int i = 0; i < attempts && !condition(); ++i) std::this_thread::yield();
  }

  static bool& is_inside_task() {
    thread_local bool inside = false;
    return inside;
  }

  void help(job& current) {
    is_inside_task() = true;
    for (index_t i = current.next++; i < current.num_tasks; i = current.next++) run_one(current, i);
    is_inside_task() = false;
  }

  void run_one(job& current, index_t index) {
#if QLR_HAS_EXCEPTIONS
    try {
      current.task(index);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!current.failure || index < current.failed_index) {
        current.failure = std::current_exception();
        current.failed_index = index;
      }
    }
#else
    current.task(index);
#endif
  }

  void work() {
    std::uint64_t seen = 0;
    for (;;) {
      wait_awake([&] { return stopping_ || generation_ != seen; });
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
      if (current_ == nullptr) continue; // too late for that job; stay awake for the next
      job& current = *current_;
      ++current.num_helpers;
      lock.unlock();
      help(current);
      lock.lock();
      if (--current.num_helpers == 0) idle_.notify_all();
    }
  }

  std::vector<std::thread> workers_;
  std::mutex turn_; // one job at a time
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  job* current_ = nullptr;
  std::atomic<std::uint64_t> generation_{0}; // changes only under mutex_, as does stopping_
  std::atomic<bool> stopping_{false};
};

} // namespace qlr
