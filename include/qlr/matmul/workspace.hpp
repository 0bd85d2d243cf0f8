// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul/detail/aligned_bytes.hpp>
#include <qlr/matmul/packed_weights.hpp>

#include <algorithm>

namespace qlr {

/// What a product allocates once: packed activations and X R^T, for up to `tokens` tokens.
///
/// Serves every matrix for which fits() holds, one call at a time.
/// @memory per token: 4, 2 or 1 bytes per column for exact, bf16 or int8, up to 12 per block of at most 64
/// columns, 4 per rank
class matmul_workspace {
public:
  matmul_workspace() = default;

  /// @param most_adapter_rank  largest rank of the adapters of a call
  /// @throws qlr::error invalid_argument: a negative size
  matmul_workspace(const packed_weights& w, index_t tokens, precision mode, index_t most_adapter_rank = 0) {
    reserve(w, tokens, mode, most_adapter_rank);
  }

  /// Makes fits() true; keeps what is there when it fits already.
  void reserve(const packed_weights& w, index_t tokens, precision mode, index_t most_adapter_rank = 0) {
    require(tokens >= 0, status_code::invalid_argument, "tokens is ", tokens, ", allowed are 0 and above");
    require(most_adapter_rank >= 0, status_code::invalid_argument, "most_adapter_rank is ", most_adapter_rank,
            ", allowed are 0 and above");
    const index_t size = bytes_needed(w, tokens, mode, most_adapter_rank);
    if (memory_.size() < size) memory_ = matmul_detail::aligned_bytes(size);
  }

  [[nodiscard]] bool fits(const packed_weights& w, index_t tokens, precision mode,
                          index_t most_adapter_rank = 0) const {
    return memory_.size() >= bytes_needed(w, tokens, mode, most_adapter_rank);
  }

  [[nodiscard]] index_t size_bytes() const { return memory_.size(); }

private:
  template <activation_scalar T>
  friend class matmul_call;

  /// Where the parts of a call lie.
  struct parts {
    matmul_detail::packed_activations activations;
    float* base = nullptr;    ///< (token, rank of the base)
    float* adapter = nullptr; ///< (token, adapter_stride)
    index_t adapter_stride = 0;
    index_t end = 0;
  };

  [[nodiscard]] static index_t bytes_needed(const packed_weights& w, index_t tokens, precision mode,
                                            index_t adapter_rank) {
    return layout(nullptr, w, tokens, w.effective(mode), adapter_rank).end;
  }

  [[nodiscard]] static parts layout(std::uint8_t* memory, const packed_weights& w, index_t tokens,
                                    precision mode, index_t adapter_rank) {
    parts result;
    const auto take = [&]<class T>(T*& pointer, index_t count) {
      if (memory != nullptr) pointer = reinterpret_cast<T*>(memory + result.end);
      result.end += (count * static_cast<index_t>(sizeof(T)) + 63) / 64 * 64;
    };
    matmul_detail::packed_activations& x = result.activations;
    x.tokens = tokens;
    const index_t cols = w.shape().padded_cols();
    const index_t blocks = w.shape().num_blocks;
    if (mode == precision::exact) take(x.exact, tokens * cols);
    if (mode == precision::bf16) take(x.halves, tokens * cols);
    if (mode == precision::int8) take(x.bytes, tokens * cols);
    if (mode != precision::exact) {
      take(x.steps, tokens * blocks);
      take(x.integer_sums, tokens * blocks);
    }
    const bool has_offset = mode != precision::exact && w.view().tables->offset != 0.0F;
    if (has_offset || w.layout().zeros != zero_point::none) take(x.sums, tokens * blocks);
    result.adapter_stride = adapter_rank;
    take(result.base, tokens * w.low_rank().rank());
    take(result.adapter, tokens * adapter_rank);
    return result;
  }

  matmul_detail::aligned_bytes memory_;
};

} // namespace qlr
