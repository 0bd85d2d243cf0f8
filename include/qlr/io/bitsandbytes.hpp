// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/io/detail/bitsandbytes_parts.hpp>
#include <qlr/io/detail/bitsandbytes_state.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

// bitsandbytes keeps a linear layer of 4 bits as these tensors, where W is the name of its weight and blocks
// of B elements run over the matrix (m,n) row by row, so across rows where B does not divide n:
//   W               U8 [(m n + 1) / 2, 1]   element 2i in the high nibble of byte i; other types hold the
//   same
//                                           bytes (quant_storage)
//   W.absmax        F32 [blocks]            scale of each block; nested: U8 [blocks]
//   W.quant_map     F32 [16]                value of each code; kernels have the two tables built in
//   W.nested_absmax F32 [blocks / 256], W.nested_quant_map F32 [256]   nested scales only
//   W.quant_state.bitsandbytes__nf4 (or __fp4)   U8, a JSON object, see detail::bitsandbytes_state
// Scale of block b = absmax[b], or nested_quant_map[absmax[b]] nested_absmax[b / 256] + nested_offset, each
// step rounded to float; element = quant_map[code] scale.
// A layer of 8 bits is W I8 (m,n), P.SCB F32 [m] and P.weight_format (W = P.weight): element = W SCB / 127.

/// A weight of bitsandbytes in a file.
struct bitsandbytes_entry {
  std::string name; ///< of the tensor that holds the codes
  int bits = 4;     ///< 4 or 8
};

/// A weight of 4 bits: one row of m n elements whose blocks may run across the rows of the matrix.
struct bitsandbytes_matrix {
  quantized_matrix flat; ///< (1, m n), bits as in the file
  index_t rows = 0;
  index_t cols = 0;
  std::string dtype; ///< type that bitsandbytes decodes to: bfloat16, float16 or float32
};

/// The weights of bitsandbytes in a file, by name.
[[nodiscard]] inline std::vector<bitsandbytes_entry> find_bitsandbytes(const safetensors_file& file) {
  std::vector<bitsandbytes_entry> entries;
  for (const tensor_info& tensor : file.tensors()) {
    for (const detail::bitsandbytes_table& table : detail::bitsandbytes_tables) {
      const std::string suffix = sentence(detail::bitsandbytes_state_suffix, table.name);
      if (!tensor.name.ends_with(suffix)) continue;
      entries.push_back({tensor.name.substr(0, tensor.name.size() - suffix.size()), 4});
    }
    if (!tensor.name.ends_with(".SCB")) continue;
    const std::string weight = tensor.name.substr(0, tensor.name.size() - 3) + "weight";
    if (file.contains(weight) && file.find(weight).type == dtype::i8) entries.push_back({weight, 8});
  }
  std::ranges::sort(entries, {}, &bitsandbytes_entry::name);
  return entries;
}

/// Reads a weight of 4 bits.
///
/// Double-quantized scales stay so where the library has the same form, and are decoded otherwise; both give
/// what bitsandbytes computes in float32, bit for bit.
/// @param name  of the tensor that holds the codes
/// @throws qlr::error malformed_file: a tensor is missing, contradicts the others, or holds NaN or infinity
/// @throws qlr::error unsupported: another code table, or a tensor that is no matrix
[[nodiscard]] inline bitsandbytes_matrix read_bitsandbytes(const safetensors_file& file,
                                                           const std::string& name) {
  const auto& [table, state] = detail::read_bitsandbytes_state(file, name);
  const index_t count = state.rows * state.cols;
  detail::check_bitsandbytes_table(file, name, *table);
  quantized_layout layout;
  layout.rows = 1;
  layout.cols = count;
  layout.group_size = state.block;
  layout.order = code_order::msb_first;
  std::vector<std::uint8_t> codes = detail::read_bitsandbytes_codes(file, name, count);
  stored_scales scales = detail::read_bitsandbytes_scales(file, name, state);
  layout.scales = scales.format;
  std::vector<float> levels(table->levels.begin(), table->levels.end());
  return {{sentence("bitsandbytes ", table->name),
           layout,
           std::move(levels),
           std::move(codes),
           std::move(scales),
           {}},
          state.rows,
          state.cols,
          state.dtype};
}

/// The dequantized matrix, row-major.
///
/// @determinism the same bits as bitsandbytes in float32, on any number of threads
[[nodiscard]] inline matrix<float> dequantize(const bitsandbytes_matrix& weight) {
  matrix<float> out(weight.rows, weight.cols);
  qlr::dequantize(weight.flat.view(), matrix_view<float>(out.data(), 1, out.size()));
  return out;
}

/// True when no block runs across rows, or one block holds all: to_quantized_matrix gives a matrix.
[[nodiscard]] inline bool has_blocks_in_rows(const bitsandbytes_matrix& weight) {
  const index_t block = weight.flat.layout().group_size;
  return weight.rows == 1 || weight.cols % block == 0 || weight.flat.cols() <= block;
}

