// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <ucontext.h>

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#define QLR_TEST_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define QLR_TEST_HAS_ASAN 1
#endif
#endif
#if defined(QLR_TEST_HAS_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

// swapcontext saves the signal mask by a system call, which takes most of the time of a simulation. _longjmp
// does not, but sanitizers and fortified C libraries mistake a jump to another stack for an error.
#if !defined(QLR_TEST_HAS_ASAN) && !defined(__SANITIZE_THREAD__) &&                                          \
    !(defined(__USE_FORTIFY_LEVEL) && __USE_FORTIFY_LEVEL > 0) && defined(__GLIBC__)
#define QLR_TEST_HAS_FAST_SWITCH 1
#endif

namespace qlr::test {

/// A function with a stack of its own that runs in turns with its caller: resume() runs it up to its next
/// yield().
class fiber {
public:
  explicit fiber(std::function<void()> body) : body_(std::move(body)) {
    getcontext(&own_);
    own_.uc_stack.ss_sp = stack_.get();
    own_.uc_stack.ss_size = stack_bytes;
    own_.uc_link = nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(this);
    makecontext(&own_, reinterpret_cast<void (*)()>(&fiber::enter), 2, static_cast<unsigned>(address),
                static_cast<unsigned>(address >> 32U));
  }
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;
  ~fiber() = default;

  [[nodiscard]] bool is_done() const { return is_done_; }

  /// Rethrows what the body threw.
  void resume() {
#if defined(QLR_TEST_HAS_ASAN)
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, stack_.get(), stack_bytes);
    swapcontext(&caller_, &own_);
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#elif defined(QLR_TEST_HAS_FAST_SWITCH)
    if (_setjmp(caller_place_) == 0) {
      if (has_place_) _longjmp(own_place_, 1);
      setcontext(&own_); // the first time
    }
#else
    swapcontext(&caller_, &own_);
#endif
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

  /// Called by the body: back to whoever resumed it.
  void yield() {
#if defined(QLR_TEST_HAS_ASAN)
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(is_done_ ? nullptr : &fake_stack, caller_stack_, caller_bytes_);
    swapcontext(&own_, &caller_);
    __sanitizer_finish_switch_fiber(fake_stack, &caller_stack_, &caller_bytes_);
#elif defined(QLR_TEST_HAS_FAST_SWITCH)
    has_place_ = true;
    if (_setjmp(own_place_) == 0) _longjmp(caller_place_, 1);
#else
    swapcontext(&own_, &caller_);
#endif
  }

private:
  static constexpr std::size_t stack_bytes = 64 * 1024;

  static void enter(unsigned low, unsigned high) {
    const std::uintptr_t address = std::uintptr_t{low} | (std::uintptr_t{high} << 32U);
    reinterpret_cast<fiber*>(address)->run();
  }

  void run() {
#if defined(QLR_TEST_HAS_ASAN)
    __sanitizer_finish_switch_fiber(nullptr, &caller_stack_, &caller_bytes_);
#endif
    try {
      body_();
    } catch (...) {
      failure_ = std::current_exception();
    }
    is_done_ = true;
    yield();
  }

  std::function<void()> body_;
  std::unique_ptr<unsigned char[]> stack_ = std::make_unique_for_overwrite<unsigned char[]>(stack_bytes);
  ucontext_t own_{};
  ucontext_t caller_{};
#if defined(QLR_TEST_HAS_FAST_SWITCH)
  std::jmp_buf own_place_{};
  std::jmp_buf caller_place_{};
  bool has_place_ = false;
#endif
  std::exception_ptr failure_;
  bool is_done_ = false;
#if defined(QLR_TEST_HAS_ASAN)
  const void* caller_stack_ = nullptr;
  std::size_t caller_bytes_ = 0;
#endif
};

} // namespace qlr::test
