// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/io/bitsandbytes.hpp>
#include <qlr/io/gguf.hpp>
#include <qlr/io/imatrix.hpp>
#include <qlr/io/npy.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/io/serialize.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

// What a fuzzer does with one input, shared with the test that replays the corpus.
namespace qlr::test {

/// Reads one tensor in every way; aborts when two ways disagree.
inline void read_tensor(const io::safetensors_file& file, const io::tensor_info& tensor) {
  constexpr auto mode = io::flatten::trailing_dimensions;
  const std::span<const std::byte> bytes = file.bytes(tensor.name);
  if (static_cast<index_t>(bytes.size()) != tensor.end_bytes - tensor.begin_bytes) std::abort();
  const matrix<float> copy = file.read_matrix(tensor.name, mode);
  if (!file.has_f32_view(tensor.name, mode)) return;
  const matrix_view<const float> view = file.f32_view(tensor.name, mode);
  if (view.rows() != copy.rows() || view.cols() != copy.cols()) std::abort();
  if (std::memcmp(view.data(), copy.data(), static_cast<std::size_t>(copy.size()) * sizeof(float)) != 0)
    std::abort();
}

/// Opens the bytes as a safetensors file and reads every tensor; returns the code of the first error.
inline std::optional<status_code> read_safetensors_input(std::span<const std::byte> input) {
  std::optional<status_code> first_error;
  try {
    const io::safetensors_file file(input);
    for (const io::tensor_info& tensor : file.tensors()) {
      try {
        read_tensor(file, tensor);
      } catch (const error& caught) {
        if (!first_error) first_error = caught.code();
      }
    }
  } catch (const error& caught) {
    first_error = caught.code();
  }
  return first_error;
}

/// Reads the bytes as an .npy file; returns the code of the error.
inline std::optional<status_code> read_npy_input(std::span<const std::byte> input) {
  try {
    (void)io::read_npy(input);
  } catch (const error& caught) {
    return caught.code();
  }
  return std::nullopt;
}

/// Opens the bytes as a decomposition, copies it and decodes it; returns the code of the error.
inline std::optional<status_code> read_decomposition_input(std::span<const std::byte> input) {
  try {
    const io::decomposition_file file{io::safetensors_file(input)};
    const decomposition parts = file.to_memory();
    matrix<float> mapped(parts.rows(), parts.cols());
    dequantize(file.quantized(), mapped.view());
    const matrix<float> copied = dequantize(parts.quantized);
    const auto num_bytes = static_cast<std::size_t>(copied.size()) * sizeof(float);
    if (std::memcmp(mapped.data(), copied.data(), num_bytes) != 0) std::abort();
    if (parts.left.cols() != parts.rank() || parts.right.cols() != parts.cols()) std::abort();
  } catch (const error& caught) {
    return caught.code();
  }
  return std::nullopt;
}

/// Reads a metadata value in every way, the elements of arrays too; aborts when two ways disagree.
inline void read_value(const io::gguf_value& value) {
  if (value.integer() && !value.number()) std::abort();
  if (value.text() && (value.number() || value.boolean())) std::abort();
  const std::vector<io::gguf_value> elements = value.elements();
  const bool is_array = value.type() == io::gguf_type::array;
  if (is_array && static_cast<index_t>(elements.size()) != value.count()) std::abort();
  for (const io::gguf_value& element : elements) read_value(element);
}

/// Reads a quantized tensor; aborts when it does not give back its bytes.
inline void read_blocks(const io::gguf_file& file, const io::gguf_tensor_info& tensor) {
  if (tensor.num_bytes == 0) return;
  const std::vector<std::byte> again = io::to_gguf_blocks(file.read_quantized(tensor.name).view());
  if (!std::ranges::equal(again, file.bytes(tensor.name))) std::abort();
}

/// Opens the bytes as a GGUF file and reads every value and tensor; returns the code of the first error.
inline std::optional<status_code> read_gguf_input(std::span<const std::byte> input) {
  std::optional<status_code> first_error;
  try {
    const io::gguf_file file(input);
    for (const auto& [key, value] : file.metadata()) read_value(value);
    for (const io::gguf_tensor_info& tensor : file.tensors()) {
      if (static_cast<index_t>(file.bytes(tensor.name).size()) != tensor.num_bytes) std::abort();
      try {
        const matrix<float> values = file.read_matrix(tensor.name);
        constexpr index_t most_per_byte = 2; // of 4-bit codes
        if (values.size() > most_per_byte * static_cast<index_t>(input.size())) std::abort();
        if (io::is_gguf_quantized(tensor.type)) read_blocks(file, tensor);
      } catch (const error& caught) {
        if (!first_error) first_error = caught.code();
      }
    }
  } catch (const error& caught) {
    first_error = caught.code();
  }
  return first_error;
}

/// Reads the bytes as an importance matrix; aborts on an entry that no weight could come from.
inline std::optional<status_code> read_imatrix_input(std::span<const std::byte> input) {
  try {
    const io::importance_matrices file = io::read_imatrix(input);
    if (file.entries.empty() && file.unusable.empty()) std::abort();
    for (const io::imatrix_entry& entry : file.entries) {
      const matrix<float>& squares = entry.mean_squares;
      if (squares.rows() != static_cast<index_t>(entry.counts.size())) std::abort();
      bool is_zero = true;
      for (index_t i = 0; i < squares.size(); ++i) {
        if (!is_finite(squares.data()[i]) || squares.data()[i] < 0) std::abort();
        is_zero = is_zero && squares.data()[i] == 0;
      }
      if (is_zero || file.find(entry.name) == nullptr) std::abort();
    }
  } catch (const error& caught) {
    return caught.code();
  }
  return std::nullopt;
}

/// Reads every weight of bitsandbytes in a safetensors file; returns the code of the first error.
inline std::optional<status_code> read_bitsandbytes_input(std::span<const std::byte> input) {
  try {
    const io::safetensors_file file(input);
    const std::vector<io::bitsandbytes_entry> entries = io::find_bitsandbytes(file);
    if (entries.empty()) return status_code::malformed_file;
    for (const io::bitsandbytes_entry& entry : entries) {
      const matrix<float> values = io::read_bitsandbytes_matrix(file, entry);
      for (index_t i = 0; i < values.size(); ++i) {
        if (!is_finite(values.data()[i])) std::abort();
      }
      if (entry.bits == 8) continue;
      const io::bitsandbytes_matrix weight = io::read_bitsandbytes(file, entry.name);
      if (!io::has_blocks_in_rows(weight)) continue;
      const matrix<float> other = dequantize(io::to_quantized_matrix(weight));
      const auto num_bytes = static_cast<std::size_t>(values.size()) * sizeof(float);
      if (other.size() != values.size() || std::memcmp(other.data(), values.data(), num_bytes) != 0)
        std::abort();
    }
  } catch (const error& caught) {
    return caught.code();
  }
  return std::nullopt;
}

} // namespace qlr::test
