// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/code_packing.hpp>
#include <qlr/quant/codebook_grid.hpp>
#include <qlr/quant/detail/dynamic_map_magnitudes.hpp>
#include <qlr/quant/scale_format.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

namespace qlr {

/// Stored scales of one matrix, read-only and pointing into somebody else's memory, such as a mapped file.
///
///   plain          codes: count numbers of `type`
///   tensor_scaled  codes: count numbers of `type`;  base: the tensor's scale
///   double_min     codes: count integers of `bits` bits, lsb first;  supers: one `type` per block;  base:
///   minimum double_mean    codes: count bytes;  supers: one `type` per block;  base: mean
struct scales_view {
  scale_format format;
  index_t count = 0;
  const std::uint8_t* codes = nullptr;
  const std::uint8_t* supers = nullptr;
  float base = 0;
};

/// Owner of what scales_view points to.
struct stored_scales {
  scale_format format;
  index_t count = 0;
  std::vector<std::uint8_t> codes;
  std::vector<std::uint8_t> supers;
  float base = 0;

  [[nodiscard]] scales_view view() const { return {format, count, codes.data(), supers.data(), base}; }
};

/// Bytes of `codes` and of `supers` for `count` scales.
[[nodiscard]] QLR_HOST_DEVICE inline index_t scale_code_bytes(const scale_format& format, index_t count) {
  return format.is_double() ? packed_bytes(count, format.bits) : count * scale_type_bytes(format.type);
}
[[nodiscard]] QLR_HOST_DEVICE inline index_t scale_super_bytes(const scale_format& format, index_t count) {
  return format.is_double() ? (count + format.block - 1) / format.block * scale_type_bytes(format.type) : 0;
}

namespace detail {
constexpr codebook_grid<8> make_dynamic_map() {
  std::array<float, 256> levels{};
  levels[254] = 0.0F;
  levels[255] = 1.0F;
  for (std::size_t i = 0; i < dynamic_map_magnitudes.size(); ++i) {
    levels[2 * i] = dynamic_map_magnitudes[i];
    levels[2 * i + 1] = -dynamic_map_magnitudes[i];
  }
  std::sort(levels.begin(), levels.end());
  return codebook_grid<8>(levels);
}
} // namespace detail

/// bitsandbytes' signed 8-bit dynamic map: 127 negative values, zero, 127 positive values and 1.
///
/// Decade i = 0 ... 6 of the magnitudes holds the 2^i midpoints of 2^i + 1 equally spaced points of [0.1, 1],
/// times 10^(i - 6).
/// @see Dettmers et al., 8-bit optimizers via block-wise quantization, arXiv 2110.02861
[[nodiscard]] QLR_HOST_DEVICE inline const codebook_grid<8>& dynamic_map() {
  static constexpr codebook_grid<8> grid = detail::make_dynamic_map();
  return grid;
}

namespace detail {

QLR_HOST_DEVICE inline float load_scale(scale_type type, const std::uint8_t* bytes, index_t index) {
  const auto load = [&](auto number) {
    std::memcpy(&number, bytes + index * static_cast<index_t>(sizeof number), sizeof number);
    return to_float(number);
  };
  switch (type) {
  case scale_type::fp32:
    return load(float{});
  case scale_type::fp16:
    return load(float16{});
  case scale_type::bf16:
    return load(bfloat16{});
  case scale_type::e8m0:
    return load(float8_e8m0{});
  case scale_type::e4m3:
    return load(float8_e4m3{});
  }
  return 0;
}

/// Stores a value and returns what was stored; E8M0 has no zero, so zero becomes 2^-127, its smallest number.
QLR_HOST_DEVICE inline float store_scale(scale_type type, float value, std::uint8_t* bytes, index_t index) {
  const auto store = [&](auto number) {
    std::memcpy(bytes + index * static_cast<index_t>(sizeof number), &number, sizeof number);
    return to_float(number);
  };
  switch (type) {
  case scale_type::fp32:
    return store(value);
  case scale_type::fp16:
    return store(to_float16(value));
  case scale_type::bf16:
    return store(to_bfloat16(value));
  case scale_type::e8m0: {
    const float rounded = round_to(type, value);
    return store(to_float8_e8m0(rounded > 0.0F ? floor_log2(rounded) : -127));
  }
  case scale_type::e4m3:
    return store(to_float8_e4m3(value));
  }
  return 0;
}

/// a b + c with the product rounded first, as bitsandbytes decodes nested scales, whatever -ffp-contract
/// says.
QLR_HOST_DEVICE inline float rounded_product_plus(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return rounded_product(a, b) + c;
#else
  const volatile float product = a * b; // a compiler that fuses may round the sum only
  return product + c;
#endif
}

QLR_HOST_DEVICE constexpr bool is_in_range(scale_type type, float value, float stored) {
  // E4M3 saturates instead of overflowing; 464 is where rounding to its largest number, 448, ends.
  return is_finite(stored) && !(type == scale_type::e4m3 && value > 464.0F);
}

[[noreturn]] inline void fail_on_range(scale_type type, float value, index_t index) {
  fail(status_code::unsupported, "the scale of block ", index, " is ", value, ", beyond the range of ",
       scale_type_name(type), "; use ", type == scale_type::fp16 ? "fp32 or bf16" : "fp32", " scales");
}

inline void check_range(scale_type type, float value, float stored, index_t index) {
  if (!is_in_range(type, value, stored)) fail_on_range(type, value, index);
}

/// Code of a scale above the smallest one.
QLR_HOST_DEVICE constexpr code_t encode_above_min(float scale, float base, float super, float top) {
  const float per_code = top / super; // as the original divides; 2^-24 and below stand for zero
  const float steps = super > 0x1p-24F ? (scale - base) * per_code : 0.0F;
  return static_cast<code_t>(round_half_even(std::clamp(steps, 0.0F, top)));
}

/// Code of a scale around the mean.
QLR_HOST_DEVICE inline code_t encode_around_mean(float scale, float base, float super) {
  return dynamic_map().encode(super > 0.0F ? (scale - base) / super : 0.0F);
}

/// LQ-LoRA, section 3 of arXiv 2311.12023: code = round((scale - base) * K / super), K = 2^bits - 1.
inline void encode_double_min(std::span<float> scales, stored_scales& out) {
  const scale_format& format = out.format;
  const auto top = static_cast<float>((1 << format.bits) - 1);
  std::vector<code_t> codes(scales.size(), 0);
  out.base = scales.empty() ? 0.0F : *std::min_element(scales.begin(), scales.end());
  const auto block = static_cast<std::size_t>(format.block);
  for (std::size_t first = 0; first < scales.size(); first += block) {
    const std::span<float> part = scales.subspan(first, std::min(block, scales.size() - first));
    const float largest = *std::max_element(part.begin(), part.end()) - out.base;
    const auto index = static_cast<index_t>(first / block);
    const float super = store_scale(format.type, largest, out.supers.data(), index);
    check_range(format.type, largest, super, index);
    for (std::size_t i = 0; i < part.size(); ++i)
      codes[first + i] = encode_above_min(part[i], out.base, super, top);
  }
  lsb_first_packing::pack(codes.data(), out.count, format.bits, out.codes.data());
}

/// bitsandbytes: code = nearest entry of the dynamic map to (scale - mean) / super, super = largest
/// magnitude.
inline void encode_double_mean(std::span<float> scales, stored_scales& out) {
  const scale_format& format = out.format;
  double sum = 0;
  for (const float scale : scales) sum += static_cast<double>(scale);
  out.base = scales.empty() ? 0.0F : static_cast<float>(sum / static_cast<double>(scales.size()));
  const auto block = static_cast<std::size_t>(format.block);
  for (std::size_t first = 0; first < scales.size(); first += block) {
    const std::span<float> part = scales.subspan(first, std::min(block, scales.size() - first));
    float largest = 0;
    for (const float scale : part) largest = std::max(largest, std::fabs(scale - out.base));
    const auto index = static_cast<index_t>(first / block);
    const float super = store_scale(format.type, largest, out.supers.data(), index);
    check_range(format.type, largest, super, index);
    for (std::size_t i = 0; i < part.size(); ++i)
      out.codes[first + i] = encode_around_mean(part[i], out.base, super);
  }
}

} // namespace detail

/// The scale that block `index` is multiplied with.
[[nodiscard]] QLR_HOST_DEVICE inline float decode_scale(const scales_view& scales, index_t index) {
  const scale_format& format = scales.format;
  switch (format.coding) {
  case scale_coding::plain:
    return detail::load_scale(format.type, scales.codes, index);
  case scale_coding::tensor_scaled:
    return scales.base * detail::load_scale(format.type, scales.codes, index);
  case scale_coding::double_min: {
    const float super = detail::load_scale(format.type, scales.supers, index / format.block);
    if (!(super > 0x1p-24F)) return scales.base;
    const auto top = static_cast<float>((1 << format.bits) - 1);
    const code_t code = packed_code(code_order::lsb_first, scales.codes, scales.count, format.bits, index);
    return static_cast<float>(code) / (top / super) + scales.base;
  }
  case scale_coding::double_mean: {
    const float super = detail::load_scale(format.type, scales.supers, index / format.block);
    return detail::rounded_product_plus(dynamic_map().decode(scales.codes[index]), super, scales.base);
  }
  }
  return 0;
}

/// Stores the scales of all blocks, row by row, and replaces each by the value that was stored.
///
/// @param base  tensor_scaled: the tensor's scale; ignored otherwise
/// @throws qlr::error unsupported: a scale beyond the range of the format
[[nodiscard]] inline stored_scales encode_scales(std::span<float> scales, const scale_format& format,
                                                 float base = 1.0F) {
  stored_scales out{format, static_cast<index_t>(scales.size()), {}, {}, 0.0F};
  out.codes.resize(static_cast<std::size_t>(scale_code_bytes(format, out.count)));
  out.supers.resize(static_cast<std::size_t>(scale_super_bytes(format, out.count)));
  if (format.coding == scale_coding::double_min) {
    detail::encode_double_min(scales, out);
  } else if (format.coding == scale_coding::double_mean) {
    detail::encode_double_mean(scales, out);
  } else {
    if (format.coding == scale_coding::tensor_scaled) out.base = base;
    const float unit = format.coding == scale_coding::tensor_scaled && base > 0.0F ? base : 1.0F;
    for (index_t i = 0; i < out.count; ++i) {
      const float value = scales[static_cast<std::size_t>(i)] / unit;
      detail::check_range(format.type, value, detail::store_scale(format.type, value, out.codes.data(), i),
                          i);
    }
  }
  const scales_view view = out.view();
  for (index_t i = 0; i < out.count; ++i) scales[static_cast<std::size_t>(i)] = decode_scale(view, i);
  return out;
}

} // namespace qlr
