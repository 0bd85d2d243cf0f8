// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/matmul_items.hpp>
#include <qlr/cuda/detail/wgmma_tile.hpp>

#include <cstdint>

namespace qlr::cuda::detail {

/// Stores a warp's sums to Y where its rows are contiguous, through shared memory.
///
/// A lane's sums are of 8 rows, and 8 lanes' of one token: stored as they are they would fill 16 of the 32
/// bytes that memory writes at once, 128 times per thread, about 4000 clocks per tile of Y; rearranged they
/// fill 64 and take about 1000.
template <class T, int RowTiles>
class group_output {
public:
  using shape = group_shape<RowTiles>;
  using tile_sums = float[RowTiles][shape::fragments][4];
  static constexpr int rows = tile_rows * RowTiles; ///< of a warp
  static constexpr int pass_tokens = 64;            ///< that are in shared memory at once

  template <class Y>
  static constexpr int pitch = rows* static_cast<int>(sizeof(Y)) +
                               16; ///< bytes per token, spreads over banks
  static constexpr int warp_bytes = pass_tokens * pitch<float>;

  QLR_DEVICE group_output(const matmul_arguments& arguments, const work_item& item, int warp)
      : arguments_(arguments), first_row_(item.row_tile * index_t{shape::rows} + warp * rows),
        first_token_(item.token_tile * index_t{shape::tokens}) {}

  /// Whether this warp's rows of Y can be stored 16 bytes at a time.
  [[nodiscard]] QLR_DEVICE bool fits() const {
    const index_t bytes = arguments_.y_is_float ? 4 : 2;
    return arguments_.y_col_stride == 1 && arguments_.y_row_stride * bytes % 16 == 0 &&
           reinterpret_cast<std::uintptr_t>(arguments_.y) % 16 == 0 &&
           first_row_ + rows <= arguments_.weights.rows;
  }

  /// Y = sums + bias.
  ///
  /// @param memory  warp_bytes of shared memory of this warp
  template <class Thread>
  QLR_DEVICE void store(Thread& thread, unsigned char* memory, const tile_sums& sums) const {
    if (arguments_.y_is_float) {
      store_as<float>(thread, memory, sums, [](float value) { return value; });
    } else {
      store_as<std::uint16_t>(thread, memory, sums, [](float value) { return to_half<T>(value).bits; });
    }
  }

private:
  template <class Y, class Thread, class Convert>
  QLR_DEVICE void store_as(Thread& thread, unsigned char* memory, const tile_sums& sums,
                           Convert convert) const {
    constexpr int chunks = rows * static_cast<int>(sizeof(Y)) / 16; // of a token
    const int lane = thread.index() % warp_size;
    float bias[RowTiles][2] = {};
    if (arguments_.bias != nullptr) {
      QLR_DEVICE_UNROLL
      for (int r = 0; r < RowTiles; ++r) {
        bias[r][0] = arguments_.bias[first_row_ + tile_rows * r + lane / 4];
        bias[r][1] = arguments_.bias[first_row_ + tile_rows * r + lane / 4 + 8];
      }
    }
    QLR_DEVICE_UNROLL
    for (int pass = 0; pass < shape::tokens / pass_tokens; ++pass) {
      QLR_DEVICE_UNROLL
      for (int f = 0; f < pass_tokens / 8; ++f) {
        QLR_DEVICE_UNROLL
        for (int r = 0; r < RowTiles; ++r) {
          QLR_DEVICE_UNROLL
          for (int j = 0; j < 4; ++j) {
            const int token = 8 * f + 2 * (lane % 4) + j % 2;
            const int row = tile_rows * r + lane / 4 + 8 * (j / 2);
            reinterpret_cast<Y*>(memory + token * pitch<Y>)[row] =
                convert(sums[r][pass * (pass_tokens / 8) + f][j] + bias[r][j / 2]);
          }
        }
      }
      thread.sync_warp();
      for (int i = lane; i < pass_tokens * chunks; i += warp_size) {
        const index_t token = first_token_ + pass * pass_tokens + i / chunks;
        if (token >= arguments_.tokens) break;
        Y* to = static_cast<Y*>(arguments_.y) + token * arguments_.y_row_stride + first_row_;
        reinterpret_cast<quad*>(to)[i % chunks] =
            *reinterpret_cast<const quad*>(memory + i / chunks * pitch<Y> + 16 * (i % chunks));
      }
      thread.sync_warp();
    }
  }

  const matmul_arguments& arguments_;
  index_t first_row_;
  index_t first_token_;
};

} // namespace qlr::cuda::detail
