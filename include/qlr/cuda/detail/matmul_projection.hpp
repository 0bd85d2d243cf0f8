// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/matmul_items.hpp>
#include <qlr/cuda/detail/matmul_tile.hpp>

namespace qlr::cuda::detail {

/// 2^-exponent for exponents of floats, 2^-126 to 2^126.
[[nodiscard]] QLR_DEVICE inline float inverse_power(int exponent) {
  const int clamped = exponent < -126 ? -126 : exponent > 126 ? 126 : exponent;
  return std::bit_cast<float>(static_cast<std::uint32_t>(127 - clamped) << 23U);
}

/// Projections P = scale * R x of one rank group and token tile. Every token's numbers are divided by a power
/// of two before they are rounded to T, so that no outlier of X overflows fp16.
template <int Bits, class T, class Shape, kernel_thread Thread>
class projection {
public:
  using shape = Shape;
  using memory = tile_memory<Bits, Shape>;
  using tile_sums = float[shape::warp_tiles][shape::fragments][4];

  QLR_DEVICE projection(Thread& thread, const matmul_arguments& arguments)
      : thread_(thread), arguments_(arguments), lane_(thread.index() % warp_size),
        warp_(thread.index() / warp_size) {}

  /// One block of 64 columns: sums += R X^T. Warp w takes tile w % 4 and every `token_stride`-th fragment,
  /// from w / 4 on.
  QLR_DEVICE void multiply(const work_item& item, const unsigned char* stage, tile_sums& sums) const {
    if (item.kind == item_kind::skipped || tile() >= arguments_.group(item.group).tiles) return;
    const auto* blocks = reinterpret_cast<const std::uint32_t*>(stage);
    lane_codes<number_bits> codes;
    const level_lookup<number_bits> look_up(nullptr, lane_);
    const fragment_reader read(lane_, 1);
    QLR_DEVICE_UNROLL
    for (int step = 0; step < steps_per_block; step += 2) {
      std::uint32_t right[2][4];
      QLR_DEVICE_UNROLL
      for (int i = 0; i < 2; ++i) {
        load_step_codes(blocks + tile() * words_per_block(number_bits), lane_, step + i, codes);
        look_up(codes, step + i, right[i]);
      }
      QLR_DEVICE_UNROLL
      for (int i = 0; i < warp_fragments; ++i) {
        const int fragment = warp_ / 4 + i * token_stride;
        if (fragment >= shape::tokens / 8) continue;
        std::uint32_t x[2][2];
        read(thread_, stage + memory::code_bytes, fragment, step, x);
        QLR_DEVICE_UNROLL
        for (int j = 0; j < 2; ++j) thread_.template multiply_add<T>(sums_of(sums, i), right[j], x[j]);
      }
    }
  }

  /// Stores this slice's sums: (token of the tile, 64).
  QLR_DEVICE void store(const work_item& item, tile_sums& sums) const {
    if (tile() >= arguments_.group(item.group).tiles) return;
    float* out = partials(item, item.slice);
    QLR_DEVICE_UNROLL
    for (int i = 0; i < warp_fragments; ++i) {
      const int fragment = warp_ / 4 + i * token_stride;
      if (fragment >= shape::tokens / 8) continue;
      QLR_DEVICE_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int token = 8 * fragment + 2 * (lane_ % 4) + j % 2;
        out[token * ranks_per_group + tile_rows * tile() + lane_ / 4 + j / 2 * 8] = sums_of(sums, i)[j];
      }
    }
  }

  /// Adds the slices in their order and stores P; a warp takes a token, a lane two ranks.
  QLR_DEVICE void finish(const work_item& item) const {
    const rank_group& group = arguments_.group(item.group);
    const index_t groups = arguments_.num_groups();
    for (int i = warp_; i < shape::tokens; i += shape::warps) {
      const index_t token = static_cast<index_t>(item.token_tile) * shape::tokens + i;
      const bool exists = token < arguments_.tokens &&
                          (group.adapter < 0 || arguments_.adapter_of_token[token] == group.adapter);
      float sums[2] = {};
      if (exists && 2 * lane_ < tile_rows * group.tiles) {
        for (int slice = 0; slice < arguments_.schedule.right_slices; ++slice) {
          const float_pair part =
              *reinterpret_cast<const float_pair*>(partials(item, slice) + i * ranks_per_group + 2 * lane_);
          sums[0] += part.values[0];
          sums[1] += part.values[1];
        }
      }
      const float first = sums[0] * group.scale;
      const float second = sums[1] * group.scale;
      const float first_size = first < 0 ? -first : first;
      const float second_size = second < 0 ? -second : second;
      float largest = first_size > second_size ? first_size : second_size;
      QLR_DEVICE_UNROLL
      for (int mask = 16; mask > 0; mask /= 2) {
        const float other = thread_.shuffle_xor(largest, mask);
        largest = other > largest ? other : largest;
      }
      const float factor = largest > 0 ? inverse_power(floor_log2(largest)) : 1.0F;
      auto* out = reinterpret_cast<std::uint32_t*>(arguments_.projected) +
                  (token * groups + item.group) * (ranks_per_group / 2);
      out[lane_] = to_pair<T>(first * factor, second * factor);
      if (lane_ == 0) arguments_.projected_scales[token * groups + item.group] = 1.0F / factor;
    }
  }

private:
  static constexpr int token_stride = shape::warps / 4;
  static constexpr int warp_fragments = (shape::tokens / 8 + token_stride - 1) / token_stride;
  static_assert(warp_fragments <= shape::warp_tiles * shape::fragments);

  [[nodiscard]] QLR_DEVICE int tile() const { return warp_ % 4; }

  /// The accumulators of a tile of Y, as those of fragments.
  [[nodiscard]] QLR_DEVICE static float (&sums_of(tile_sums& sums, int index))[4] {
    return sums[index / shape::fragments][index % shape::fragments];
  }

  [[nodiscard]] QLR_DEVICE float* partials(const work_item& item, int slice) const {
    const index_t place = (static_cast<index_t>(item.token_tile) * arguments_.num_groups() + item.group) *
                              arguments_.schedule.right_slices +
                          slice;
    return arguments_.right_partials + place * shape::tokens * ranks_per_group;
  }

  Thread& thread_;
  const matmul_arguments& arguments_;
  int lane_;
  int warp_;
};

} // namespace qlr::cuda::detail
