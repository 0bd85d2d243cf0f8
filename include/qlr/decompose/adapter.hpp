// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/quant/range_rules.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

namespace qlr {

/// Which vectors of an adapter L R are quantized.
enum class adapter_basis {
  singular, ///< U sqrt(S) and sqrt(S) V^T of the singular value decomposition of L R
  given     ///< columns of L and rows of R as they are, all of them with high_bits
};

/// How many pairs of vectors are kept at high_bits; both rules keep one at least.
enum class adapter_split {
  reaches, ///< the smallest number whose share of the squared singular values is at least `ratio` (the paper)
  before   ///< one fewer: the index, counted from 0, of the pair that reaches it (the authors' code)
};

/// How the scale and zero point of a group at 2 bits or more are found.
enum class adapter_range {
  searched, ///< least squared error over scales and zero points
  extended, ///< from min to max, zero included
  tight ///< from min to max as they are, and for 1 bit the mean diluted in a short last group (the authors')
};

/// What is done after rounding to nearest.
enum class adapter_refinement {
  none,
  sgd, ///< gradient descent on each high pair alone (the paper)
  als  ///< all vectors anew in turn, each fitted to what the others leave of the product
};

/// What the gradient of a rounded value is with respect to the value.
enum class adapter_gradient {
  scale,           ///< none but that of the group's scale: round() has derivative 0 (the authors' code)
  straight_through ///< round() has derivative 1 (the paper)
};

/// How an adapter is quantized.
struct adapter_options {
  int high_bits = 2;        ///< 1 to 8; 1 is sign times mean magnitude
  double ratio = 0.9;       ///< 0 to 1: share of the squared singular values that high_bits are spent on
  index_t group_size = 128; ///< elements of a vector per scale, 1 and above; 0 = one scale per vector
  /// fp32, fp16 or bf16; bf16 has the range of float at the bits of fp16, so adapters of any size fit.
  scale_type scales = scale_type::bf16;
  adapter_basis basis = adapter_basis::singular;
  adapter_split split = adapter_split::reaches;
  adapter_range range = adapter_range::searched;
  adapter_refinement refinement = adapter_refinement::none;
  int sgd_steps = 300;
  double sgd_rate = 1e-2;
  adapter_gradient gradient = adapter_gradient::scale;
  int als_sweeps = 12;         ///< at most this many
  double als_tolerance = 1e-3; ///< sweeps end when one lowers the error by less than this share of it
};

/// The options of the authors' code: the figures of the paper's tables.
///
/// @see LoRAQuant, arXiv 2510.26690
[[nodiscard]] inline adapter_options loraquant_options(int high_bits, double ratio) {
  adapter_options options;
  options.high_bits = high_bits;
  options.ratio = ratio;
  options.scales = scale_type::fp32;
  options.split = adapter_split::before;
  options.range = adapter_range::tight;
  return options;
}

/// One factor of a quantized adapter as vectors of m or n elements: columns of L, or rows of R.
struct quantized_vectors {
  quantized_matrix high; ///< (h,length): the leading vectors
  quantized_matrix low;  ///< (r-h,length): the others, 1 bit

  [[nodiscard]] index_t rank() const { return high.rows() + low.rows(); }
  [[nodiscard]] index_t length() const { return high.cols(); }
  [[nodiscard]] index_t code_bits() const {
    return length() * (high.rows() * high.layout().bits + low.rows() * low.layout().bits);
  }
  [[nodiscard]] index_t storage_bytes() const {
    return high.layout().storage_bytes() + low.layout().storage_bytes();
  }
};

/// s L R with both factors in mixed precision.
struct quantized_adapter {
  quantized_vectors left;  ///< the columns of L (m,r)
  quantized_vectors right; ///< the rows of R (r,n)
  float scale = 1.0F;      ///< s, LoRA's alpha / r; never folded into the factors

  [[nodiscard]] index_t rows() const { return left.length(); }
  [[nodiscard]] index_t cols() const { return right.length(); }
  /// At most min(m,n), whatever the rank of the adapter it was made from.
  [[nodiscard]] index_t rank() const { return left.rank(); }
  /// Pairs of vectors at high_bits.
  [[nodiscard]] index_t split_rank() const { return left.high.rows(); }
  [[nodiscard]] index_t num_elements() const { return rank() * (rows() + cols()); }

