// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include "support.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

namespace qlr::test {

template <class T>
byte_vector number(std::type_identity_t<T> value) {
  return to_bytes(std::vector<T>{value});
}

/// Length as 64 bits, then the characters.
inline byte_vector gguf_text(std::string_view text) {
  return number<std::uint64_t>(text.size()) + to_bytes(text);
}

/// Writes a GGUF file by the letter of the format; `type` and `dimensions` may be wrong on purpose.
class gguf_builder {
public:
  /// @param value  as stored
  void add_value(std::string_view key, std::uint32_t type, const byte_vector& value) {
    values_ = values_ + gguf_text(key) + number<std::uint32_t>(type) + value;
    ++num_values_;
  }
  void add_text(std::string_view key, std::string_view text) { add_value(key, 8, gguf_text(text)); }

  /// @param dimensions  fastest first, as in the file
  void add_tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions, std::uint32_t type,
                  const byte_vector& contents) {
    pad(data_);
    infos_ = infos_ + gguf_text(name) + number<std::uint32_t>(static_cast<std::uint32_t>(dimensions.size())) +
             to_bytes(dimensions) + number<std::uint32_t>(type) + number<std::uint64_t>(data_.size());
    data_ = data_ + contents;
    ++num_tensors_;
  }
  void add_f32(std::string_view name, const std::vector<std::uint64_t>& dimensions,
               const std::vector<float>& values) {
    add_tensor(name, dimensions, 0, to_bytes(values));
  }

  [[nodiscard]] byte_vector build(std::uint32_t version = 3) const {
    byte_vector file = to_bytes("GGUF") + number<std::uint32_t>(version) +
                       number<std::uint64_t>(num_tensors_) + number<std::uint64_t>(num_values_) + values_ +
                       infos_;
    pad(file);
    return file + data_;
  }

  std::size_t alignment = 32;

private:
  void pad(byte_vector& bytes) const { bytes.resize((bytes.size() + alignment - 1) / alignment * alignment); }

  byte_vector values_, infos_, data_;
  std::uint64_t num_values_ = 0;
  std::uint64_t num_tensors_ = 0;
};

} // namespace qlr::test
