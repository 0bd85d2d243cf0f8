// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include "gguf_builder.hpp"
#include "support.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace qlr::test {

/// One entry of an importance matrix in the form without a magic, as stored.
struct plain_entry {
  std::string name;
  std::int32_t count;
  std::vector<float> values;
};

/// The entries, without the optional fields at the end.
inline byte_vector plain_imatrix(const std::vector<plain_entry>& entries) {
  byte_vector file = number<std::int32_t>(static_cast<std::int32_t>(entries.size()));
  for (const plain_entry& entry : entries) {
    file = file + number<std::int32_t>(static_cast<std::int32_t>(entry.name.size())) + to_bytes(entry.name) +
           number<std::int32_t>(entry.count) +
           number<std::int32_t>(static_cast<std::int32_t>(entry.values.size())) + to_bytes(entry.values);
  }
  return file;
}

/// NAME.in_sum2 and NAME.counts; one expert for each count.
inline void add_imatrix_tensors(gguf_builder& builder, const std::string& name,
                                const std::vector<float>& sum_squares, const std::vector<float>& counts) {
  builder.add_f32(name + ".in_sum2", {sum_squares.size() / counts.size(), counts.size()}, sum_squares);
  builder.add_f32(name + ".counts", {1, counts.size()}, counts);
}

} // namespace qlr::test
