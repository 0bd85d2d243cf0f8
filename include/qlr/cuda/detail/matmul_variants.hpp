// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/cuda/detail/matmul_tile.hpp>
#include <qlr/quant/concepts.hpp>

#include <array>
#include <string>
#include <string_view>

namespace qlr::cuda::detail {

/// A kernel of the fused product.
struct matmul_variant {
  std::string_view name;
  int tokens;           ///< of a tile of Y
  bool gathers;         ///< reads X element by element: any strides, any alignment, any group size
  bool scales_operands; ///< (level - zero) * scale is rounded to T: not for zero points that are any number
  int compute_capability = 80; ///< the least
  int group_tiles = 0;         ///< products of 64 rows of a warpgroup; 0: no warpgroups
};

/// Every variant, the fast ones first.
inline constexpr auto matmul_variants = std::to_array<matmul_variant>({
    {"decode_8", 8, false, false},
    {"tokens_16", 16, false, false},
    {"tokens_32", 32, false, false},
    {"tokens_64", 64, false, false},
    {"prefill_128", 128, false, true},
    {"prefill_wgmma_256", 128, false, true, 90, 2},
    {"prefill_wgmma_128", 128, false, true, 90, 1},
    {"decode_8_gather", 8, true, false},
    {"tokens_16_gather", 16, true, false},
    {"tokens_32_gather", 32, true, false},
    {"tokens_64_gather", 64, true, false},
    {"prefill_128_gather", 128, true, true},
});

/// What the choice of a variant depends on besides the number of tokens.
struct variant_limits {
  bool needs_gather = false; ///< X cannot be copied 16 bytes at a time
  bool has_real_zeros = false;
  int compute_capability = 0;
  int multiprocessors = 0;
  bool has_warpgroups = false; ///< device and program have kernels of warpgroups
  bool arranges_x = false;     ///< Q needs X in another form for those kernels, whatever X's strides
  index_t rows = 0;            ///< of Q

  [[nodiscard]] bool allow(const matmul_variant& variant) const {
    const bool reads_x = variant.gathers || !needs_gather || (variant.group_tiles > 0 && arranges_x);
    return reads_x && !(variant.scales_operands && has_real_zeros) &&
           compute_capability >= variant.compute_capability && (variant.group_tiles == 0 || has_warpgroups);
  }
};

/// The variant for a number of tokens: warpgroups above 64, tall tiles where they keep the device busy;
/// otherwise the smallest tile that holds the tokens, or the largest.
[[nodiscard]] inline const matmul_variant& choose_variant(const variant_limits& limits, index_t tokens) {
  constexpr index_t least_group_tokens = 65;
  constexpr index_t tall_rows = 256;
  const matmul_variant* chosen = nullptr;
  for (const matmul_variant& each : matmul_variants) {
    if (!limits.allow(each)) continue;
    if (each.group_tiles > 0) {
      const index_t tall_tiles =
          (limits.rows + tall_rows - 1) / tall_rows * ((tokens + each.tokens - 1) / each.tokens);
      const bool is_right = each.group_tiles == (tall_tiles >= limits.multiprocessors ? 2 : 1);
      if (tokens >= least_group_tokens && is_right) return each;
      continue;
    }
    if (each.gathers != limits.needs_gather) continue;
    if (chosen == nullptr || chosen->tokens < tokens) chosen = &each;
  }
  return *chosen;
}

/// The variant of a name.
///
/// @throws qlr::error invalid_argument: none that is allowed here has this name; the message lists those
[[nodiscard]] inline const matmul_variant& find_variant(const variant_limits& limits, std::string_view name) {
  std::string names;
  for (const matmul_variant& each : matmul_variants) {
    if (!limits.allow(each)) continue;
    if (each.name == name) return each;
    names += sentence(names.empty() ? "" : ", ", each.name);
  }
  fail(status_code::invalid_argument, "variant is '", name, "', allowed here are ", names);
}

} // namespace qlr::cuda::detail
