// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// The one place that talks to the operating system about files. Functions return 0 or an errno value.

// 1 selects standard C++ only: elsewhere than on POSIX, or by hand to test that branch.
#if !defined(QLR_DETAIL_PORTABLE_IO)
#if defined(__unix__) || defined(__APPLE__)
#define QLR_DETAIL_PORTABLE_IO 0
#else
#define QLR_DETAIL_PORTABLE_IO 1
#endif
#endif

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <utility>

#if QLR_DETAIL_PORTABLE_IO
#include <filesystem>
#include <memory>
#include <system_error>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace qlr::io::detail {

#if QLR_DETAIL_PORTABLE_IO

/// The whole file in memory.
class file_contents {
public:
  [[nodiscard]] int open(const std::string& path) {
    std::error_code status;
    const auto type = std::filesystem::status(path, status).type();
    if (type == std::filesystem::file_type::not_found) return ENOENT;
    if (type == std::filesystem::file_type::directory) return EISDIR;
    if (status) return status.value();
    if (type != std::filesystem::file_type::regular) return EINVAL;
    size_ = static_cast<std::size_t>(std::filesystem::file_size(path, status));
    if (status) return status.value();
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (file == nullptr) return errno;
    // Blocks of 16 bytes: tensors inside are as aligned as in a memory map.
    buffer_ = std::make_unique_for_overwrite<block[]>(size_ / sizeof(block) + 1);
    const std::size_t num_read = std::fread(buffer_.get(), 1, size_, file);
    std::fclose(file);
    return num_read == size_ ? 0 : EIO;
  }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte*>(buffer_.get()), buffer_ ? size_ : 0};
  }
  /// There is nothing to give back.
  void release(std::span<const std::byte> /*range*/) const {}

private:
  struct alignas(16) block {
    std::byte bytes[16];
  };
  std::unique_ptr<block[]> buffer_;
  std::size_t size_ = 0;
};

/// A file being written.
class output_handle {
public:
  output_handle() = default;
  output_handle(const output_handle&) = delete;
  output_handle& operator=(const output_handle&) = delete;
  ~output_handle() { (void)close(); }

  /// EEXIST when the file is already there.
  [[nodiscard]] int create(const std::string& path) {
    errno = 0;
    file_ = std::fopen(path.c_str(), "wbx");
    if (file_ != nullptr) return 0;
    return errno != 0 ? errno : EIO;
  }
  [[nodiscard]] int write(std::span<const std::byte> bytes) {
    errno = 0;
    if (bytes.empty() || std::fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size()) return 0;
    return errno != 0 ? errno : EIO;
  }
  [[nodiscard]] int flush_to_disk() { return std::fflush(file_) == 0 ? 0 : errno; }
  [[nodiscard]] int close() {
    std::FILE* file = std::exchange(file_, nullptr);
    return file == nullptr || std::fclose(file) == 0 ? 0 : errno;
  }

private:
  std::FILE* file_ = nullptr;
};

/// ENOENT when nothing is at the path, EEXIST when something other than a regular file is, else 0.
[[nodiscard]] inline int check_regular_file(const std::string& path) {
  std::error_code status;
  const auto type = std::filesystem::status(path, status).type();
  if (type == std::filesystem::file_type::not_found) return ENOENT;
  if (type == std::filesystem::file_type::regular) return 0;
  return status ? status.value() : EEXIST;
}

/// Renames over an existing target; the standard C function refuses that on Windows.
[[nodiscard]] inline int replace_file(const std::string& from, const std::string& to) {
  std::error_code status;
  std::filesystem::rename(from, to, status);
  return status ? status.default_error_condition().value() : 0;
}

#else

/// A read-only memory map of a whole file.
class file_contents {
public:
  file_contents() = default;
  file_contents(file_contents&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  file_contents& operator=(file_contents&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~file_contents() {
    if (address_ != nullptr) ::munmap(address_, size_);
  }

  [[nodiscard]] int open(const std::string& path) {
    // O_NONBLOCK: opening a pipe that nobody writes to must not hang; regular files ignore it.
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return errno;
    const int status = map(descriptor);
    ::close(descriptor); // the map stays valid
    return status;
  }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(address_), size_};
  }
  /// Gives back the memory of the pages that lie inside a range of bytes() as a whole; whoever reads them
  /// again gets them from the file.
  void release(std::span<const std::byte> range) const {
    // The map begins with a page, so offsets in it are as good as addresses.
    const auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto begin = static_cast<std::size_t>(range.data() - bytes().data());
    const std::size_t first = (begin + page_bytes - 1) / page_bytes * page_bytes;
    const std::size_t last = (begin + range.size()) / page_bytes * page_bytes;
    if (first < last) {
      (void)::madvise(static_cast<std::byte*>(address_) + first, last - first, MADV_DONTNEED);
    }
  }

private:
  [[nodiscard]] int map(int descriptor) {
    struct stat info {};
    if (::fstat(descriptor, &info) != 0) return errno;
    if (S_ISDIR(info.st_mode)) return EISDIR;
    if (!S_ISREG(info.st_mode)) return EINVAL;
    if (info.st_size == 0) return 0; // mmap refuses an empty range
    const auto size = static_cast<std::size_t>(info.st_size);
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED) return errno;
    address_ = address;
    size_ = size;
    return 0;
  }

  void* address_ = nullptr;
  std::size_t size_ = 0;
};

/// A file being written.
class output_handle {
public:
  output_handle() = default;
  output_handle(const output_handle&) = delete;
  output_handle& operator=(const output_handle&) = delete;
  ~output_handle() { (void)close(); }

  /// EEXIST when the file is already there.
  [[nodiscard]] int create(const std::string& path) {
    descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return descriptor_ >= 0 ? 0 : errno;
  }
  [[nodiscard]] int write(std::span<const std::byte> bytes) {
    constexpr std::size_t largest_write = std::size_t{1}
                                          << 30U; // some systems refuse more than 2^31 - 1 at once
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_, bytes.data(), std::min(bytes.size(), largest_write));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return written < 0 ? errno : EIO;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return 0;
  }
  [[nodiscard]] int flush_to_disk() {
    if (::fsync(descriptor_) == 0) return 0;
    return errno == EINVAL || errno == ENOTSUP ? 0 : errno; // a file system without fsync
  }
  [[nodiscard]] int close() {
    const int descriptor = std::exchange(descriptor_, -1);
    return descriptor < 0 || ::close(descriptor) == 0 ? 0 : errno;
  }

private:
  int descriptor_ = -1;
};

/// ENOENT when nothing is at the path, EEXIST when something other than a regular file is, else 0.
[[nodiscard]] inline int check_regular_file(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return errno;
  return S_ISREG(info.st_mode) ? 0 : EEXIST;
}

/// Renames over an existing target and makes the new name survive a power cut where the system can.
[[nodiscard]] inline int replace_file(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) return errno;
  const std::size_t slash = to.find_last_of('/');
  const std::string directory = slash == std::string::npos ? "." : to.substr(0, slash + 1);
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor >= 0) {
    (void)::fsync(descriptor); // best effort: the file itself is complete already
    ::close(descriptor);
  }
  return 0;
}

#endif

} // namespace qlr::io::detail
