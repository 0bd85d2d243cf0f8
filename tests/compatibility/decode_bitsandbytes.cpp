// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
//
//   decode_bitsandbytes INPUT.safetensors OUTPUT.safetensors
//
// Decodes every weight of bitsandbytes in a file.
#include <qlr/io/bitsandbytes.hpp>

#include <cstdio>
#include <exception>
#include <vector>

int main(int argc, char** argv) {
  using namespace qlr;
  if (argc != 3) {
    std::fprintf(stderr, "usage: decode_bitsandbytes INPUT.safetensors OUTPUT.safetensors\n");
    return 2;
  }
  try {
    const io::safetensors_file file(argv[1]);
    const std::vector<io::bitsandbytes_entry> entries = io::find_bitsandbytes(file);
    std::vector<matrix<float>> values;
    for (const io::bitsandbytes_entry& entry : entries)
      values.push_back(io::read_bitsandbytes_matrix(file, entry));
    std::vector<io::tensor_entry> tensors;
    for (std::size_t i = 0; i < entries.size(); ++i)
      tensors.push_back(io::make_f32_entry(entries[i].name, values[i].view()));
    io::write_safetensors(argv[2], tensors);
  } catch (const std::exception& caught) {
    std::fprintf(stderr, "decode_bitsandbytes: %s\n", caught.what());
    return 1;
  }
  return 0;
}
