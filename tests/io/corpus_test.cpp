// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "../fuzz/fuzz_bodies.hpp"
#include "support.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

using reader = std::optional<status_code> (*)(std::span<const std::byte>);

std::vector<std::filesystem::path> corpus_files(std::string_view folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(QLR_TEST_CORPUS_DIR) / folder)) {
    files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

void replay(std::string_view folder, reader read, reader other_read) {
  const std::vector<std::filesystem::path> files = corpus_files(folder);
  CHECK(files.size() >= 20);
  for (const std::filesystem::path& path : files) {
    const std::string name = path.filename().string();
    CAPTURE(name);
    const byte_vector contents = read_file(path.string());
    CHECK(contents.size() < 2560);
    const std::optional<status_code> code = read(contents);
    if (name.starts_with("ok_")) {
      CHECK_FALSE(code.has_value());
    } else {
      REQUIRE(code.has_value());
      const auto expected = name.starts_with("unsupported_")  ? status_code::unsupported
                            : name.starts_with("non_finite_") ? status_code::non_finite
                                                              : status_code::malformed_file;
      CHECK(static_cast<int>(*code) == static_cast<int>(expected));
    }
    CHECK(other_read(contents).has_value()); // no file is valid in both formats
  }
}

} // namespace

TEST_CASE("safetensors corpus: files named ok are accepted, all others refused", "[io][host]") {
  replay("safetensors", &read_safetensors_input, &read_npy_input);
}

TEST_CASE("npy corpus: files named ok are accepted, all others refused", "[io][host]") {
  replay("npy", &read_npy_input, &read_safetensors_input);
}

TEST_CASE("decomposition corpus: files named ok are accepted, all others refused", "[io][host]") {
  replay("decomposition", &read_decomposition_input, &read_npy_input);
}

TEST_CASE("gguf corpus: files named ok are accepted, all others refused", "[io][host]") {
  replay("gguf", &read_gguf_input, &read_npy_input);
}

TEST_CASE("imatrix corpus: files named ok are accepted, all others refused", "[io][host]") {
  replay("imatrix", &read_imatrix_input, &read_npy_input);
}

TEST_CASE("bitsandbytes corpus: files named ok are accepted, all others refused", "[io][host]") {
  replay("bitsandbytes", &read_bitsandbytes_input, &read_npy_input);
}
