// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/io/detail/system_file.hpp>
#include <qlr/io/detail/text.hpp>

#include <cstddef>
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

private:
  detail::file_contents contents_;
};

} // namespace qlr::io
