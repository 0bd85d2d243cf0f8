// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <exception>
#include <string>

/// The processes that share the work: those that mpirun started, or this one alone.
class processes {
public:
  processes(int& argc, char**& argv);
  ~processes();
  processes(const processes&) = delete;
  processes& operator=(const processes&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] bool is_first() const { return rank_ == 0; }

  /// Runs body() and waits for all; when it threw in any process, every process throws.
  ///
  /// The message joins those of the processes that failed.
  template <class Body>
  void together(Body&& body) const;

private:
  /// @param complaint  empty: nothing failed here
  void agree(const std::string& complaint) const;

  int rank_ = 0;
  int size_ = 1;
};

template <class Body>
void processes::together(Body&& body) const {
  std::string complaint;
  try {
    body();
  } catch (const std::exception& failure) {
    if (size_ == 1) throw;
    complaint = failure.what();
    if (complaint.empty()) complaint = "an error without a text";
  }
  agree(complaint);
}
