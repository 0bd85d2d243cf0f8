// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compatibility/write_gguf.hpp>
#include <support/generators.hpp>

#include <qlr/io/gguf_writer.hpp>
#include <qlr/io/npy.hpp>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

void write_gguf_files(const std::string& folder) {
  using namespace qlr;
  matrix<float> w = test::weight_like_matrix(48, 256, 1);
  for (index_t j = 0; j < 32; ++j) w(0, j) = 0.0F;
  io::write_npy(folder + "/input.npy", w.view());
  std::vector<std::vector<std::byte>> bytes;
  std::vector<io::gguf_tensor_entry> entries;
  for (const char* const name : {"q4_0", "q8_0", "iq4_nl"}) {
    const quantized_matrix q = quantize(std::as_const(w).view(), make_quantizer(name));
    bytes.push_back(io::to_gguf_blocks(q.view()));
    entries.push_back({name, *io::find_gguf_type(q.view()), {48, 256}, bytes.back()});
    const matrix<float> values = dequantize(q);
    io::write_npy(folder + "/" + name + ".npy", values.view());
  }
  io::write_gguf(folder + "/ours.gguf", {{"general.architecture", "llama"}}, entries);
}
