// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/quantized_matrix.hpp>
#include <qlr/quant/scale_rules.hpp>
#include <qlr/quant/scale_search.hpp>

#include <algorithm>
#include <concepts>
#include <string>
#include <utility>
#include <vector>

namespace qlr {

/// What every quantizer can be told.
struct quantizer_options {
  /// Elements per scale along a row: 1 to cols, or group_per_row (0), group_per_tensor (-1).
  index_t group_size = 64;
  /// Storage of the scales.
  scale_format scales{};
  /// Least-squares search instead of the scale rule alone.
  bool scale_search = false;
  /// Codes belong to the scale before it is rounded for storage, as in bitsandbytes and ggml; ignored by the
  /// search.
  bool encode_with_exact_scale = false;
  /// The format fixes the group size, so a narrower matrix is one short group instead of an error.
  bool allow_short_group = false;
};

/// Whether one call searches for scales.
enum class scale_search_mode {
  as_configured, ///< as quantizer_options::scale_search says
  on,
  off
};

/// Optional knowledge about the matrix to be quantized.
struct quantize_hints {
  const float* column_weights = nullptr;      ///< cols weights of squared errors for the scale search
  const quantized_matrix* previous = nullptr; ///< same layout: its scales are further starts of the search
  scale_search_mode search = scale_search_mode::as_configured;
};

/// A quantizer turns a float matrix with contiguous rows into codes and scales.
///
/// `layout(rows, cols)` throws where the shape does not suit the options; `quantize` may assume finite input.
template <class Quantizer>
concept quantizer_policy = requires(const Quantizer quantizer, matrix_view<const float> weight,
                                    const quantize_hints& hints, const executor& run) {
  { quantizer.name() } -> std::convertible_to<std::string>;
  { quantizer.layout(index_t{}, index_t{}) } -> std::same_as<quantized_layout>;
  { quantizer.quantize(weight, hints, run) } -> std::same_as<quantized_matrix>;
};

/// Scale and zero point of every block as they are stored: what encoding and decoding use.
struct fitted_scales {
  std::vector<block_scale> blocks; ///< num_scales() of them, row by row
  stored_scales stored;
};

/// A quantizer whose steps can be called one by one, for algorithms that choose the codes themselves (error
/// feedback, coordinate descent).
///
/// - fit_scales(weight, hints, run): the scales that quantize() would store
/// - round(x, blocks, count, codes, values): code and decoded value of x[i] in a block with the scale
/// blocks[i]
/// - assemble(layout, scales, codes, run): packs codes (rows, cols) that belong to those scales
template <class Quantizer>
concept stepwise_quantizer_policy = quantizer_policy<Quantizer> &&
    requires(const Quantizer quantizer, matrix_view<const float> weight, const quantize_hints& hints,
             const executor& run, const float* x, const block_scale* blocks, code_t* codes, float* values,
             const fitted_scales& scales, const matrix<code_t>& all_codes) {
  { quantizer.fit_scales(weight, hints, run) } -> std::same_as<fitted_scales>;
  quantizer.round(x, blocks, index_t{}, codes, values);
  { quantizer.assemble(quantized_layout{}, scales, all_codes, run) } -> std::same_as<quantized_matrix>;
};

namespace detail {

/// One number for the tensor that brings the largest block scale to the top of E4M3 (NVFP4).
[[nodiscard]] QLR_HOST_DEVICE inline float tensor_unit(float largest_magnitude, float absmax_level) {
  const float unit = largest_magnitude / (448.0F * absmax_level);
  return unit >= smallest_normal_float ? unit : 1.0F;
}

/// What the rule finds, an integer zero point rounded to a code.
template <class Rule, class Block, grid_policy Grid>
[[nodiscard]] QLR_HOST_DEVICE block_scale find_rule_scale(const Rule& rule, const Block& block,
                                                          const Grid& grid) {
  block_scale scale = rule.find(block, grid);
  if constexpr (Rule::zeros == zero_point::integer) {
    const auto top = static_cast<float>(grid.num_codes() - 1);
    scale.zero = static_cast<float>(round_half_even(std::clamp(scale.zero, 0.0F, top)));
  }
  return scale;
}

} // namespace detail

/// Grid, scale rule and packing composed into a quantizer.
///
/// @tparam Grid     levels and rounding of one value
/// @tparam Rule     scale and zero point of one block
/// @tparam Packing  where the codes sit in bytes
template <grid_policy Grid, scale_policy Rule, packing_policy Packing = lsb_first_packing>
class quantizer {
public:
  /// @throws qlr::error invalid_argument: group_size below -1, or a scale format with impossible numbers
  quantizer(std::string name, Grid grid, Rule rule, const quantizer_options& options)
      : name_(std::move(name)), grid_(std::move(grid)), rule_(rule), options_(options) {
    require(options.group_size >= group_per_tensor, status_code::invalid_argument, "group_size is ",
            options.group_size, ", allowed are 1 and above, 0 (per row) and -1 (per tensor)");
    validate(options.scales);
    allow_negative_ = options.scales.is_signed() && Rule::zeros == zero_point::none && !is_symmetric(grid_);
  }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const Grid& grid() const { return grid_; }
  [[nodiscard]] const Rule& rule() const { return rule_; }
  [[nodiscard]] const quantizer_options& options() const { return options_; }

