// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/journal.hpp>

#include <common/output.hpp>
#include <compress_checkpoint/checksum.hpp>

#include <qlr/core/status.hpp>
#include <qlr/io/mapped_file.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

namespace {

namespace fs = std::filesystem;
using qlr::status_code;

std::string hexadecimal(std::uint64_t value) {
  std::array<char, 17> text{};
  (void)std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
  return text.data();
}

/// {"bytes", "crc64"} of a file, read in pieces that are given back at once.
ordered_json describe(const std::string& path) {
  constexpr std::size_t piece = std::size_t{1} << 24U;
  const qlr::io::mapped_file file(path);
  crc64 sum;
  for (std::size_t begin = 0; begin < file.size(); begin += piece) {
    const auto bytes = file.bytes().subspan(begin, std::min(piece, file.size() - begin));
    sum.add(bytes);
    file.release(bytes);
  }
  return {{"bytes", file.size()}, {"crc64", hexadecimal(sum.value())}};
}

bool is_unchanged(const std::string& path, const ordered_json& described) {
  std::error_code status;
  if (!fs::is_regular_file(path, status)) return false;
  const auto bytes = described.find("bytes");
  const auto sum = described.find("crc64");
  if (bytes == described.end() || sum == described.end()) return false;
  if (fs::file_size(path, status) != *bytes || status) return false;
  return describe(path).at("crc64") == *sum;
}

std::string text_of(const ordered_json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

[[noreturn]] void fail_to_write(const std::string& path) {
  const std::string reason = std::system_category().message(errno);
  qlr::fail(status_code::io_failure, "cannot write '", path, "': ", reason);
}

} // namespace

void require_same_settings(const std::string& path, const ordered_json& settings) {
  std::ifstream file(path);
  const ordered_json content = ordered_json::parse(file, nullptr, false);
  const ordered_json before =
      content.is_object() && content.contains("settings") ? content["settings"] : content;
  qlr::require(before.is_object(), status_code::malformed_file, "'", path, "' is not a JSON object");
  for (const auto& [key, value] : settings.items()) {
    const auto found = before.find(key);
    const std::string old = found == before.end() ? "absent" : found->dump();
    qlr::require(old == value.dump(), status_code::invalid_argument, "--resume: ", key, " is ", value.dump(),
                 ", in '", path, "' it is ", old);
  }
}

journal::journal(std::string output)
    : output_(std::move(output)), folder_(output_ + "/.compress_checkpoint") {}

bool journal::exists() const {
  std::error_code status;
  return fs::exists(path_of("settings.json"), status);
}

void journal::begin(const ordered_json& settings) const {
  std::error_code status;
  fs::create_directories(folder_, status);
  qlr::require(!status, status_code::io_failure, "cannot make the folder '", folder_,
               "': ", status.message());
  write_text(path_of("settings.json"), settings.dump(2) + "\n");
}

void journal::require_same(const ordered_json& settings) const {
  require_same_settings(path_of("settings.json"), settings);
}

void journal::read(bool is_checked) {
  std::error_code status;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, status)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("journal-") || !name.ends_with(".jsonl")) continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) take(line, is_checked);
  }
  if (!is_checked) return;
  std::erase_if(tensors_, [this](const auto& item) {
    return !std::ranges::all_of(item.second.at("files"), [this](const ordered_json& file) {
      return is_unchanged(path_of(text_of(file, "name")), file);
    });
  });
}

void journal::take(const std::string& line, bool is_checked) {
  ordered_json record = ordered_json::parse(line, nullptr, false);
  if (!record.is_object()) return; // cut off
  const std::string output = text_of(record, "output");
  if (!output.empty()) {
    if (!is_checked || is_unchanged(output_ + "/" + output, record)) outputs_[output] = std::move(record);
    return;
  }
  const std::string tensor = text_of(record, "tensor");
  if (!tensor.empty() && record.contains("files") && record["files"].is_array() &&
      record.contains("report")) {
    tensors_[tensor] = std::move(record);
  }
}

void journal::note_tensor(int process, const std::string& tensor, const std::vector<std::string>& files,
                          ordered_json report) const {
  ordered_json line{{"tensor", tensor}, {"files", ordered_json::array()}, {"report", std::move(report)}};
  for (const std::string& name : files) {
    ordered_json described = describe(path_of(name));
    described["name"] = name;
    line["files"].push_back(std::move(described));
  }
  append(process, line);
}

void journal::note_output(int process, const std::string& output) const {
  ordered_json line = describe(output_ + "/" + output);
  line["output"] = output;
  append(process, line);
}

void journal::append(int process, const ordered_json& line) const {
  const std::string path = path_of(qlr::sentence("journal-", process, ".jsonl"));
  // The first newline ends a line that a kill cut off.
  const std::string text =
      qlr::sentence('\n', line.dump(-1, ' ', false, ordered_json::error_handler_t::replace), '\n');
  std::FILE* file = std::fopen(path.c_str(), "ab");
  if (file == nullptr) fail_to_write(path);
  bool is_good = std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fflush(file) == 0;
#if __has_include(<unistd.h>)
  is_good = is_good && (::fsync(fileno(file)) == 0 || errno == EINVAL);
#endif
  const int reason = errno;
  is_good = std::fclose(file) == 0 && is_good;
  errno = reason;
  if (!is_good) fail_to_write(path);
}

void journal::finish() const {
  // Renamed first: a folder of which a kill left a part would look like work to do.
  std::error_code ignored;
  fs::rename(folder_, folder_ + ".done", ignored);
  fs::remove_all(folder_ + ".done", ignored);
}
