// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>

namespace qlr::detail {

/// Adds the time until it is destroyed to a counter.
class stopwatch {
public:
  explicit stopwatch(double& seconds) : seconds_(seconds), start_(clock::now()) {}
  stopwatch(const stopwatch&) = delete;
  stopwatch& operator=(const stopwatch&) = delete;
  ~stopwatch() { seconds_ += std::chrono::duration<double>(clock::now() - start_).count(); }

private:
  using clock = std::chrono::steady_clock;
  double& seconds_;
  clock::time_point start_;
};

} // namespace qlr::detail
