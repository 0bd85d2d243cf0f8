// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix_view.hpp>
#include <qlr/io/detail/tensor_info.hpp>
#include <qlr/io/detail/text.hpp>

#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlr::io::detail {

/// A tensor name of a LoRA factor, taken apart.
struct peft_name {
  std::string module;  ///< without PEFT's prefix
  std::string partner; ///< name of the other factor
  bool is_left;        ///< lora_B
};

/// Nothing for names of other tensors, biases and magnitudes among them.
[[nodiscard]] inline std::optional<peft_name> parse_peft_name(std::string_view name) {
  constexpr std::string_view prefix = "base_model.model.";
  for (const std::string_view kind : {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"}) {
    const std::size_t at = name.rfind(kind);
    if (at == std::string_view::npos) continue;
    const std::string_view before = name.substr(0, at);
    const std::string_view after = name.substr(at + kind.size());
    const bool is_component =
        (before.empty() || before.ends_with('.')) && (after.empty() || after.front() == '.');
    if (!is_component || after.ends_with(".bias")) continue;
    peft_name result;
    std::string_view module = before;
    if (!module.empty()) module.remove_suffix(1);
    if (module.starts_with(prefix)) module.remove_prefix(prefix.size());
    result.module = module;
    result.is_left = kind.ends_with('B');
    result.partner = name;
    result.partner[at + kind.size() - 1] = result.is_left ? 'A' : 'B';
    return result;
  }
  return std::nullopt;
}

/// @throws qlr::error shape_mismatch, non_finite: see save_peft
inline void check_factors(std::string_view name, index_t rows, index_t cols, index_t rank,
                          matrix_view<const float> left, matrix_view<const float> right) {
  const bool fits =
      left.rows() == rows && right.cols() == cols && left.cols() == right.rows() && left.cols() <= rank;
  require(fits, status_code::shape_mismatch, "factors of ", quote(name), " are ", left.rows(), " x ",
          left.cols(), " and ", right.rows(), " x ", right.cols(), ", the adapter has ", rows, " x ", rank,
          " and ", rank, " x ", cols);
  require_finite(left, "L");
  require_finite(right, "R");
}

/// The elements as F32, F16 or BF16, filled up with zeros to (rows, cols).
///
/// @throws qlr::error unsupported: an entry beyond the range of the type
[[nodiscard]] inline std::vector<std::byte> factor_bytes(matrix_view<const float> factor, index_t rows,
                                                         index_t cols, dtype type, std::string_view name) {
  const index_t width = dtype_bytes(type);
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * cols * width));
  const auto store = [&](float value, auto number, std::byte* target) {
    require(is_finite(to_float(number)), status_code::unsupported, "tensor ", quote(name), " has the entry ",
            value, ", beyond the range of ", dtype_name(type));
    std::memcpy(target, &number, sizeof number);
  };
  for (index_t i = 0; i < factor.rows(); ++i) {
    for (index_t j = 0; j < factor.cols(); ++j) {
      std::byte* const target = bytes.data() + (i * cols + j) * width;
      const float value = factor(i, j);
      if (type == dtype::f32) {
        store(value, value, target);
      } else if (type == dtype::f16) {
        store(value, to_float16(value), target);
      } else {
        store(value, to_bfloat16(value), target);
      }
    }
  }
  return bytes;
}

} // namespace qlr::io::detail
