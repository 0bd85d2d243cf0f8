// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/core/parallel.hpp>

#include "../support/catch.hpp"
#include "../support/oracles.hpp"

#include <atomic>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// Sanitizers reserve more address space than the limit allows.
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define QLR_TEST_CAN_LIMIT_MEMORY 1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef QLR_TEST_CAN_LIMIT_MEMORY
#endif
#endif
#ifdef QLR_TEST_CAN_LIMIT_MEMORY
#include <fstream>
#include <sys/resource.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#endif

using namespace qlr;
using namespace qlr::test;

namespace {

using counts = std::vector<std::atomic<int>>;

bool all_are_one(const counts& runs) {
  for (const std::atomic<int>& count : runs) {
    if (count.load() != 1) return false;
  }
  return true;
}

bool runs_each_task_once(const executor& run, index_t num_tasks) {
  counts runs(static_cast<std::size_t>(num_tasks));
  auto task = [&](index_t i) { ++runs.at(static_cast<std::size_t>(i)); };
  run(num_tasks, task);
  return all_are_one(runs);
}

/// Text of the exception that a run of tasks ends with; each index in `bad` throws.
std::string failure_of(const executor& run, index_t num_tasks, const std::vector<index_t>& bad) {
  auto task = [&](index_t i) {
    for (const index_t index : bad) {
      if (i == index) throw std::runtime_error(std::to_string(i));
    }
  };
  try {
    run(num_tasks, task);
  } catch (const std::runtime_error& failure) {
    return failure.what();
  }
  return {};
}

} // namespace

TEST_CASE("threads: a pool runs every task exactly once", "[core][threads]") {
  for (const int num_threads : {1, 2, 3, 8}) {
    thread_pool pool(num_threads);
    CHECK(pool.num_threads() == num_threads);
    CAPTURE(num_threads);
    for (const index_t num_tasks : {0, 1, 2, 3, 7, 8, 9, 1000}) {
      CAPTURE(num_tasks);
      bool is_right = true; // many short jobs in a row: workers wake up late, or for the next job
      for (int repeat = 0; repeat < 60; ++repeat) is_right = is_right && runs_each_task_once(pool, num_tasks);
      CHECK(is_right);
    }
  }
}

TEST_CASE("threads: a pool of two runs two tasks at the same time", "[core][threads]") {
  thread_pool pool(2);
  std::atomic<int> started{0};
  std::atomic<bool> have_met{true};
  auto task = [&](index_t) {
    ++started;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (started.load() < 2) {
      if (std::chrono::steady_clock::now() > deadline) {
        have_met = false;
        return;
      }
      std::this_thread::yield();
    }
  };
  pool(2, task);
  CHECK(have_met.load());
}

