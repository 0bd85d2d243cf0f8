// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace qlr::bench {

/// A line of /proc/self/status in bytes, such as VmHWM (peak) or VmRSS (now); 0 where there is none.
[[nodiscard]] inline double process_memory_bytes(const std::string& field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(field + ":", 0) == 0) return 1024.0 * std::stod(line.substr(field.size() + 1));
  }
  return 0;
}

/// Gives free memory back to the system and makes what is resident now the peak.
inline void reset_peak_memory() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;
}

/// By how much body() raises the peak of resident memory, in bytes, run in a forked child; 0 when it failed.
///
/// The child starts with the pages of the parent, which are subtracted: call it before allocating much.
/// What comes before a reset_peak_memory() in body() does not count.
template <class Body>
[[nodiscard]] double peak_growth_bytes(Body&& body) {
  int ends[2] = {};
  if (pipe(ends) != 0) return 0;
  const pid_t child = fork();
  if (child == 0) {
    malloc_trim(0); // pages of free memory would be used again without growth
    double growth = -process_memory_bytes("VmRSS");
    body();
    growth += process_memory_bytes("VmHWM");
    const bool is_sent = write(ends[1], &growth, sizeof growth) == static_cast<ssize_t>(sizeof growth);
    _exit(is_sent ? 0 : 1);
  }
  close(ends[1]);
  double growth = 0;
  const bool is_received =
      child > 0 && read(ends[0], &growth, sizeof growth) == static_cast<ssize_t>(sizeof growth);
  close(ends[0]);
  if (child > 0) waitpid(child, nullptr, 0);
  return is_received ? growth : 0;
}

} // namespace qlr::bench