/// The same numbers as a quantized matrix (m,n), for products and files of this library.
///
/// @throws qlr::error unsupported: blocks run across rows
[[nodiscard]] inline quantized_matrix to_quantized_matrix(const bitsandbytes_matrix& weight) {
  const quantized_matrix& flat = weight.flat;
  quantized_layout layout = flat.layout();
  require(has_blocks_in_rows(weight), status_code::unsupported, "blocks of ", layout.group_size,
          " elements run across the rows of a matrix of ", weight.rows, " x ", weight.cols,
          ", the block must divide the columns; dequantize() decodes it");
  layout.rows = weight.rows;
  layout.cols = weight.cols;
  if (weight.rows > 1 && weight.cols % layout.group_size != 0) layout.group_size = group_per_tensor;
  std::vector<std::uint8_t> codes = flat.codes();
  if (weight.cols % 2 != 0) { // rows start on bytes
    codes.assign(static_cast<std::size_t>(layout.code_bytes()), 0);
    std::vector<code_t> row(static_cast<std::size_t>(layout.cols));
    for (index_t i = 0; i < layout.rows; ++i) {
      for (index_t j = 0; j < layout.cols; ++j)
        row[static_cast<std::size_t>(j)] = flat.view().code(0, i * layout.cols + j);
      pack_codes(layout.order, row.data(), layout.cols, layout.bits, codes.data() + i * layout.row_bytes());
    }
  }
  return {flat.format_name(), layout, flat.levels(), std::move(codes), flat.scales(), {}};
}

/// Reads a weight of 8 bits (LLM.int8()).
///
/// @param name  of the tensor that holds the codes
/// @throws qlr::error malformed_file: a tensor is missing, contradicts the others, or holds NaN or infinity
/// @throws qlr::error unsupported: the order of an old GPU in place of rows
/// @determinism the same bits as bitsandbytes: (code SCB) times the float nearest to 1/127
[[nodiscard]] inline matrix<float> read_bitsandbytes_int8(const safetensors_file& file,
                                                          const std::string& name) {
  const std::vector<float> scales = detail::read_int8_scales(file, name);
  constexpr float per_step = 7.874015718698502e-3F;
  matrix<float> values = file.read_matrix(name);
  for (index_t i = 0; i < values.rows(); ++i) {
    const float scale = scales[static_cast<std::size_t>(i)];
    for (index_t j = 0; j < values.cols(); ++j) values(i, j) = values(i, j) * scale * per_step;
  }
  return values;
}

/// Decodes any weight that find_bitsandbytes found.
///
/// @throws qlr::error as read_bitsandbytes and read_bitsandbytes_int8
[[nodiscard]] inline matrix<float> read_bitsandbytes_matrix(const safetensors_file& file,
                                                            const bitsandbytes_entry& entry) {
  return entry.bits == 8 ? read_bitsandbytes_int8(file, entry.name)
                         : dequantize(read_bitsandbytes(file, entry.name));
}

/// The tensors from which bitsandbytes loads a matrix, without any loss.
///
/// Scales in the form of dq-bnb stay nested; all others are written as float32.
/// @param name   "<module>.weight"
/// @param q      4 bits, the NF4 or FP4 table of bitsandbytes in any order, no zero points, groups that
///               bitsandbytes has and that divide the columns (or one row, or one group for the tensor)
/// @param dtype  that bitsandbytes decodes to: bfloat16, float16 or float32
/// @throws qlr::error invalid_argument: another name or dtype, or an empty matrix
/// @throws qlr::error unsupported: q has what bitsandbytes cannot represent
/// @throws qlr::error non_finite: a scale
[[nodiscard]] inline std::vector<owned_tensor> bitsandbytes_tensors(const std::string& name,
                                                                    const quantized_matrix_view& q,
                                                                    std::string_view dtype = "bfloat16") {
  const quantized_layout& layout = q.layout;
  require(name.ends_with(".weight"), status_code::invalid_argument, "name is ", detail::quote(name),
          ", allowed are names that end in '.weight'");
  require(detail::is_bitsandbytes_dtype(dtype), status_code::invalid_argument, "dtype is ",
          detail::quote(dtype), ", allowed are bfloat16, float16 and float32");
  const detail::bitsandbytes_codes codes = detail::check_representable(q);
  const index_t count = layout.rows * layout.cols;
  detail::bitsandbytes_state state{std::string(codes.table->name), detail::bitsandbytes_block(layout),
                                   std::string(dtype), layout.rows, layout.cols};
  std::vector<owned_tensor> tensors;
  tensors.push_back({name, dtype::u8, {(count + 1) / 2, 1}, detail::flat_codes(q, codes)});
  tensors.push_back(detail::float_tensor(name + ".quant_map", codes.table->levels));
  detail::add_bitsandbytes_scales(name, q, state, tensors);
  tensors.push_back(detail::state_tensor(name, state));
  return tensors;
}

} // namespace qlr::io
