// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <common/output.hpp>

#include <qlr/io/atomic_file.hpp>

#include <algorithm>
#include <cstdio>
#include <vector>

void check_outputs(std::initializer_list<std::string> paths) {
  std::vector<std::string> seen;
  for (const std::string& path : paths) {
    if (path.empty()) continue;
    qlr::require(std::find(seen.begin(), seen.end(), path) == seen.end(), qlr::status_code::invalid_argument,
                 "'", path, "' is given for two outputs");
    seen.push_back(path);
    (void)qlr::io::atomic_file(path); // removed again: never committed
  }
}

void write_text(const std::string& path, const std::string& text) {
  if (path == "-") {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return;
  }
  qlr::io::atomic_file file(path);
  file.write(text);
  file.commit();
}

void check_standard_output() {
  qlr::require(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, qlr::status_code::io_failure,
               "cannot write to standard output");
}
