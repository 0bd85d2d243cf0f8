// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/quant/formats.hpp>

#include <string_view>

namespace qlr {

/// How the factors L and R are stored.
enum class factor_storage {
  fp32, ///< 32 bits
  fp16, ///< 16 bits
  int8, ///< symmetric integers, groups of 64 along each vector of a factor, bf16 scales: 8.25 bits
  int4  ///< likewise: 4.25 bits
};

/// @throws qlr::error invalid_argument: bits is not 32, 16, 8 or 4
[[nodiscard]] inline factor_storage factor_storage_of_bits(int bits) {
  switch (bits) {
  case 32:
    return factor_storage::fp32;
  case 16:
    return factor_storage::fp16;
  case 8:
    return factor_storage::int8;
  case 4:
    return factor_storage::int4;
  default:
    fail(status_code::invalid_argument, "factor bits is ", bits, ", allowed are 32, 16, 8 and 4");
  }
}

[[nodiscard]] constexpr std::string_view to_string(factor_storage storage) {
  switch (storage) {
  case factor_storage::fp32:
    return "fp32";
  case factor_storage::fp16:
    return "fp16";
  case factor_storage::int8:
    return "int8";
  case factor_storage::int4:
    return "int4";
  }
  return "";
}

/// Typical rounding error of an entry relative to the root mean square of its factor, for normal entries.
[[nodiscard]] constexpr double rounding_noise(factor_storage storage) {
  constexpr double crest = 2.4;       // largest magnitude of 64 normal numbers
  constexpr double uniform = 0.28868; // standard deviation of a rounding error in units of the step
  switch (storage) {
  case factor_storage::fp32:
    return 0.0;
  case factor_storage::fp16:
    return 0x1p-12;
  case factor_storage::int8:
    return uniform * crest / 127.0;
  case factor_storage::int4:
    return uniform * crest / 7.0;
  }
  return 0.0;
}

[[nodiscard]] constexpr bool is_quantized(factor_storage storage) {
  return storage == factor_storage::int8 || storage == factor_storage::int4;
}

namespace detail {
/// Refuses an entry of a factor that fp16 cannot hold.
[[noreturn]] inline void fail_beyond_fp16(float value) {
  fail(status_code::unsupported, "a low-rank factor has the entry ", value,
       ", beyond the range of fp16; store the factors in 32 bits");
}

/// Symmetric integers with plain scales, as make_quantizer("int<bits>") has them, but of a known type: code
/// for a device is compiled for this one alone. A matrix narrower than a group is one short group.
[[nodiscard]] inline quantizer<uniform_grid<>, absmax_rule> make_integer_quantizer(int bits,
                                                                                   index_t group_size,
                                                                                   scale_type scales) {
  quantizer_options options;
  options.group_size = group_size;
  options.scales = scale_format{scale_coding::plain, scales};
  options.allow_short_group = true;
  return {sentence("int", bits), signed_grid(bits), absmax_rule{}, options};
}

/// bf16 scales have the range of float, so that quantizing decoded values again returns the same codes and
/// scales.
[[nodiscard]] inline quantizer<uniform_grid<>, absmax_rule> factor_quantizer(factor_storage storage) {
  return make_integer_quantizer(storage == factor_storage::int8 ? 8 : 4, 64, scale_type::bf16);
}
} // namespace detail

/// Codes and scales of a factor whose rows are its vectors: L transposed (r,m), or R (r,n).
///
/// @pre is_quantized(storage)
[[nodiscard]] inline quantized_matrix quantize_factor(matrix_view<const float> vectors,
                                                      factor_storage storage, const executor& run = {}) {
  return detail::factor_quantizer(storage).quantize(vectors, {}, run);
}

/// Replaces a factor (r,length) by what its storage decodes to.
///
/// @throws qlr::error unsupported: an entry beyond the range of fp16
inline void round_factor(matrix<float>& vectors, factor_storage storage, const executor& run = {}) {
  if (storage == factor_storage::fp32) return;
  if (is_quantized(storage)) {
    dequantize(quantize_factor(vectors.view(), storage, run).view(), vectors.view(), run);
    return;
  }
  for (index_t i = 0; i < vectors.size(); ++i) {
    float& value = vectors.data()[i];
    const float stored = to_float(to_float16(value));
    if (!is_finite(stored)) detail::fail_beyond_fp16(value);
    value = stored;
  }
}

/// Bytes of a factor with `rank` vectors of `length` elements.
[[nodiscard]] inline index_t factor_bytes(index_t rank, index_t length, factor_storage storage) {
  if (storage == factor_storage::fp32) return 4 * rank * length;
  if (storage == factor_storage::fp16) return 2 * rank * length;
  return detail::factor_quantizer(storage).layout(rank, length).storage_bytes();
}

} // namespace qlr
