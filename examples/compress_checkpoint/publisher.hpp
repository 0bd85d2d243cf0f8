// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <common/output.hpp>
#include <compress_checkpoint/arguments.hpp>
#include <compress_checkpoint/journal.hpp>

#include <qlr/core/status.hpp>

#include <filesystem>
#include <string>
#include <system_error>

/// Makes files of the output for one process: in the work folder, from where a finished one is moved to its
/// name.
class publisher {
public:
  publisher(const journal& work, const arguments& args, int process)
      : work_(work), args_(args), process_(process), draft_(work.path_of(qlr::sentence("draft-", process))) {}

  /// @param make  writes the file to the path it is given
  template <class Make>
  void write(const std::string& name, Make&& make) const {
    if (work_.is_written(name)) return;
    make(draft_);
    publish(name);
  }

  void write_small(const std::string& name, const std::string& text) const {
    write(name, [&](const std::string& path) { write_text(path, text); });
  }

private:
  /// Gives the draft, which is complete, its name in the output.
  void publish(const std::string& name) const {
    const std::filesystem::path target = std::filesystem::path(args_.output) / name;
    std::error_code status;
    std::filesystem::create_directories(target.parent_path(), status);
    if (!status) std::filesystem::rename(draft_, target, status);
    qlr::require(!status, qlr::status_code::io_failure, "cannot write '", target.string(),
                 "': ", status.message());
    work_.note_output(process_, name);
  }

  const journal& work_;
  const arguments& args_;
  int process_;
  std::string draft_;
};
