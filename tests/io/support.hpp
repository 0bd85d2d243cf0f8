// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include "../support/catch.hpp"

#include <qlr/core/status.hpp>
#include <qlr/io/mapped_file.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace qlr::test {

/// A directory of its own, removed with everything in it.
class temporary_directory {
public:
  temporary_directory() {
    static int counter = 0;
    const auto ticks = std::chrono::steady_clock::now().time_since_epoch().count();
    do {
      path_ = std::filesystem::temp_directory_path() /
              ("qlr-io-" + std::to_string(ticks) + "-" + std::to_string(counter++));
    } while (!std::filesystem::create_directory(path_));
  }
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  ~temporary_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::string file(std::string_view name) const { return (path_ / name).string(); }

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      result.push_back(entry.path().filename().string());
    }
    return result;
  }

private:
  std::filesystem::path path_;
};

using byte_vector = std::vector<std::byte>;

inline byte_vector to_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

template <class T>
byte_vector to_bytes(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

inline byte_vector operator+(byte_vector left, const byte_vector& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

inline void write_file(const std::string& path, const byte_vector& contents) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(contents.data()), static_cast<std::streamsize>(contents.size()));
  REQUIRE(file.good());
}

inline byte_vector read_file(const std::string& path) {
  const io::mapped_file file(path);
  return {file.bytes().begin(), file.bytes().end()};
}

/// Checks that the call throws qlr::error with that code and each of these parts in its message.
template <class Call>
void check_error(status_code code, const std::vector<std::string>& parts, Call&& call) {
  try {
    call();
  } catch (const error& caught) {
    const std::string message = caught.what();
    CAPTURE(message);
    CHECK(static_cast<int>(caught.code()) == static_cast<int>(code));
    for (const std::string& part : parts) {
      CAPTURE(part);
      CHECK(message.find(part) != std::string::npos);
    }
    return;
  }
  CAPTURE(parts);
  FAIL("nothing was thrown");
}

} // namespace qlr::test
