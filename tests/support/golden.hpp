// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/io/safetensors.hpp>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

namespace qlr::test {

/// Folder of the reference inputs and results; see its README.md.
[[nodiscard]] inline std::string golden_folder() {
  return std::string(QLR_TEST_DATA_DIR) + "/golden";
}

/// True when the reference data is there; otherwise prints why the test is skipped.
[[nodiscard]] inline bool has_golden_data() {
  for (const char* const name : {"golden_inputs.safetensors", "golden_outputs.safetensors"}) {
    if (std::filesystem::exists(golden_folder() + "/" + name)) continue;
    std::cout << "SKIPPED: golden data not found in " << golden_folder() << '\n';
    return false;
  }
  return true;
}

[[nodiscard]] inline const io::safetensors_file& golden_inputs() {
  static const io::safetensors_file file(golden_folder() + "/golden_inputs.safetensors");
  return file;
}

[[nodiscard]] inline const io::safetensors_file& golden_outputs() {
  static const io::safetensors_file file(golden_folder() + "/golden_outputs.safetensors");
  return file;
}

/// The elements of a stored tensor of numbers of type T.
template <class T>
[[nodiscard]] std::vector<T> golden_values(std::string_view name) {
  const auto bytes = golden_outputs().bytes(name);
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

} // namespace qlr::test
