// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/cuda/detail/number_array.hpp>
#include <qlr/cuda/device.hpp>
#include <qlr/cuda/device_buffer.hpp>

#include <concepts>
#include <cstdint>
#include <span>
#include <vector>

namespace qlr::cuda {

/// Element types of X on a device: what tensor cores multiply.
template <class T>
concept half_scalar = std::same_as<T, float16> || std::same_as<T, bfloat16>;

namespace detail {

/// L and R in blocks, in host memory.
struct factor_blocks {
  std::vector<std::uint32_t> words;
  std::vector<index_t> right_offsets; ///< of each rank group, in words
  std::vector<index_t> left_offsets;
  std::vector<std::int32_t> tiles; ///< of 16 ranks
  float scale = 1;                 ///< s times the powers of two that L and R were divided by
};

inline void set_half(std::uint32_t& word, int side, std::uint16_t bits) {
  word |= static_cast<std::uint32_t>(bits) << (16 * side);
}

/// The blocks of R (r,n), ranks first ... first + 16 tiles - 1: (column blocks, tiles, 512 words).
template <half_scalar T>
void append_right(matrix_view<const float> right, index_t first, int tiles, int exponent,
                  std::vector<std::uint32_t>& words) {
  const auto start = static_cast<index_t>(words.size());
  const index_t blocks = (right.cols() + block_cols - 1) / block_cols;
  words.resize(static_cast<std::size_t>(start + blocks * tiles * words_per_block(number_bits)));
  for (index_t k = first; k < std::min(right.rows(), first + tile_rows * tiles); ++k) {
    const index_t tile = (k - first) / tile_rows;
    for (index_t j = 0; j < right.cols(); ++j) {
      const block_place place =
          place_in_block(static_cast<int>((k - first) % tile_rows), static_cast<int>(j % block_cols));
      const index_t block = start + (j / block_cols * tiles + tile) * words_per_block(number_bits);
      const index_t word = block + word_in_block(place.lane, place.pair, number_bits);
      set_half(words[static_cast<std::size_t>(word)], place.side,
               round_to_half<T>(std::ldexp(right(k, j), -exponent)).bits);
    }
  }
}

/// The steps of L (m,r), ranks first ... first + 16 tiles - 1: (row tiles, tiles, 128 words).
template <half_scalar T>
void append_left(matrix_view<const float> left, index_t first, int tiles, int exponent,
                 std::vector<std::uint32_t>& words) {
  constexpr index_t step_words = words_per_block(number_bits) / steps_per_block;
  const auto start = static_cast<index_t>(words.size());
  const index_t row_tiles = (left.rows() + tile_rows - 1) / tile_rows;
  words.resize(static_cast<std::size_t>(start + row_tiles * tiles * step_words));
  for (index_t i = 0; i < left.rows(); ++i) {
    for (index_t k = first; k < std::min(left.cols(), first + tile_rows * tiles); ++k) {
      const block_place place =
          place_in_block(static_cast<int>(i % tile_rows), static_cast<int>((k - first) % block_cols));
      const index_t block = start + i / tile_rows * tiles * step_words;
      const index_t word = block + word_in_block(place.lane, place.pair, number_bits);
      set_half(words[static_cast<std::size_t>(word)], place.side,
               round_to_half<T>(std::ldexp(left(i, k), -exponent)).bits);
    }
  }
}

/// The exponent of a matrix's largest entry.
[[nodiscard]] inline int exponent_of_matrix(matrix_view<const float> values) {
  float largest = 0;
  for (index_t i = 0; i < values.rows(); ++i) {
    for (index_t j = 0; j < values.cols(); ++j) largest = std::max(largest, std::fabs(values(i, j)));
  }
  return exponent_of(largest);
}

template <half_scalar T>
[[nodiscard]] factor_blocks make_factor_blocks(matrix_view<const float> left, matrix_view<const float> right,
                                               float scale) {
  require(left.cols() == right.rows(), status_code::shape_mismatch, "L is ", left.rows(), " x ", left.cols(),
          " and R is ", right.rows(), " x ", right.cols());
  require(is_finite(scale), status_code::non_finite, "scale is ", scale, ", it must be finite");
  require_finite(left, "L");
  require_finite(right, "R");
  factor_blocks out;
  const int left_exponent = exponent_of_matrix(left);
  const int right_exponent = exponent_of_matrix(right);
  out.scale = std::ldexp(scale, left_exponent + right_exponent);
  for (index_t first = 0; first < right.rows(); first += ranks_per_group) {
    const index_t ranks = std::min<index_t>(ranks_per_group, right.rows() - first);
    const auto tiles = static_cast<int>((ranks + tile_rows - 1) / tile_rows);
    out.tiles.push_back(tiles);
    out.right_offsets.push_back(static_cast<index_t>(out.words.size()));
    append_right<T>(right, first, tiles, right_exponent, out.words);
    out.left_offsets.push_back(static_cast<index_t>(out.words.size()));
    append_left<T>(left, first, tiles, left_exponent, out.words);
  }
  return out;
}

} // namespace detail

/// The factors of s L R on a device, in the order of the kernels: a base's own low-rank part, or an adapter
/// for any base of its shape.
///
/// Immutable. Entries are rounded to T after division by the power of two of the factor's largest entry.
/// @memory 2 bytes per entry; ranks, L's rows and R's columns are padded to 16, 16 and 64
template <half_scalar T>
class packed_factors {
public:
  packed_factors() = default;

