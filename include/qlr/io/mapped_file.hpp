// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/io/detail/system_file.hpp>
#include <qlr/io/detail/text.hpp>

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace qlr::io {

/// Read-only contents of a file: a memory map on POSIX systems, a copy in memory elsewhere.
///
/// Move-only; moving keeps the bytes where they are. The file must not be shortened by others meanwhile:
/// reading pages of a map that no longer exist raises SIGBUS. Replacing it by rename, as atomic_file does, is
/// harmless.
class mapped_file {
public:
  /// @throws qlr::error io_failure: the path is missing, unreadable, or not a regular file
  explicit mapped_file(const std::string& path) {
    const int status = contents_.open(path);
    require(status != EINVAL, status_code::io_failure, "cannot read ", detail::quote(path),
            ": it is not a regular file");
    require(status == 0, status_code::io_failure, "cannot read ", detail::quote(path), ": ",
            detail::reason(status));
  }

  /// Valid as long as this object; empty for an empty file.
  [[nodiscard]] std::span<const std::byte> bytes() const { return contents_.bytes(); }
  [[nodiscard]] std::size_t size() const { return bytes().size(); }

  /// Gives the memory of bytes that are not needed soon back to the system, in whole pages, so that a file
  /// larger than memory can be read from end to end. They may be read again at any time, from the disk then.
  ///
  /// @throws qlr::error invalid_argument: the range is not part of bytes()
  void release(std::span<const std::byte> range) const {
    const std::span<const std::byte> all = bytes();
    const std::less_equal<> is_not_after;
    const bool is_inside = is_not_after(all.data(), range.data()) &&
                           is_not_after(range.data() + range.size(), all.data() + all.size());
    require(range.empty() || is_inside, status_code::invalid_argument, "range of ", range.size(),
            " bytes is not part of the file, which has ", all.size());
    if (!range.empty()) contents_.release(range);
  }

private:
  detail::file_contents contents_;
};

} // namespace qlr::io
