// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/io/decomposition_tensors.hpp>
#include <qlr/io/detail/svdquant_parts.hpp>
#include <qlr/io/safetensors.hpp>

#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace qlr::io {

// A linear layer as SVDQuant's runtimes name its tensors, in the plain layout: nothing is permuted for a
// kernel.
//   M.qweight        I8 [m, n/2]   byte j of a row: the code of input 2 j in its low bits, of 2 j + 1 in
//                                  its high ones; integers of 4 bits in two's complement, or E2M1
//   M.wscales        [n/g, m]      BF16 with g = 64 for integers, F8_E4M3 with g = 16 for E2M1
//   M.wtscale        F32 [1]       of E2M1 only: one more scale for the whole matrix
//   M.proj_down      [n, r]        R transposed, F16 or F32; absent at rank 0
//   M.proj_up        [m, r]        s L, likewise
//   M.smooth_factor  F32 [n]       what the inputs of the codes, not of proj_down, are divided by
// y = qweight (x / smooth_factor) + proj_up (proj_down^T x).

/// The tensors of a decomposition in SVDQuant's names; all but s L, which is rounded to float, is exact.
///
/// @param module  M above
/// @param parts   Q of int4 in groups of 64 with bf16 scales, or of nvfp4; n a multiple of the group
/// @throws qlr::error invalid_argument: an empty name
/// @throws qlr::error unsupported: another Q; the message names what is allowed
/// @throws qlr::error shape_mismatch, non_finite: parts that do not fit, or factors that are not finite
/// @see Li et al., SVDQuant, arXiv 2411.05007
[[nodiscard]] inline std::vector<owned_tensor> svdquant_tensors(const std::string& module,
                                                                const decomposition& parts) {
  require(!module.empty(), status_code::invalid_argument, "module is '', allowed are names of modules");
  const quantized_matrix_view q = parts.quantized.view();
  const detail::svdquant_kind& kind = detail::svdquant_kind_of(q);
  const index_t rows = q.rows();
  const index_t cols = q.cols();
  detail::check_parts(parts, module + ": ");
  std::vector<owned_tensor> tensors;
  tensors.push_back({module + ".qweight", dtype::i8, {rows, cols / 2}, detail::svdquant_codes(q, kind)});
  tensors.push_back({module + ".wscales",
                     kind.scale_dtype,
                     {cols / kind.group_size, rows},
                     detail::transposed_scales(q.scales, rows, cols / kind.group_size)});
  if (kind.has_tensor_scale) tensors.push_back(detail::float_vector(module + ".wtscale", {q.scales.base}));
  if (parts.rank() > 0) {
    const auto type = parts.factors == factor_storage::fp16 && parts.scale == 1.0F ? dtype::f16 : dtype::f32;
    matrix<float> up = parts.left;
    for (index_t i = 0; i < up.size(); ++i) up.data()[i] *= parts.scale;
    const matrix<float> down = to_row_major(parts.right.view().transposed());
    tensors.push_back(detail::factor_tensor(module + ".proj_down", down, type));
    tensors.push_back(detail::factor_tensor(module + ".proj_up", up, type));
  }
  const std::vector<float> ones(static_cast<std::size_t>(cols), 1.0F);
  tensors.push_back(detail::float_vector(module + ".smooth_factor",
                                         parts.input_scales.empty() ? ones : parts.input_scales));
  return tensors;
}

/// Reads what svdquant_tensors describes; wcscales, a scale of each output, is not understood.
///
/// @throws qlr::error malformed_file: shapes or types that contradict each other, a scale that is not finite
/// @throws qlr::error unsupported: wcscales
/// @throws qlr::error invalid_argument: a tensor is missing
[[nodiscard]] inline decomposition read_svdquant(const safetensors_file& file, const std::string& module) {
  require(!file.contains(module + ".wcscales"), status_code::unsupported, "module ", detail::quote(module),
          " has wcscales, a scale for each output, which this reader does not know");
  const tensor_info& codes = file.find(module + ".qweight");
  const tensor_info& scales = file.find(module + ".wscales");
  const detail::svdquant_kind& kind = detail::svdquant_kind_of(codes, scales);
  const index_t rows = codes.shape[0];
  const index_t cols = 2 * codes.shape[1];
  decomposition parts;
  parts.quantized = detail::read_svdquant_codes(file, module, kind, rows, cols);
  const bool has_factors = file.contains(module + ".proj_up");
  matrix<float> down(cols, 0);
  parts.left = matrix<float>(rows, 0);
  if (has_factors) {
    down = file.read_matrix(module + ".proj_down");
    parts.left = file.read_matrix(module + ".proj_up");
  }
  const bool fits = down.rows() == cols && parts.left.rows() == rows && down.cols() == parts.left.cols();
  require(fits, status_code::malformed_file, "module ", detail::quote(module), ": proj_down is ", down.rows(),
          " x ", down.cols(), " and proj_up is ", parts.left.rows(), " x ", parts.left.cols(),
          ", qweight is ", rows, " x ", cols);
  parts.right = to_row_major(std::as_const(down).view().transposed());
  parts.factors = has_factors && file.find(module + ".proj_up").type == dtype::f16 ? factor_storage::fp16
                                                                                   : factor_storage::fp32;
  if (file.contains(module + ".smooth_factor")) {
    const matrix<float> smooth = file.read_matrix(module + ".smooth_factor");
    require(smooth.rows() == 1 && smooth.cols() == cols, status_code::malformed_file, "module ",
            detail::quote(module), ": smooth_factor is ", smooth.rows(), " x ", smooth.cols(),
            ", it must have ", cols, " numbers");
    parts.input_scales.assign(smooth.data(), smooth.data() + cols);
  }
  detail::check_read_parts(parts, module);
  return parts;
}

} // namespace qlr::io