  /// Packs L (m,r) and R (r,n), host memory; the copy to the current device has been enqueued.
  ///
  /// @param scale  s
  /// @throws qlr::error shape_mismatch: L and R do not fit;  non_finite: an entry, or s
  /// @throws qlr::error out_of_memory, device_failure: the device refuses
  /// @complexity O(r (m + n))
  packed_factors(matrix_view<const float> left, matrix_view<const float> right, float scale,
                 cudaStream_t stream = nullptr)
      : rows_(left.rows()), cols_(right.cols()), rank_(right.rows()), scale_(scale) {
    const detail::factor_blocks blocks = detail::make_factor_blocks<T>(left, right, scale);
    device_ = current_device().index;
    words_ = to_device(std::span<const std::uint32_t>(blocks.words), stream);
    for (std::size_t i = 0; i < blocks.tiles.size(); ++i) {
      groups_.push_back({words_.data() + blocks.right_offsets[i], words_.data() + blocks.left_offsets[i],
                         blocks.scale, blocks.tiles[i], -1});
    }
  }

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] index_t rank() const { return rank_; }
  [[nodiscard]] float scale() const { return scale_; }
  [[nodiscard]] int device() const { return device_; }
  [[nodiscard]] index_t size_bytes() const { return words_.bytes(); }
  /// What kernels read, with pointers to device memory.
  [[nodiscard]] const std::vector<detail::rank_group>& groups() const { return groups_; }

private:
  index_t rows_ = 0;
  index_t cols_ = 0;
  index_t rank_ = 0;
  float scale_ = 1;
  int device_ = 0;
  device_buffer<std::uint32_t> words_;
  std::vector<detail::rank_group> groups_;
};

/// Packs a quantized adapter: whatever dequantize_left, dequantize_right and scale tell about.
///
/// @throws qlr::error as packed_factors
template <half_scalar T, class Adapter>
  requires requires(const Adapter& adapter) {
    dequantize_left(adapter).view();
    dequantize_right(adapter).view();
    adapter.scale;
  }
[[nodiscard]] packed_factors<T> prepack_factors(const Adapter& adapter, cudaStream_t stream = nullptr) {
  const auto left = dequantize_left(adapter);
  const auto right = dequantize_right(adapter);
  return packed_factors<T>(left.view(), right.view(), adapter.scale, stream);
}

/// The adapters that tokens of one call may name, as kernels find them; the factors must outlive it.
template <half_scalar T>
class adapter_table {
public:
  adapter_table() = default;

  /// @throws qlr::error invalid_argument: a null pointer
  /// @throws qlr::error shape_mismatch: adapters of different shapes, or on different devices
  explicit adapter_table(std::span<const packed_factors<T>* const> adapters, cudaStream_t stream = nullptr)
      : num_adapters_(static_cast<index_t>(adapters.size())) {
    std::vector<detail::rank_group> groups;
    for (std::size_t a = 0; a < adapters.size(); ++a) {
      const packed_factors<T>* each = adapters[a];
      require(each != nullptr, status_code::invalid_argument, "adapter ", a, " is a null pointer");
      if (a == 0) {
        rows_ = each->rows();
        cols_ = each->cols();
        device_ = each->device();
      }
      require(each->rows() == rows_ && each->cols() == cols_ && each->device() == device_,
              status_code::shape_mismatch, "adapter ", a, " is ", each->rows(), " x ", each->cols(),
              " on device ", each->device(), ", adapter 0 is ", rows_, " x ", cols_, " on device ", device_);
      for (detail::rank_group group : each->groups()) {
        group.adapter = static_cast<std::int32_t>(a);
        groups.push_back(group);
      }
    }
    groups_ = to_device(std::span<const detail::rank_group>(groups), stream);
  }

  [[nodiscard]] index_t size() const { return num_adapters_; }
  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] int device() const { return device_; }
  [[nodiscard]] index_t num_groups() const { return groups_.size(); }
  [[nodiscard]] const detail::rank_group* groups() const { return groups_.data(); }

private:
  index_t num_adapters_ = 0;
  index_t rows_ = 0;
  index_t cols_ = 0;
  int device_ = 0;
  device_buffer<detail::rank_group> groups_;
};

} // namespace qlr::cuda