TEST_CASE("threads: a call returns after the last task even when a worker is slow", "[core][threads]") {
  thread_pool pool(2);
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> started{0};
  std::atomic<int> finished{0};
  auto task = [&](index_t) {
    ++started;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (started.load() < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    if (std::this_thread::get_id() != caller) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ++finished;
  };
  pool(2, task);
  CHECK(finished.load() == 2);
}

TEST_CASE("threads: a pool without workers runs tasks in order on the caller", "[core][threads]") {
  thread_pool pool(1);
  std::vector<index_t> order;
  const std::thread::id caller = std::this_thread::get_id();
  auto task = [&](index_t i) {
    CHECK(std::this_thread::get_id() == caller);
    order.push_back(i);
  };
  pool(4, task);
  CHECK(order == std::vector<index_t>{0, 1, 2, 3});
}

TEST_CASE("threads: the exception of the lowest failing task reaches the caller", "[core][threads]") {
  for (const int num_threads : {1, 2, 5}) {
    thread_pool pool(num_threads);
    CAPTURE(num_threads);
    for (int repeat = 0; repeat < 50; ++repeat) {
      CHECK(failure_of(pool, 40, {17}) == "17");
      CHECK(failure_of(pool, 40, {39, 3, 21}) == "3");
      CHECK(failure_of(pool, 2, {0, 1}) == "0");
      CHECK(failure_of(pool, 40, {}).empty());
    }
    CHECK(runs_each_task_once(pool, 100)); // the pool still works
  }
}

TEST_CASE("threads: after a failure the remaining tasks of a pool still run", "[core][threads]") {
  thread_pool pool(3);
  counts runs(50);
  auto task = [&](index_t i) {
    ++runs[static_cast<std::size_t>(i)];
    if (i == 5) fail(status_code::numerical_failure, "task ", i);
  };
  CHECK(report_of([&] { pool(50, task); }).says(status_code::numerical_failure, "task 5"));
  CHECK(all_are_one(runs)); // nothing is left running when the call returns
}

TEST_CASE("threads: a call from within a task runs serially and completes", "[core][threads]") {
  thread_pool pool(3);
  thread_pool other(2);
  for (thread_pool* const inner : {&pool, &other}) {
    counts runs(8 * 16);
    auto outer_task = [&](index_t i) {
      const std::thread::id self = std::this_thread::get_id();
      auto inner_task = [&](index_t j) {
        if (std::this_thread::get_id() == self) ++runs[static_cast<std::size_t>(16 * i + j)];
      };
      (*inner)(16, inner_task);
    };
    pool(8, outer_task);
    CHECK(all_are_one(runs));
  }
}

TEST_CASE("threads: an exception inside a nested call reaches the outer caller", "[core][threads]") {
  thread_pool pool(3);
  auto outer_task = [&](index_t i) {
    auto inner_task = [&](index_t j) {
      if (i == 2 && j == 3) throw std::runtime_error("inner");
    };
    pool(5, inner_task);
  };
  CHECK_THROWS_AS(pool(6, outer_task), std::runtime_error);
  CHECK(runs_each_task_once(pool, 64));
}

TEST_CASE("threads: several callers of one pool take turns", "[core][threads]") {
  thread_pool pool(3);
  std::atomic<int> num_wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&pool, &num_wrong, caller] {
      for (int repeat = 0; repeat < 50; ++repeat) {
        if (!runs_each_task_once(pool, 20 + caller)) ++num_wrong;
        if (failure_of(pool, 20, {static_cast<index_t>(caller)}) != std::to_string(caller)) ++num_wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(num_wrong.load() == 0);
}

TEST_CASE("threads: what tasks wrote is visible to the caller", "[core][threads]") {
  thread_pool pool(4);
  for (int repeat = 0; repeat < 100; ++repeat) {
    std::vector<index_t> squares(64, -1); // plain memory: the thread sanitizer checks the hand-over
    auto task = [&](index_t i) { squares[static_cast<std::size_t>(i)] = i * i; };
    pool(64, task);
    index_t sum = 0;
    for (const index_t square : squares) sum += square;
    CHECK(sum == 85344); // 63 * 64 * 127 / 6
  }
}

TEST_CASE("threads: a negative number of threads is refused and zero means all", "[core][threads]") {
  CHECK(report_of([] {
          thread_pool pool(-1);
        }).says(status_code::invalid_argument, "threads is -1, allowed are 0"));
  CHECK(thread_pool(0).num_threads() >= 1);
}

#ifdef QLR_TEST_CAN_LIMIT_MEMORY
TEST_CASE("threads: a pool that cannot start all its threads throws and stops the others",
          "[core][threads]") {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) { // in a process of its own, whose memory suffices for a few stacks
    alarm(30);      // ends it when the constructor hangs
    long pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t bytes = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE)) + (rlim_t{64} << 20U);
    const rlimit limit{bytes, bytes};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(2);
    try {
      thread_pool pool(1000);
    } catch (const std::system_error&) {
      _exit(0);
    }
    _exit(1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
#endif

TEST_CASE("executor: the default runs tasks in order on the caller", "[core]") {
  std::vector<index_t> order;
  auto task = [&](index_t i) { order.push_back(i); };
  const executor run;
  run(5, task);
  CHECK(order == std::vector<index_t>{0, 1, 2, 3, 4});
  run(0, task);
  CHECK(order.size() == 5);
  CHECK(failure_of({}, 5, {3, 2}) == "2");
}

TEST_CASE("executor: a caller's own callable runs the tasks", "[core][threads]") {
  SECTION("a lambda in reverse order") {
    int num_calls = 0;
    auto backwards = [&](index_t num_tasks, task_ref task) {
      ++num_calls;
      for (index_t i = num_tasks; i-- > 0;) task(i);
    };
    const executor run = backwards;
    CHECK(runs_each_task_once(run, 9));
    CHECK(num_calls == 1);
    CHECK(runs_each_task_once(run, 1)); // one task needs no help
    CHECK(num_calls == 1);
  }
  SECTION("a constant std::function that starts threads") {
    const std::function<void(index_t, const std::function<void(index_t)>&)> spawn =
        [](index_t num_tasks, const std::function<void(index_t)>& task) {
          std::vector<std::thread> threads;
          for (index_t i = 0; i < num_tasks; ++i) threads.emplace_back(task, i);
          for (std::thread& thread : threads) thread.join();
        };
    CHECK(runs_each_task_once(spawn, 4));
  }
  SECTION("a copy of an executor uses the same callable") {
    thread_pool pool(2);
    const executor run = pool;
    const executor copy = run; // NOLINT(performance-unnecessary-copy-initialization)
    CHECK(runs_each_task_once(copy, 30));
  }
}

TEST_CASE("for_each_range: the ranges cover all indices once and do not depend on the executor",
          "[core][threads]") {
  thread_pool pool(3);
  for (const executor& run : {executor(), executor(pool)}) {
    for (const index_t count : {0, 1, 15, 16, 17, 100}) {
      for (const index_t grain : {1, 7, 16, 1000}) {
        CAPTURE(count, grain);
        counts visits(static_cast<std::size_t>(count));
        std::atomic<int> num_bad{0};
        for_each_range(run, count, grain, [&](index_t begin, index_t end) {
          if (begin % grain != 0 || begin >= end || end - begin > grain) ++num_bad;
          for (index_t i = begin; i < end; ++i) ++visits.at(static_cast<std::size_t>(i));
        });
        CHECK(all_are_one(visits));
        CHECK(num_bad.load() == 0);
      }
    }
  }
}
