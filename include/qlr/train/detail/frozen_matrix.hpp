// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/train/frozen_storage.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <variant>

namespace qlr::train::detail {

/// Weights in units of their scale, in low precision.
class frozen_matrix {
public:
  /// @param bits    of a code
  /// @param lowest  the smallest level; fixed8 covers lowest to lowest + 2^bits - 1
  frozen_matrix(index_t rows, index_t cols, frozen_storage storage, int bits, float lowest)
      : unit_(std::ldexp(1.0F, bits - 8)), middle_(lowest + std::ldexp(1.0F, bits - 1)) {
    if (storage == frozen_storage::fp32) values_ = matrix<float>(rows, cols);
    if (storage == frozen_storage::bf16) values_ = matrix<bfloat16>(rows, cols);
    if (storage == frozen_storage::fixed8) values_ = matrix<std::int8_t>(rows, cols);
  }

  [[nodiscard]] index_t size_bytes() const {
    return std::visit([](const auto& x) { return x.size() * static_cast<index_t>(sizeof(*x.data())); },
                      values_);
  }

  void store_row(index_t row, const float* values) {
    std::visit(
        [&](auto& x) {
          for (index_t j = 0; j < x.cols(); ++j) store(values[j], x(row, j));
        },
        values_);
  }

  /// Rows first ... into out (any number of rows, cols).
  template <class T>
  void load_rows(index_t first, matrix_view<T> out) const {
    std::visit(
        [&](const auto& x) {
          for (index_t i = 0; i < out.rows(); ++i) {
            const auto* from = x.view().row(first + i);
            T* to = out.row(i);
            for (index_t j = 0; j < out.cols(); ++j) to[j] = static_cast<T>(load(from[j]));
          }
        },
        values_);
  }

private:
  static void store(float value, float& stored) { stored = value; }
  static void store(float value, bfloat16& stored) { stored = to_bfloat16(value); }
  void store(float value, std::int8_t& stored) const {
    // The levels, in these units, are -128 to 128 - 2^(8 - bits).
    const float highest = 128.0F - 1.0F / unit_;
    const float units = std::clamp((value - middle_) / unit_, -128.0F, highest);
    stored = static_cast<std::int8_t>(round_half_even(units));
  }
  static float load(float stored) { return stored; }
  static float load(bfloat16 stored) { return to_float(stored); }
  [[nodiscard]] float load(std::int8_t stored) const { return static_cast<float>(stored) * unit_ + middle_; }

  std::variant<matrix<float>, matrix<bfloat16>, matrix<std::int8_t>> values_;
  float unit_;   ///< of fixed8, 2^(bits - 8)
  float middle_; ///< of fixed8, the level that is stored as 0
};

} // namespace qlr::train::detail
