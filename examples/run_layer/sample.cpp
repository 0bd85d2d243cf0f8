// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <run_layer/sample.hpp>

#include <qlr/core/random.hpp>
#include <qlr/host/decompose.hpp>
#include <qlr/io/serialize.hpp>

#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

sample_file::sample_file() {
  // Runs of this program side by side have folders of their own.
  std::string name("qlr_run_layer_");
  name += std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / name;
  std::filesystem::create_directories(folder);
  folder_ = folder.string();
  path_ = (folder / "layer.safetensors").string();

  qlr::matrix<float> weight(768, 1024);
  for (qlr::index_t i = 0; i < weight.size(); ++i)
    weight.data()[i] = static_cast<float>(qlr::normal_at(7, i));
  qlr::decompose_options options;
  options.rank = 16;
  options.steps = qlr::find_preset("loftq").steps;
  const qlr::quantizer nf4("nf4", qlr::codebook_grid<4>(qlr::nf4_bitsandbytes_levels), qlr::absmax_rule{},
                           {.group_size = 64});
  qlr::io::save(path_, qlr::decompose(std::as_const(weight).view(), nf4, options).best);
}

sample_file::~sample_file() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}
