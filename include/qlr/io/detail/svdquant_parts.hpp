// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/io/decomposition_tensors.hpp>
#include <qlr/io/detail/quantized_tensors.hpp>
#include <qlr/io/detail/shape.hpp>
#include <qlr/io/detail/text.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/quant/code_packing.hpp>
#include <qlr/quant/minifloat_grid.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io::detail {

/// One of the two forms of an SVDQuant weight.
struct svdquant_kind {
  std::string_view format; ///< name of the quantizer
  index_t group_size = 0;
  scale_format scales;
  dtype scale_dtype = dtype::bf16;
  bool has_tensor_scale = false;
  std::array<float, 16> levels{}; ///< of the codes in the file
};

inline constexpr svdquant_kind svdquant_int4{
    "int4",      64,    {scale_coding::plain, scale_type::bf16},
    dtype::bf16, false, {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1}};
inline constexpr svdquant_kind svdquant_nvfp4{
    "nvfp4",        16,   {scale_coding::tensor_scaled, scale_type::e4m3},
    dtype::f8_e4m3, true, {0, .5F, 1, 1.5F, 2, 3, 4, 6, -0.0F, -.5F, -1, -1.5F, -2, -3, -4, -6}};

/// The kind that holds Q exactly.
[[nodiscard]] inline const svdquant_kind& svdquant_kind_of(const quantized_matrix_view& q) {
  const quantized_layout& layout = q.layout;
  const auto fits = [&](const svdquant_kind& kind) {
    const bool is_alike = layout.bits == 4 && layout.zeros == zero_point::none &&
                          layout.scales == kind.scales && layout.cols % kind.group_size == 0 &&
                          layout.group_cols() == kind.group_size && layout.group_size != group_per_tensor;
    if (!is_alike) return false;
    for (int code = 0; code < 16; ++code) {
      if (std::ranges::find(kind.levels, q.levels[code]) == kind.levels.end()) return false;
    }
    return true;
  };
  if (fits(svdquant_int4)) return svdquant_int4;
  require(
      fits(svdquant_nvfp4), status_code::unsupported, "Q is ", layout.rows, " x ", layout.cols, " in ",
      layout.bits, " bits with ", to_string(layout.scales), " scales for groups of ", layout.group_cols(),
      ", SVDQuant's tensors hold int4 with bf16 scales for groups of 64, and nvfp4, both with a whole number "
      "of groups in a row");
  return svdquant_nvfp4;
}

/// Bytes of qweight (m,n/2).
[[nodiscard]] inline std::vector<std::byte> svdquant_codes(const quantized_matrix_view& q,
                                                           const svdquant_kind& kind) {
  std::array<std::uint8_t, 16> stored{}; // our code -> code in the file
  for (std::size_t code = 0; code < stored.size(); ++code) {
    const auto* const found = std::ranges::find(kind.levels, q.levels[code]);
    stored[code] = static_cast<std::uint8_t>(found - kind.levels.begin());
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(q.rows() * q.cols() / 2), std::byte{0});
  std::vector<code_t> row(static_cast<std::size_t>(q.cols()));
  for (index_t i = 0; i < q.rows(); ++i) {
    unpack_codes(q.layout.order, q.codes + i * q.layout.row_bytes(), q.cols(), 4, row.data());
    for (code_t& code : row) code = stored[code];
    pack_codes(code_order::lsb_first, row.data(), q.cols(), 4,
               reinterpret_cast<std::uint8_t*>(bytes.data()) + i * (q.cols() / 2));
  }
  return bytes;
}

/// Numbers of `width` bytes, from (rows,cols) to (cols,rows).
[[nodiscard]] inline std::vector<std::byte> transposed_bytes(const std::byte* source, index_t rows,
                                                             index_t cols, index_t width) {
  std::vector<std::byte> result(static_cast<std::size_t>(rows * cols * width));
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < cols; ++j) {
      std::memcpy(result.data() + (j * rows + i) * width, source + (i * cols + j) * width,
                  static_cast<std::size_t>(width));
    }
  }
  return result;
}

/// wscales (groups,m) of scales (m,groups).
[[nodiscard]] inline std::vector<std::byte> transposed_scales(const scales_view& scales, index_t rows,
                                                              index_t groups) {
  return transposed_bytes(reinterpret_cast<const std::byte*>(scales.codes), rows, groups,
                          scale_type_bytes(scales.format.type));
}

[[nodiscard]] inline owned_tensor float_vector(std::string name, const std::vector<float>& values) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(values));
  return {std::move(name), dtype::f32, {static_cast<index_t>(values.size())}, {bytes.begin(), bytes.end()}};
}