  /// Whether the search tries negative scales.
  [[nodiscard]] bool allows_negative_scales() const { return allow_negative_; }
  [[nodiscard]] bool searches(scale_search_mode mode) const {
    if (mode == scale_search_mode::as_configured) return options_.scale_search;
    return mode == scale_search_mode::on;
  }
  /// The value of each of the 2^bits codes.
  [[nodiscard]] std::vector<float> level_table() const {
    std::vector<float> levels(std::size_t{1} << static_cast<unsigned>(grid_.bits()));
    for (std::size_t code = 0; code < levels.size(); ++code)
      levels[code] = grid_.decode(static_cast<code_t>(code));
    return levels;
  }

  /// @throws qlr::error invalid_argument: group_size exceeds cols
  [[nodiscard]] quantized_layout layout(index_t rows, index_t cols) const {
    require(options_.group_size <= cols || options_.allow_short_group || cols == 0,
            status_code::invalid_argument, "group_size is ", options_.group_size, ", allowed for ", cols,
            " columns are 1 to ", cols, ", 0 (per row) and -1 (per tensor)");
    return {rows, cols, options_.group_size, grid_.bits(), Packing::order, Rule::zeros, options_.scales};
  }

  /// Quantizes (rows, cols) with contiguous rows and finite elements.
  ///
  /// @memory codes and scales, and two floats per scale while it runs
  /// @determinism the same bits on any number of threads
  [[nodiscard]] quantized_matrix quantize(matrix_view<const float> weight, const quantize_hints& hints,
                                          const executor& run) const {
    const quantized_layout shape = layout(weight.rows(), weight.cols());
    std::vector<block_scale> exact = find_scales(weight, shape, hints, run);
    const fitted_scales scales = store(exact, shape, tensor_unit(weight));
    if (searches(hints.search) || !options_.encode_with_exact_scale) exact = scales.blocks;
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(shape.code_bytes()));
    encode_rows(weight, shape, exact, codes, run);
    return {name_, shape, level_table(), std::move(codes), scales.stored, pack_zeros(shape, scales.blocks)};
  }

  /// The scales that quantize() would store.
  ///
  /// @throws qlr::error invalid_argument, unsupported: as quantize()
  [[nodiscard]] fitted_scales fit_scales(matrix_view<const float> weight, const quantize_hints& hints,
                                         const executor& run) const {
    const quantized_layout shape = layout(weight.rows(), weight.cols());
    return store(find_scales(weight, shape, hints, run), shape, tensor_unit(weight));
  }

  /// Nearest code of x[i] in a block with the scale blocks[i], and what that code decodes to.
  void round(const float* QLR_RESTRICT x, const block_scale* QLR_RESTRICT blocks, index_t count,
             code_t* QLR_RESTRICT codes, float* QLR_RESTRICT values) const {
    const Grid grid = grid_; // a local copy cannot alias the results
    for (index_t i = 0; i < count; ++i) {
      const rounded_value rounded = round_value(grid, blocks[i], x[i]);
      codes[i] = rounded.code;
      values[i] = rounded.value;
    }
  }

  /// Packs codes (rows, cols) that were rounded with these scales.
  ///
  /// @pre codes and scales fit the layout, which is of this quantizer
  [[nodiscard]] quantized_matrix assemble(const quantized_layout& shape, const fitted_scales& scales,
                                          const matrix<code_t>& codes, const executor& run) const {
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(shape.code_bytes()));
    for_each_range(run, shape.rows, rows_per_task(shape.cols), [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) {
        Packing::pack(codes.view().row(i), shape.cols, shape.bits, packed.data() + i * shape.row_bytes());
      }
    });
    return {name_, shape, level_table(), std::move(packed), scales.stored, pack_zeros(shape, scales.blocks)};
  }

