// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

using ordered_json = nlohmann::ordered_json;

/// @throws qlr::error invalid_argument: the JSON file, or the "settings" in it, were made with other
/// settings; names the first that differs
void require_same_settings(const std::string& path, const ordered_json& settings);

/// What is finished, in the work folder inside the output folder.
///
/// Files there: settings.json, journal-<process>.jsonl, and the parts of tensors. A line of a journal is
///   {"tensor": NAME, "files": [{"name", "bytes", "crc64"}], "report": {...}}   a finished tensor, or
///   {"output": FILE, "bytes": N, "crc64": HEX}                                 a finished file of the output
/// and is written after the files it names are complete. A line that a kill cut off does not count, nor does
/// one whose files have other bytes.
class journal {
public:
  /// @param output  folder of the output; the work folder is made when something is begun
  explicit journal(std::string output);

  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] std::string path_of(const std::string& file) const { return folder_ + "/" + file; }
  [[nodiscard]] bool exists() const;

  /// Makes the work folder and writes the settings.
  ///
  /// @throws qlr::error io_failure
  void begin(const ordered_json& settings) const;

  /// @throws qlr::error invalid_argument: it was begun with other settings; names the first that differs
  void require_same(const ordered_json& settings) const;

  /// Reads what all processes noted; afterwards is_done and is_written know.
  ///
  /// @param is_checked  leaves out what has other bytes than were noted
  void read(bool is_checked);

  [[nodiscard]] bool is_done(const std::string& tensor) const { return tensors_.contains(tensor); }
  [[nodiscard]] bool is_written(const std::string& output) const { return outputs_.contains(output); }
  /// The record of a finished tensor.
  [[nodiscard]] const ordered_json& record(const std::string& tensor) const { return tensors_.at(tensor); }

  /// Notes a tensor whose parts are complete.
  ///
  /// @param files  names in the work folder
  /// @throws qlr::error io_failure
  void note_tensor(int process, const std::string& tensor, const std::vector<std::string>& files,
                   ordered_json report) const;

  /// Notes a file of the output that is complete.
  ///
  /// @throws qlr::error io_failure
  void note_output(int process, const std::string& output) const;

  /// Removes the work folder, also what an earlier removal left; what cannot be removed stays.
  void finish() const;

private:
  void append(int process, const ordered_json& line) const;
  void take(const std::string& line, bool is_checked);

  std::string output_;
  std::string folder_;
  std::map<std::string, ordered_json> tensors_;
  std::map<std::string, ordered_json> outputs_;
};