/// F32, or F16 for what fp16 holds.
[[nodiscard]] inline owned_tensor factor_tensor(std::string name, const matrix<float>& factor, dtype type) {
  const std::vector<index_t> shape{factor.rows(), factor.cols()};
  std::vector<std::byte> bytes(static_cast<std::size_t>(factor.size() * dtype_bytes(type)));
  for (index_t i = 0; i < factor.size(); ++i) {
    const float16 half = to_float16(factor.data()[i]);
    if (type == dtype::f16) {
      std::memcpy(bytes.data() + 2 * i, &half, sizeof half);
    } else {
      std::memcpy(bytes.data() + 4 * i, factor.data() + i, sizeof(float));
    }
  }
  return {std::move(name), type, shape, std::move(bytes)};
}

/// The kind of a layer in a file, whose shapes fit it.
[[nodiscard]] inline const svdquant_kind& svdquant_kind_of(const tensor_info& codes,
                                                           const tensor_info& scales) {
  const bool is_codes = (codes.type == dtype::i8 || codes.type == dtype::u8) && codes.shape.size() == 2 &&
                        codes.shape[0] > 0 && codes.shape[1] > 0;
  require(is_codes, status_code::malformed_file, "tensor ", quote(codes.name), " is ", codes.dtype_text, ' ',
          shape_text(codes.shape), ", it must be I8 with two dimensions, none of them 0");
  for (const svdquant_kind* kind : {&svdquant_int4, &svdquant_nvfp4}) {
    const index_t cols = 2 * codes.shape[1]; // cannot overflow: the bytes are there
    const std::vector<index_t> expected{cols / kind->group_size, codes.shape[0]};
    if (scales.type == kind->scale_dtype && scales.shape == expected && cols % kind->group_size == 0)
      return *kind;
  }
  fail(status_code::malformed_file, "tensor ", quote(scales.name), " is ", scales.dtype_text, ' ',
       shape_text(scales.shape), ", qweight is ", shape_text(codes.shape),
       ": it must be BF16 [n/64, m] or F8_E4M3 [n/16, m]");
}

/// Q of checked shapes; the codes stay as they are in the file.
[[nodiscard]] inline quantized_matrix read_svdquant_codes(const safetensors_file& file,
                                                          const std::string& module,
                                                          const svdquant_kind& kind, index_t rows,
                                                          index_t cols) {
  quantized_layout layout;
  layout.rows = rows;
  layout.cols = cols;
  layout.group_size = kind.group_size;
  layout.bits = 4;
  layout.scales = kind.scales;
  const auto copy = [](std::span<const std::byte> bytes) {
    const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
    return std::vector<std::uint8_t>(first, first + bytes.size());
  };
  stored_scales scales{kind.scales, layout.num_scales(), {}, {}, 1.0F};
  scales.codes = copy(transposed_bytes(file.bytes(module + ".wscales").data(), cols / kind.group_size, rows,
                                       scale_type_bytes(kind.scales.type)));
  if (kind.has_tensor_scale) {
    const matrix<float> base = file.read_matrix(module + ".wtscale");
    require(base.size() == 1, status_code::malformed_file, "tensor ", quote(module + ".wtscale"), " has ",
            base.size(), " numbers, it must have 1");
    scales.base = base.data()[0];
  }
  const scales_view view = scales.view();
  for (index_t i = 0; i < scales.count; ++i) {
    const float scale = decode_scale(view, i);
    require(is_finite(scale), status_code::malformed_file, "module ", quote(module), ": the scale of group ",
            i % (cols / kind.group_size), " of row ", i / (cols / kind.group_size), " is ", scale,
            ", it must be finite");
  }
  return {std::string(kind.format),
          layout,
          {kind.levels.begin(), kind.levels.end()},
          copy(file.bytes(module + ".qweight")),
          std::move(scales),
          {}};
}

/// What a reader found, complained of as the fault of the file.
inline void check_read_parts(const decomposition& parts, const std::string& module) {
  for (const matrix<float>* factor : {&parts.left, &parts.right}) {
    for (index_t i = 0; i < factor->size(); ++i) {
      require(is_finite(factor->data()[i]), status_code::malformed_file, "module ", quote(module),
              ": element ", i, " of a factor is not finite");
    }
  }
  for (const float scale : parts.input_scales) {
    check_input_scale(scale, module + ".smooth_factor", status_code::malformed_file);
  }
}

} // namespace qlr::io::detail
