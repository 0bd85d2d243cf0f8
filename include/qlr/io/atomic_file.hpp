// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/io/detail/system_file.hpp>
#include <qlr/io/detail/text.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace qlr::io {

/// Writes a file that appears under its name complete or not at all.
///
/// Bytes go to "PATH.tmp-<unique>" beside the target; commit() renames it over the target, anything else
/// removes it. A symbolic link at the target is replaced, not followed.
class atomic_file {
public:
  /// @throws qlr::error io_failure: the directory is missing or not writable, or the target is not a regular
  /// file
  explicit atomic_file(std::string path) : path_(std::move(path)) {
    // Renaming over a device such as /dev/null would destroy it for the whole system.
    require(detail::check_regular_file(path_) != EEXIST, status_code::io_failure, "cannot write ",
            detail::quote(path_), ": it exists and is not a regular file");
    int status = EEXIST;
    for (int attempt = 0; status == EEXIST && attempt < 100; ++attempt) {
      temporary_ = path_ + ".tmp-" + unique_suffix();
      status = handle_.create(temporary_);
    }
    if (status != 0) temporary_.clear();
    check(status);
  }

  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;
  ~atomic_file() { discard(); }

  /// Appends.
  ///
  /// @throws qlr::error io_failure: the disk is full or the device failed; the temporary file is gone then
  /// @pre not committed and no earlier call has failed
  void write(std::span<const std::byte> bytes) { check(handle_.write(bytes)); }

  /// @copydoc write(std::span<const std::byte>)
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// Flushes to the device and gives the file its name; an older file of that name is replaced.
  ///
  /// @throws qlr::error io_failure: the system refused; the target is as before and the temporary file is
  /// gone
  /// @pre not committed and no earlier call has failed
  void commit() {
    check(handle_.flush_to_disk());
    check(handle_.close());
    check(detail::replace_file(temporary_, path_));
    temporary_.clear();
  }

private:
  // The exclusive open decides whether a name is free; this only has to make a clash unlikely.
  static std::string unique_suffix() {
    static std::atomic<std::uint64_t> counter{0};
    const auto ticks = std::chrono::system_clock::now().time_since_epoch().count();
    return std::to_string(ticks) + "-" + std::to_string(counter++);
  }

  // Removes first and reports then: without exceptions the report does not return.
  void check(int status) {
    if (status == 0) return;
    discard();
    fail(status_code::io_failure, "cannot write ", detail::quote(path_), ": ", detail::reason(status));
  }

  void discard() noexcept {
    if (temporary_.empty()) return;
    (void)handle_.close();
    (void)std::remove(temporary_.c_str());
    temporary_.clear();
  }

  std::string path_;
  std::string temporary_; // empty once it is renamed or removed
  detail::output_handle handle_;
};

} // namespace qlr::io
