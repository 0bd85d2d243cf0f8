// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <string>

/// A small decomposition in a file of its own, which goes with this object.
///
/// Made in another source file, because decomposing needs Eigen and running a layer does not.
class sample_file {
public:
  sample_file();
  sample_file(const sample_file&) = delete;
  sample_file& operator=(const sample_file&) = delete;
  ~sample_file();

  [[nodiscard]] const std::string& path() const { return path_; }

private:
  std::string folder_;
  std::string path_;
};
