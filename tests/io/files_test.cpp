// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/io/atomic_file.hpp>
#include <qlr/io/mapped_file.hpp>

#include "support.hpp"

#include <string>
#include <type_traits>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <csignal>
#include <sys/resource.h>
#include <sys/stat.h>
#endif

using namespace qlr;
using namespace qlr::test;

namespace {

static_assert(std::is_move_constructible_v<io::mapped_file> &&
              !std::is_copy_constructible_v<io::mapped_file>);
static_assert(!std::is_copy_constructible_v<io::atomic_file>);

} // namespace

TEST_CASE("mapped_file: bytes are those of the file", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("some");
  write_file(path, to_bytes("hello"));
  const io::mapped_file file(path);
  CHECK(file.size() == 5);
  CHECK(byte_vector(file.bytes().begin(), file.bytes().end()) == to_bytes("hello"));
}

TEST_CASE("mapped_file: an empty file has no bytes", "[io][host]") {
  const temporary_directory directory;
  write_file(directory.file("empty"), {});
  const io::mapped_file file(directory.file("empty"));
  CHECK(file.size() == 0);
  CHECK(file.bytes().empty());
}

TEST_CASE("mapped_file: moving keeps the bytes in place", "[io][host]") {
  const temporary_directory directory;
  write_file(directory.file("a"), to_bytes("first"));
  write_file(directory.file("b"), to_bytes("second"));
  io::mapped_file a(directory.file("a"));
  const std::byte* address = a.bytes().data();
  io::mapped_file moved(std::move(a));
  CHECK(moved.bytes().data() == address);
  moved = io::mapped_file(directory.file("b"));
  CHECK(byte_vector(moved.bytes().begin(), moved.bytes().end()) == to_bytes("second"));
}

TEST_CASE("mapped_file: what cannot be read is named with the reason", "[io][host]") {
  const temporary_directory directory;
  const std::string missing = directory.file("missing");
  check_error(status_code::io_failure, {"cannot read '" + missing + "'", "No such file"},
              [&] { io::mapped_file{missing}; });
  check_error(status_code::io_failure, {directory.file("."), "Is a directory"},
              [&] { io::mapped_file{directory.file(".")}; });
}

TEST_CASE("atomic_file: the target appears with commit", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("target");
  {
    io::atomic_file file(path);
    file.write("some ");
    file.write(to_bytes("bytes"));
    file.write(std::string_view());
    REQUIRE(directory.names().size() == 1);
    CHECK(directory.names()[0].starts_with("target.tmp-"));
    file.commit();
    CHECK(directory.names() == std::vector<std::string>{"target"});
  }
  CHECK(read_file(path) == to_bytes("some bytes"));
}

TEST_CASE("atomic_file: without commit nothing is left and an older file is untouched", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("target");
  write_file(path, to_bytes("older"));
  {
    io::atomic_file file(path);
    file.write("newer");
    CHECK(directory.names().size() == 2);
  }
  CHECK(directory.names() == std::vector<std::string>{"target"});
  CHECK(read_file(path) == to_bytes("older"));
}

TEST_CASE("atomic_file: commit replaces an older file", "[io][host]") {
  const temporary_directory directory;
  write_file(directory.file("target"), to_bytes("older and longer"));
  io::atomic_file file(directory.file("target"));
  file.write("newer");
  file.commit();
  CHECK(read_file(directory.file("target")) == to_bytes("newer"));
}

TEST_CASE("atomic_file: two writers of one target do not meet", "[io][host]") {
  const temporary_directory directory;
  io::atomic_file first(directory.file("target"));
  io::atomic_file second(directory.file("target"));
  first.write("first");
  second.write("second");
  first.commit();
  second.commit();
  CHECK(directory.names() == std::vector<std::string>{"target"});
  CHECK(read_file(directory.file("target")) == to_bytes("second"));
}

TEST_CASE("atomic_file: an unwritable place is named and left as it was", "[io][host]") {
  const temporary_directory directory;
  write_file(directory.file("plain"), to_bytes("x"));
  const std::string below_file = directory.file("plain") + "/target";
  const std::string below_nothing = directory.file("missing") + "/target";
  check_error(status_code::io_failure, {"cannot write '" + below_file + "'", "Not a directory"},
              [&] { io::atomic_file{below_file}; });
  check_error(status_code::io_failure, {"cannot write '" + below_nothing + "'", "No such file"},
              [&] { io::atomic_file{below_nothing}; });
  CHECK(directory.names() == std::vector<std::string>{"plain"});
}

TEST_CASE("atomic_file: a target that is not a regular file is refused", "[io][host]") {
  const temporary_directory directory;
  std::filesystem::create_directory(directory.file("folder"));
  check_error(status_code::io_failure,
              {"cannot write '" + directory.file("folder") + "'", "not a regular file"},
              [&] { io::atomic_file{directory.file("folder")}; });
  CHECK(directory.names() == std::vector<std::string>{"folder"});
}

TEST_CASE("atomic_file: a refused rename leaves nothing behind", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("target");
  io::atomic_file file(path);
  file.write("bytes");
  std::filesystem::create_directory(path); // appears after the check at the start
  check_error(status_code::io_failure, {"cannot write '" + path + "'"}, [&] { file.commit(); });
  CHECK(directory.names() == std::vector<std::string>{"target"});
}

#if defined(__unix__) || defined(__APPLE__)

TEST_CASE("mapped_file: a pipe is refused without waiting for a writer", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("pipe");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  check_error(status_code::io_failure, {"cannot read '" + path + "'", "not a regular file"},
              [&] { io::mapped_file{path}; });
}

TEST_CASE("atomic_file: a full disk is reported and leaves nothing behind", "[io][host]") {
  const temporary_directory directory;
  const std::string path = directory.file("target");
  const byte_vector much(100'000);
  io::atomic_file file(path);

  // A limit on the size of files fails a write half-way, as a full disk does.
  const auto previous_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit previous_limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &previous_limit) == 0);
  const rlimit small{4096, previous_limit.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string message;
  try {
    file.write(much);
    file.commit();
  } catch (const error& caught) {
    message = caught.what();
  }
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &previous_limit) == 0);
  std::signal(SIGXFSZ, previous_handler);

  CHECK(message.starts_with("cannot write '" + path + "': File too large"));
  CHECK(directory.names().empty());
}

#endif
