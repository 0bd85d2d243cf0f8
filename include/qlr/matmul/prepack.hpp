// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul/packed_weights.hpp>

#include <concepts>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace qlr {

/// Rearranges Q + s L R for the kernels of an instruction set; nothing is rounded.
///
/// @param q      Q (m,n) in any format and grouping
/// @param left   L (m,r);  @param right  R (r,n); both empty for no low-rank part
/// @param scale  s
/// @param input_scales  what X is divided by before Q (n), positive; empty = ones
/// @param set    default: the fastest of this machine, or what the environment variable QLR_ISA names
/// @throws qlr::error invalid_argument: Q is empty
/// @throws qlr::error shape_mismatch, non_finite: see prepack_factors; input scales of another number
/// @throws qlr::error unsupported: this machine lacks the instruction set
/// @memory see packed_weights
/// @complexity O(m n)
[[nodiscard]] inline packed_weights prepack(const quantized_matrix_view& q, matrix_view<const float> left,
                                            matrix_view<const float> right, float scale, isa set,
                                            std::span<const float> input_scales = {}) {
  require(q.rows() > 0 && q.cols() > 0, status_code::invalid_argument, "Q is ", q.rows(), " x ", q.cols(),
          ", it must not be empty");
  using namespace matmul_detail;
  packed_weights out;
  require(left.rows() == q.rows() && right.cols() == q.cols(), status_code::shape_mismatch, "L is ",
          left.rows(), " x ", left.cols(), " and R is ", right.rows(), " x ", right.cols(), ", Q is ",
          q.rows(), " x ", q.cols());
  require(input_scales.empty() || static_cast<index_t>(input_scales.size()) == q.cols(),
          status_code::shape_mismatch, "input_scales has ", input_scales.size(), " entries, Q is ", q.rows(),
          " x ", q.cols());
  out.low_rank_ = prepack_factors(left, right, scale, set);
  for (const float value : input_scales) {
    const float factor = 1.0F / value;
    require(is_finite(value) && is_finite(factor) && value > 0, status_code::invalid_argument,
            "input_scales holds ", value, ", each must be finite and positive");
    out.input_factors_.push_back(factor);
  }
  out.set_ = set;
  out.layout_ = q.layout;
  out.shape_ = make_geometry(q.layout);
  const geometry& shape = out.shape_;
  out.levels_.assign(q.levels, q.levels + (index_t{1} << q.layout.bits));
  out.tables_ = std::make_unique<level_tables>(make_tables(q.levels, q.layout.bits, shape.code_bits));

  const index_t panel = panel_rows(lanes_of(set));
  const index_t padded_rows = out.num_panels() * panel;
  out.codes_ = aligned_bytes(4 * padded_rows * shape.num_blocks * shape.words_per_block);
  std::vector<code_t> codes(static_cast<std::size_t>(q.cols()));
  for (index_t i = 0; i < q.rows(); ++i) {
    unpack_codes(q.layout.order, q.codes + i * q.layout.row_bytes(), q.cols(), q.layout.bits, codes.data());
    out.for_each_code(i, [&](index_t col, index_t word, int shift) {
      const std::uint32_t code = codes[static_cast<std::size_t>(col)];
      const std::uint32_t value = out.load_word(word) | (code << shift);
      std::memcpy(out.codes_.data() + 4 * word, &value, sizeof value);
    });
  }

  const auto num_packed = static_cast<std::size_t>(padded_rows * shape.num_groups);
  std::vector<float> scales(num_packed); // (panel, group, panel row)
  std::vector<float> zeros(num_packed);
  for (index_t i = 0; i < q.rows(); ++i) {
    for (index_t g = 0; g < shape.num_groups; ++g) {
      const auto target = static_cast<std::size_t>((i / panel * shape.num_groups + g) * panel + i % panel);
      const block_scale block = q.block(q.layout.scale_index(i, g));
      scales[target] = block.scale;
      zeros[target] = block.zero;
    }
  }
  out.scales_ = packed_numbers(scales);
  if (q.layout.zeros != zero_point::none) out.zeros_ = packed_numbers(zeros);
  const auto copy = [](const std::uint8_t* bytes, index_t count) {
    return count == 0 ? std::vector<std::uint8_t>() : std::vector<std::uint8_t>(bytes, bytes + count);
  };
  out.original_scales_ = {q.layout.scales, q.scales.count,
                          copy(q.scales.codes, scale_code_bytes(q.layout.scales, q.layout.num_scales())),
                          copy(q.scales.supers, scale_super_bytes(q.layout.scales, q.layout.num_scales())),
                          q.scales.base};
  out.original_zeros_ = copy(q.zeros, q.layout.zero_bytes());
  return out;
}

/// @copydoc prepack
[[nodiscard]] inline packed_weights prepack(const quantized_matrix_view& q, matrix_view<const float> left,
                                            matrix_view<const float> right, float scale = 1.0F) {
  return prepack(q, left, right, scale, default_isa());
}

/// Packs a quantized matrix without a low-rank part.
[[nodiscard]] inline packed_weights prepack(const quantized_matrix_view& q, isa set) {
  return prepack(q, {nullptr, q.rows(), 0}, {nullptr, 0, q.cols()}, 1.0F, set);
}

/// Packs a decomposition: whatever has quantized, left, right and scale.
template <class Decomposition>
  requires requires(const Decomposition& parts) {
    parts.quantized.view();
    parts.left.view();
    parts.right.view();
    parts.scale;
  }
[[nodiscard]] packed_weights prepack(const Decomposition& parts, isa set) {
  if constexpr (requires { parts.input_scales; }) {
    return prepack(parts.quantized.view(), parts.left.view(), parts.right.view(), parts.scale, set,
                   parts.input_scales);
  } else {
    return prepack(parts.quantized.view(), parts.left.view(), parts.right.view(), parts.scale, set);
  }
}

/// Packs an open decomposition file: whatever has quantized(), left(), right() and scale().
template <class File>
  requires requires(const File& file) {
    { file.quantized() } -> std::convertible_to<const quantized_matrix_view&>;
    file.left().view();
    file.right().view();
    file.scale();
  }
[[nodiscard]] packed_weights prepack(const File& file, isa set) {
  if constexpr (requires { file.input_scales(); }) {
    return prepack(file.quantized(), file.left().view(), file.right().view(), file.scale(), set,
                   file.input_scales());
  } else {
    return prepack(file.quantized(), file.left().view(), file.right().view(), file.scale(), set);
  }
}

/// @copydoc prepack
template <class Decomposition>
  requires requires(const Decomposition& parts, isa set) {
    prepack(parts, set);
  }
[[nodiscard]] packed_weights prepack(const Decomposition& parts) {
  return prepack(parts, default_isa());
}

} // namespace qlr
