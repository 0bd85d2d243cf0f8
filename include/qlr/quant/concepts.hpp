// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/core/types.hpp>

#include <concepts>

namespace qlr {

/// Scale and zero point of one block: element = scale * (level - zero).
struct block_scale {
  float scale = 0;
  float zero = 0; ///< in units of the scale; stays 0 for symmetric grids
};

/// How the zero point of a block is stored.
enum class zero_point {
  none,    ///< symmetric: always 0
  integer, ///< one of the codes, in `bits` bits
  real     ///< any binary32: the block's minimum is met exactly
};

/// Which elements sit where in the bytes of one row of codes; see code_packing.hpp for the diagrams.
enum class code_order {
  lsb_first, ///< a bit string filled from the least significant bit of byte 0
  msb_first, ///< a bit string filled from the most significant bit of byte 0
  split_half ///< 4 bits, blocks of 32: byte j holds elements j (low nibble) and j + 16 (high nibble)
};

/// A grid maps a normalised value to the nearest code and a code to its level.
///
/// `encode(value)` accepts any finite value (it saturates) and `decode(code)` any code below `num_codes()`.
/// `absmax_level()` is the magnitude that a block's largest element is scaled to by the absmax rule.
/// `lowest_level()` is the most negative level.
template <class Grid>
concept grid_policy = requires(const Grid grid, float value, code_t code) {
  { grid.bits() } -> std::same_as<int>;
  { grid.num_codes() } -> std::same_as<int>;
  { grid.encode(value) } -> std::same_as<code_t>;
  { grid.decode(code) } -> std::same_as<float>;
  { grid.absmax_level() } -> std::same_as<float>;
  { grid.lowest_level() } -> std::same_as<float>;
};

namespace detail {
/// Stands for "any grid" in the concept of a scale rule.
struct grid_archetype {
  [[nodiscard]] static int bits() { return 1; }
  [[nodiscard]] static int num_codes() { return 2; }
  [[nodiscard]] static code_t encode(float value) { return value > 0.0F ? code_t{1} : code_t{0}; }
  [[nodiscard]] static float decode(code_t code) { return static_cast<float>(code); }
  [[nodiscard]] static float absmax_level() { return 1.0F; }
  [[nodiscard]] static float lowest_level() { return 0.0F; }
};
static_assert(grid_policy<grid_archetype>);
} // namespace detail

/// A scale rule finds the scale (and zero point) of one block of elements for a grid.
///
/// `find(block, grid)` gets a block with contiguous rows; a block of zeros gives scale 0.
template <class Rule>
concept scale_policy = requires(const Rule rule, matrix_view<const float> block,
                                const detail::grid_archetype grid) {
  { rule.find(block, grid) } -> std::same_as<block_scale>;
  { Rule::zeros } -> std::convertible_to<zero_point>;
};

/// A packing puts `count` codes of `bits` bits into bytes and back.
template <class Packing>
concept packing_policy = requires(const code_t* codes, std::uint8_t* bytes, code_t* unpacked,
                                  const std::uint8_t* packed, index_t count, int bits) {
  { Packing::order } -> std::convertible_to<code_order>;
  Packing::pack(codes, count, bits, bytes);
  Packing::unpack(packed, count, bits, unpacked);
};

} // namespace qlr
