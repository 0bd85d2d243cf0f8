// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Decomposes a matrix, saves it, and reads it back twice: as a copy, and mapped in place as an engine would.
#include <qlr/qlr.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

int main() {
  constexpr qlr::index_t rows = 96;
  constexpr qlr::index_t cols = 160;
  qlr::matrix<float> weight(rows, cols);
  for (qlr::index_t i = 0; i < weight.size(); ++i)
    weight.data()[i] = static_cast<float>(qlr::normal_at(7, i));

  qlr::decompose_options options;
  options.rank = 8;
  options.steps = qlr::find_preset("loftq").steps;
  const qlr::quantizer_options groups{.group_size = 32, .scales = qlr::double_quantized()};
  const qlr::quantizer nf4("nf4", qlr::codebook_grid<4>(qlr::nf4_bitsandbytes_levels), qlr::absmax_rule{},
                           groups);
  const qlr::decompose_result result = qlr::decompose(std::as_const(weight).view(), nf4, options);

  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "qlr_save_and_load";
  std::filesystem::create_directories(folder);
  const std::string path = (folder / "layer.safetensors").string();
  qlr::io::save(path, result.best);
  std::printf("saved %lld x %lld, rank %lld: %lld bytes of codes, scales and factors, %lld in the file\n",
              static_cast<long long>(rows), static_cast<long long>(cols),
              static_cast<long long>(options.rank), static_cast<long long>(result.best.storage_bytes()),
              static_cast<long long>(std::filesystem::file_size(path)));

  bool is_same = true;
  {
    const qlr::matrix<float> before = qlr::reconstruct(result.best);
    const qlr::matrix<float> after = qlr::reconstruct(qlr::io::load(path));
    is_same = qlr::compare(before.view(), after.view()).largest_error == 0.0;

    // Mapped: the codes stay in the file; row 5 of Q is decoded from there.
    const qlr::io::decomposition_file mapped(path);
    std::vector<float> row(cols);
    qlr::row_decoder decode(mapped.quantized());
    decode(5, row.data());
    const qlr::matrix<float> quantized = qlr::dequantize(result.best.quantized);
    for (qlr::index_t j = 0; j < cols; ++j)
      is_same = is_same && row[static_cast<std::size_t>(j)] == quantized(5, j);
  }
  std::filesystem::remove_all(folder);
  std::printf("read back: %s\n", is_same ? "the same bits" : "DIFFERENT");
  return is_same ? EXIT_SUCCESS : EXIT_FAILURE;
}
