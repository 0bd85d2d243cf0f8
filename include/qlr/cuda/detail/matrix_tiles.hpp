// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/kernel_thread.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>
#include <bit>
#include <cstring>

namespace qlr::cuda::detail {

/// A matrix cut into tiles of 1024 elements: 1024 columns of one row, or fewer columns of several rows where
/// rows are short. Tiles start on a multiple of 32 columns, hence on a byte of packed codes.
struct matrix_tiles {
  static constexpr int size = 1024;
  static constexpr int threads = 128;          // of a block that works on a tile
  static constexpr int steps = size / threads; // elements of a thread

  index_t rows = 0;
  index_t cols = 0;
  int log2_cols = 10; // columns of a tile: 32 to 1024
  index_t tiles_per_row = 0;
  index_t count = 0;

  matrix_tiles() = default;
  matrix_tiles(index_t matrix_rows, index_t matrix_cols) : rows(matrix_rows), cols(matrix_cols) {
    const auto width = static_cast<unsigned>(std::clamp<index_t>(matrix_cols, 32, size));
    log2_cols = static_cast<int>(std::bit_width(width - 1));
    tiles_per_row = (cols + tile_cols() - 1) / tile_cols();
    count = tiles_per_row * ((rows + tile_rows() - 1) / tile_rows());
  }

  [[nodiscard]] QLR_HOST_DEVICE int tile_cols() const { return 1 << log2_cols; }
  [[nodiscard]] QLR_HOST_DEVICE int tile_rows() const { return size >> log2_cols; }

  /// Blocks of threads for a kernel that takes tiles in turns.
  [[nodiscard]] index_t num_blocks(index_t most) const { return std::min(count, most); }
};

/// One tile: its corner and its part inside the matrix.
struct matrix_tile {
  index_t row;
  index_t col;
  int num_rows;
  int num_cols;

  QLR_HOST_DEVICE matrix_tile(const matrix_tiles& tiles, index_t index)
      : row(index / tiles.tiles_per_row * tiles.tile_rows()),
        col(index % tiles.tiles_per_row * tiles.tile_cols()),
        num_rows(static_cast<int>(std::min<index_t>(tiles.tile_rows(), tiles.rows - row))),
        num_cols(static_cast<int>(std::min<index_t>(tiles.tile_cols(), tiles.cols - col))) {}
};

/// The part of a view that a tile covers, for the places (i, j) in it.
template <class T>
[[nodiscard]] QLR_HOST_DEVICE device_view<T> part_of(device_view<T> view, const matrix_tile& tile) {
  return {&view(tile.row, tile.col), tile.num_rows, tile.num_cols, view.row_stride(), view.col_stride()};
}

/// Calls body(step, place, i, j) for this thread's elements (i, j) of a tile; place counts them in the tile.
///
/// The loop is unrolled, so that an array indexed by `step` stays in registers: kernels load all elements of
/// a tile before they use one, and wait for memory once.
template <kernel_thread Thread, class Body>
QLR_DEVICE void for_each_in_tile(Thread& thread, const matrix_tiles& tiles, const matrix_tile& tile,
                                 Body&& body) {
  QLR_DEVICE_UNROLL
  for (int step = 0; step < matrix_tiles::steps; ++step) {
    const int place = thread.index() + step * matrix_tiles::threads;
    const int i = place >> tiles.log2_cols;
    const int j = place & (tiles.tile_cols() - 1);
    if (i < tile.num_rows && j < tile.num_cols) body(step, place, i, j);
  }
}

/// Calls body(row, col) for this thread's share of a matrix.
template <kernel_thread Thread, class Body>
QLR_DEVICE void for_each_element(Thread& thread, const matrix_tiles& tiles, Body&& body) {
  for (index_t index = thread.block(); index < tiles.count; index += thread.num_blocks()) {
    const matrix_tile tile(tiles, index);
    for_each_in_tile(thread, tiles, tile, [&](int, int, int i, int j) { body(tile.row + i, tile.col + j); });
  }
}

/// Groups that share a scale, as far as they lie in the columns of one tile.
struct tile_groups {
  index_t first; // group of the tile's first column
  int count;     // groups that the tile has columns of

  QLR_HOST_DEVICE tile_groups(const matrix_tile& tile, index_t group_cols)
      : first(tile.col / group_cols), count(1) {
    const index_t left = (first + 1) * group_cols - tile.col; // columns of the first group
    boundary_ = static_cast<unsigned>(std::min<index_t>(left, matrix_tiles::size));
    const auto width = static_cast<unsigned>(std::min<index_t>(group_cols, matrix_tiles::size));
    reciprocal_ = ((1U << shift) + width - 1) / width;
    count += (*this)(tile.num_cols - 1);
  }

  /// Group of column j of the tile, counted from `first`.
  [[nodiscard]] QLR_HOST_DEVICE int operator()(int j) const {
    // Exact: the rounded-up reciprocal is off by less than 2^-20, j and the width are at most 1024.
    const auto column = static_cast<unsigned>(j);
    return column < boundary_ ? 0 : 1 + static_cast<int>(((column - boundary_) * reciprocal_) >> shift);
  }

private:
  static constexpr unsigned shift = 20;
  unsigned boundary_ = 0;
  unsigned reciprocal_ = 0;
};

/// Calls body(place, i, group) for this thread's share of the groups of a tile, row i of it and group counted
/// from the first; place is where for_each_in_tile finds what is kept for (i, groups(j)).
///
/// Not unrolled: most tiles have fewer groups than a block has threads.
template <kernel_thread Thread, class Body>
QLR_DEVICE void for_each_group_in_tile(Thread& thread, const matrix_tiles& tiles, const matrix_tile& tile,
                                       const tile_groups& groups, Body&& body) {
  QLR_DEVICE_NO_UNROLL
  for (int place = thread.index(); place < tile.num_rows << tiles.log2_cols; place += matrix_tiles::threads) {
    const int group = place & (tiles.tile_cols() - 1);
    if (group < groups.count) body(place, place >> tiles.log2_cols, group);
  }
}

/// A grid where its tables are looked up fast: in shared memory, unless it is small.
///
/// Other threads see it after the next sync(); the memory is written again by nobody.
template <class Grid>
inline constexpr index_t shared_grid_bytes = sizeof(Grid) > 32
                                                 ? (static_cast<index_t>(sizeof(Grid)) + 15) / 16 * 16
                                                 : 0;

template <class Grid, kernel_thread Thread>
QLR_DEVICE const Grid& share_grid(Thread& thread, const Grid& grid, index_t offset) {
  if constexpr (shared_grid_bytes<Grid> == 0) {
    return grid;
  } else {
    auto* target = thread.template shared<unsigned char>(offset);
    const auto* source = reinterpret_cast<const unsigned char*>(&grid);
    constexpr int word = sizeof(Grid) % 4 == 0 && alignof(Grid) >= 4 ? 4 : 1;
    for (int i = word * thread.index(); i < static_cast<int>(sizeof(Grid)); i += word * thread.num_threads())
      std::memcpy(target + i, source + i, word);
    return *reinterpret_cast<const Grid*>(target);
  }
}

} // namespace qlr::cuda::detail