  /// Bytes of codes, scales and zero points; each vector's codes start on a byte.
  [[nodiscard]] index_t storage_bytes() const { return left.storage_bytes() + right.storage_bytes(); }
  /// Bits per element of L and R: codes alone, as the paper counts.
  [[nodiscard]] double bits_without_scales() const {
    return static_cast<double>(left.code_bits() + right.code_bits()) / static_cast<double>(num_elements());
  }
  /// Bits per element of L and R, everything that is stored counted.
  [[nodiscard]] double bits_with_scales() const {
    return 8.0 * static_cast<double>(storage_bytes()) / static_cast<double>(num_elements());
  }
};

/// A quantized adapter and how it came about.
struct adapter_result {
  quantized_adapter adapter;
  double relative_error = 0;         ///< ||L R - its approximation||_F / ||L R||_F
  double relative_error_rounded = 0; ///< the same before refinement
  double norm = 0;                   ///< ||L R||_F, without s
  int sweeps_run = 0;                ///< als
  double seconds_total = 0;
  double seconds_svd = 0;
  double seconds_refine = 0;
};

/// The smallest number of leading values whose squares add up to `ratio` of all; see adapter_split.
///
/// @param values  singular values, descending; at least one
[[nodiscard]] inline index_t split_rank_of(std::span<const double> values, double ratio,
                                           adapter_split split) {
  double total = 0;
  for (const double value : values) total += value * value;
  index_t count = 0;
  double sum = 0;
  // Rounding must not keep a sum of everything below a ratio of 1.
  const auto most = static_cast<index_t>(values.size());
  const double wanted = ratio * total;
  while (count < most && (count == 0 || ratio >= 1.0 || sum < wanted)) {
    const double value = values[static_cast<std::size_t>(count++)];
    sum += value * value;
  }
  return split == adapter_split::reaches ? count : std::max<index_t>(1, count - 1);
}

/// Vectors in 1 bit, the scale of each group its mean magnitude.
[[nodiscard]] inline any_quantizer make_low_quantizer(const adapter_options& options) {
  quantizer_options storage;
  storage.group_size = options.group_size;
  storage.scales = {scale_coding::plain, options.scales};
  storage.allow_short_group = true;
  const codebook_grid<1> grid(sign_levels, midpoint_rule::upper);
  if (options.range == adapter_range::tight)
    return quantizer("sign", grid, padded_mean_rule{options.group_size}, storage);
  return quantizer("sign", grid, mean_magnitude_rule{}, storage);
}

/// Vectors in high_bits by a range rule.
[[nodiscard]] inline any_quantizer make_high_quantizer(const adapter_options& options, adapter_range range) {
  if (options.high_bits == 1) return make_low_quantizer(options);
  quantizer_options storage;
  storage.group_size = options.group_size;
  storage.scales = {scale_coding::plain, options.scales};
  storage.allow_short_group = true;
  const std::string name = sentence("uint", options.high_bits);
  const uniform_grid<> grid = unsigned_grid(options.high_bits);
  if (range == adapter_range::tight) return quantizer(name, grid, tight_range_rule{}, storage);
  if (range == adapter_range::extended) return quantizer(name, grid, min_max_rule{}, storage);
  return quantizer(name, grid, searched_range_rule{options.scales}, storage);
}

/// L (m,r) of a quantized adapter.
[[nodiscard]] inline matrix<float> dequantize_left(const quantized_adapter& adapter,
                                                   const executor& run = {}) {
  matrix<float> left(adapter.rows(), adapter.rank());
  const matrix_view<float> vectors = left.view().transposed(); // (r,m)
  const index_t h = adapter.split_rank();
  dequantize(adapter.left.high.view(), vectors.middle_rows(0, h), run);
  dequantize(adapter.left.low.view(), vectors.middle_rows(h, adapter.rank() - h), run);
  return left;
}

/// R (r,n) of a quantized adapter.
[[nodiscard]] inline matrix<float> dequantize_right(const quantized_adapter& adapter,
                                                    const executor& run = {}) {
  matrix<float> right(adapter.rank(), adapter.cols());
  const index_t h = adapter.split_rank();
  dequantize(adapter.right.high.view(), right.view().middle_rows(0, h), run);
  dequantize(adapter.right.low.view(), right.view().middle_rows(h, adapter.rank() - h), run);
  return right;
}

/// Checks what can be checked without an adapter.
///
/// @throws qlr::error invalid_argument: an option outside its range
inline void validate(const adapter_options& options) {
  constexpr auto invalid = status_code::invalid_argument;
  require(options.high_bits >= 1 && options.high_bits <= 8, invalid, "high_bits is ", options.high_bits,
          ", allowed are 1 to 8");
  require(options.ratio >= 0 && options.ratio <= 1, invalid, "ratio is ", options.ratio,
          ", allowed are 0 to 1");
  require(options.group_size >= group_per_row, invalid, "group_size is ", options.group_size,
          ", allowed are 1 and above, and 0 (per vector)");
  require(scale_type_bytes(options.scales) > 1, invalid, "scales is ", scale_type_name(options.scales),
          ", allowed are fp32, fp16 and bf16");
  require(options.refinement != adapter_refinement::sgd || options.high_bits > 1, invalid,
          "high_bits is 1, refinement by gradient descent takes 2 to 8");
  require(options.sgd_steps >= 0, invalid, "sgd_steps is ", options.sgd_steps, ", allowed are 0 and above");
  require(is_finite(options.sgd_rate) && options.sgd_rate >= 0, invalid, "sgd_rate is ", options.sgd_rate,
          ", allowed are 0 and finite numbers above");
  require(options.als_sweeps >= 0, invalid, "als_sweeps is ", options.als_sweeps,
          ", allowed are 0 and above");
  require(options.als_tolerance >= 0, invalid, "als_tolerance is ", options.als_tolerance,
          ", allowed are 0 and above");
}

/// Checks the options and a pair of factors before any work.
///
/// @throws qlr::error invalid_argument: an option outside its range, or an empty factor
/// @throws qlr::error shape_mismatch: L and R do not fit
/// @throws qlr::error non_finite: NaN or infinity in a factor, or the scale
template <weight_scalar T>
void validate(matrix_view<const T> left, matrix_view<const T> right, float scale,
              const adapter_options& options, const executor& run = {}) {
  validate(options);
  require(left.cols() == right.rows(), status_code::shape_mismatch, "L is ", left.rows(), " x ", left.cols(),
          " and R is ", right.rows(), " x ", right.cols());
  require(!left.is_empty() && !right.is_empty(), status_code::invalid_argument, "L is ", left.rows(), " x ",
          left.cols(), " and R is ", right.rows(), " x ", right.cols(), ", they must not be empty");
  require(is_finite(scale), status_code::non_finite, "scale is ", scale, ", it must be finite");
  require_finite(left, "L", run);
  require_finite(right, "R", run);
}

} // namespace qlr