private:
  /// The scales as they are stored.
  [[nodiscard]] static fitted_scales store(std::vector<block_scale> found, const quantized_layout& shape,
                                           float unit) {
    std::vector<float> scales(found.size());
    std::transform(found.begin(), found.end(), scales.begin(), [](const block_scale& b) { return b.scale; });
    fitted_scales result{std::move(found), encode_scales(scales, shape.scales, unit)};
    for (std::size_t i = 0; i < scales.size(); ++i) result.blocks[i].scale = scales[i];
    return result;
  }

  /// The columns of `weight` that group `group` of row `row` covers; per tensor: all of it.
  static matrix_view<const float> block_of(matrix_view<const float> weight, const quantized_layout& shape,
                                           index_t row, index_t group) {
    if (shape.group_size == group_per_tensor) return weight;
    const index_t first = group * shape.group_cols();
    return {weight.row(row) + first, 1, std::min(shape.group_cols(), shape.cols - first),
            weight.row_stride()};
  }

  /// The tensor's scale; 1 where the format has none.
  [[nodiscard]] float tensor_unit(matrix_view<const float> weight) const {
    if (options_.scales.coding != scale_coding::tensor_scaled) return 1.0F;
    return detail::tensor_unit(largest_magnitude(weight), grid_.absmax_level());
  }

  [[nodiscard]] std::vector<block_scale> find_scales(matrix_view<const float> weight,
                                                     const quantized_layout& shape,
                                                     const quantize_hints& hints, const executor& run) const {
    std::vector<block_scale> found(static_cast<std::size_t>(shape.num_scales()));
    const scale_search_context context{shape.scales, tensor_unit(weight), allow_negative_};
    const bool is_single = shape.group_size == group_per_tensor;
    for_each_range(run, is_single ? shape.num_scales() : shape.rows, rows_per_task(shape.cols),
                   [&](index_t begin, index_t end) {
                     for (index_t row = begin; row < end; ++row) {
                       for (index_t group = 0; group < (is_single ? 1 : shape.groups_per_row()); ++group) {
                         found[static_cast<std::size_t>(shape.scale_index(row, group))] =
                             find_scale(weight, shape, row, group, hints, context);
                       }
                     }
                   });
    return found;
  }

  [[nodiscard]] block_scale find_scale(matrix_view<const float> weight, const quantized_layout& shape,
                                       index_t row, index_t group, const quantize_hints& hints,
                                       const scale_search_context& context) const {
    const matrix_view<const float> block = block_of(weight, shape, row, group);
    const block_scale scale = detail::find_rule_scale(rule_, block, grid_);
    if (!searches(hints.search) || scale.scale == 0.0F) return scale;
    const float* weights =
        hints.column_weights == nullptr ? nullptr : hints.column_weights + group * shape.group_cols();
    const float previous = hints.previous == nullptr
                               ? 0.0F
                               : decode_scale(hints.previous->view().scales, shape.scale_index(row, group));
    return search_scale(grid_, block, weights, scale, previous, context);
  }

  void encode_rows(matrix_view<const float> weight, const quantized_layout& shape,
                   const std::vector<block_scale>& scales, std::vector<std::uint8_t>& packed,
                   const executor& run) const {
    for_each_range(run, shape.rows, rows_per_task(shape.cols), [&](index_t begin, index_t end) {
      std::vector<code_t> codes(static_cast<std::size_t>(shape.cols));
      for (index_t row = begin; row < end; ++row) {
        for (index_t group = 0, first = 0; first < shape.cols; ++group, first += shape.group_cols()) {
          const block_scale scale = scales[static_cast<std::size_t>(shape.scale_index(row, group))];
          encode_group(weight.row(row) + first, std::min(shape.group_cols(), shape.cols - first), scale,
                       codes.data() + first);
        }
        Packing::pack(codes.data(), shape.cols, shape.bits, packed.data() + row * shape.row_bytes());
      }
    });
  }

  void encode_group(const float* QLR_RESTRICT x, index_t count, block_scale scale,
                    code_t* QLR_RESTRICT codes) const {
    const scale_normaliser normalise(scale.scale);
    const Grid grid = grid_; // a local copy cannot alias the codes
    for (index_t j = 0; j < count; ++j) codes[j] = encode_value(grid, normalise, scale.zero, x[j]);
  }

  static std::vector<std::uint8_t> pack_zeros(const quantized_layout& shape,
                                              const std::vector<block_scale>& scales) {
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(shape.zero_bytes()));
    if (shape.zeros == zero_point::real) {
      for (std::size_t i = 0; i < scales.size(); ++i) std::memcpy(packed.data() + 4 * i, &scales[i].zero, 4);
    } else if (shape.zeros == zero_point::integer) {
      std::vector<code_t> codes(scales.size());
      std::transform(scales.begin(), scales.end(), codes.begin(),
                     [](const block_scale& b) { return static_cast<code_t>(b.zero); });
      lsb_first_packing::pack(codes.data(), shape.num_scales(), shape.bits, packed.data());
    }
    return packed;
  }

  std::string name_;
  Grid grid_;
  Rule rule_;
  quantizer_options options_;
  bool allow_negative_ = false;
};

/// Quantizes any float or double matrix, after checking that every element is finite.
///
/// @param[in] weight  (rows, cols), any strides; copied only when it is not float with contiguous rows
/// @throws qlr::error non_finite: NaN or infinity, with its index
/// @throws qlr::error invalid_argument: the group size does not suit the shape
/// @throws qlr::error unsupported: a scale beyond the range of its format
template <weight_scalar T, quantizer_policy Quantizer>
[[nodiscard]] quantized_matrix quantize(matrix_view<const T> weight, const Quantizer& quantizer,
                                        const executor& run = {}) {
  (void)quantizer.layout(weight.rows(), weight.cols());
  require_finite(weight, "weight", run);
  if constexpr (std::same_as<T, float>) {
    if (weight.has_contiguous_rows()) return quantizer.quantize(weight, {}, run);
  }
  return quantizer.quantize(to_row_major(weight).view(), {}, run);
}

} // namespace qlr
