// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>

#include <cmath>
#include <optional>
#include <string>
#include <string_view>

namespace qlr {

/// Number format of a stored scale.
enum class scale_type { fp32, fp16, bf16, e8m0, e4m3 };

/// How the scales of all blocks of a matrix are stored.
enum class scale_coding {
  plain,         ///< each scale as a number of `type`
  tensor_scaled, ///< each scale as a number of `type` times one binary32 for the tensor (NVFP4)
  double_min,    ///< LQ-LoRA: unsigned integers above the smallest scale, one number of `type` per `block`
                 ///< scales
  double_mean    ///< bitsandbytes: 8-bit dynamic map around the mean scale, one number of `type` per `block`
                 ///< scales
};

/// Storage of scales; the defaults are plain fp16.
struct scale_format {
  scale_coding coding = scale_coding::plain;
  scale_type type = scale_type::fp16;
  int bits = 8;        ///< double_min: width of the integers, 2 to 8
  index_t block = 256; ///< double_*: consecutive scales (row by row) that share one number of `type`

  friend bool operator==(const scale_format&, const scale_format&) = default;

  [[nodiscard]] QLR_HOST_DEVICE constexpr bool is_double() const {
    return coding == scale_coding::double_min || coding == scale_coding::double_mean;
  }
  /// True when a negative scale can be stored.
  [[nodiscard]] QLR_HOST_DEVICE constexpr bool is_signed() const {
    return coding == scale_coding::plain && type != scale_type::e8m0;
  }
};

/// LQ-LoRA's double quantization.
[[nodiscard]] constexpr scale_format double_quantized(int bits = 8, scale_type type = scale_type::fp32,
                                                      index_t block = 256) {
  return {scale_coding::double_min, type, bits, block};
}

/// bitsandbytes' nested statistics.
[[nodiscard]] constexpr scale_format nested_bitsandbytes() {
  return {scale_coding::double_mean, scale_type::fp32, 8, 256};
}

[[nodiscard]] QLR_HOST_DEVICE constexpr int scale_type_bytes(scale_type type) {
  switch (type) {
  case scale_type::fp32:
    return 4;
  case scale_type::fp16:
  case scale_type::bf16:
    return 2;
  case scale_type::e8m0:
  case scale_type::e4m3:
    return 1;
  }
  return 0;
}

[[nodiscard]] constexpr std::string_view scale_type_name(scale_type type) {
  switch (type) {
  case scale_type::fp32:
    return "fp32";
  case scale_type::fp16:
    return "fp16";
  case scale_type::bf16:
    return "bf16";
  case scale_type::e8m0:
    return "e8m0";
  case scale_type::e4m3:
    return "e4m3";
  }
  return "";
}

/// The value that a scale has once it is stored as `type`, nearest even; E8M0 takes the nearest power of two.
[[nodiscard]] QLR_HOST_DEVICE constexpr float round_to(scale_type type, float value) {
  switch (type) {
  case scale_type::fp32:
    return value;
  case scale_type::fp16:
    return to_float(to_float16(value));
  case scale_type::bf16:
    return to_float(to_bfloat16(value));
  case scale_type::e4m3:
    return to_float(to_float8_e4m3(value));
  case scale_type::e8m0: {
    if (!(value > 0.0F)) return 0.0F;
    const int below = floor_log2(value);
    const float low = to_float(to_float8_e8m0(below));
    return value >= 1.5F * low ? to_float(to_float8_e8m0(below + 1)) : low;
  }
  }
  return value;
}

/// The name used on the command line and in files: fp32, fp16, bf16, e8m0, e4m3, dq:bits,type,block or
/// dq-bnb.
[[nodiscard]] inline std::string to_string(const scale_format& format) {
  switch (format.coding) {
  case scale_coding::plain:
    return std::string(scale_type_name(format.type));
  case scale_coding::tensor_scaled:
    return sentence(scale_type_name(format.type), "-tensor");
  case scale_coding::double_min:
    return sentence("dq:", format.bits, ',', scale_type_name(format.type), ',', format.block);
  case scale_coding::double_mean:
    return "dq-bnb";
  }
  return {};
}

/// @throws qlr::error invalid_argument: bits or block outside what a double-quantized format allows
inline void validate(const scale_format& format) {
  if (!format.is_double()) return;
  require(format.bits >= 2 && format.bits <= 8, status_code::invalid_argument, "scale bits is ", format.bits,
          ", double quantization takes 2 to 8");
  require(format.block >= 1, status_code::invalid_argument, "scale block is ", format.block,
          ", double quantization takes 1 and above");
  require(format.type != scale_type::e8m0 && format.type != scale_type::e4m3, status_code::invalid_argument,
          "scale type is ", scale_type_name(format.type), ", double quantization takes fp32, fp16 or bf16");
}

/// Parses what to_string writes; "dq" alone is dq:8,fp32,256. Nothing for any other text; numbers are not
/// judged.
[[nodiscard]] inline std::optional<scale_format> try_parse_scale_format(std::string_view text) {
  const auto parse_type = [](std::string_view name) -> std::optional<scale_type> {
    for (const scale_type type :
         {scale_type::fp32, scale_type::fp16, scale_type::bf16, scale_type::e8m0, scale_type::e4m3}) {
      if (name == scale_type_name(type)) return type;
    }
    return std::nullopt;
  };
  const auto parse_number = [](std::string_view digits) -> std::optional<index_t> {
    index_t value = 0;
    if (digits.empty() || digits.size() > 9) return std::nullopt;
    for (const char digit : digits) {
      if (digit < '0' || digit > '9') return std::nullopt;
      value = 10 * value + (digit - '0');
    }
    return value;
  };
  if (text == "dq-bnb") return nested_bitsandbytes();
  if (text == "dq") return double_quantized();
  if (!text.starts_with("dq:")) {
    const bool is_tensor_scaled = text.ends_with("-tensor");
    const auto type = parse_type(is_tensor_scaled ? text.substr(0, text.size() - 7) : text);
    if (!type) return std::nullopt;
    return scale_format{is_tensor_scaled ? scale_coding::tensor_scaled : scale_coding::plain, *type};
  }
  const std::string_view fields = text.substr(3);
  const std::size_t first = fields.find(',');
  const std::size_t second = first == std::string_view::npos ? first : fields.find(',', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const auto bits = parse_number(fields.substr(0, first));
  const auto type = parse_type(fields.substr(first + 1, second - first - 1));
  const auto block = parse_number(fields.substr(second + 1));
  if (!bits || !type || !block) return std::nullopt;
  return double_quantized(static_cast<int>(*bits), *type, *block);
}

/// @copydoc try_parse_scale_format
///
/// @throws qlr::error invalid_argument: other text, or impossible numbers; the message lists the allowed
/// forms
[[nodiscard]] inline scale_format parse_scale_format(std::string_view text) {
  const std::optional<scale_format> format = try_parse_scale_format(text);
  require(
      format.has_value(), status_code::invalid_argument, "scale is '", text,
      "', allowed are fp32, fp16, bf16, e8m0, dq[:bits,type,block] (bits 2 to 8, type fp32, fp16 or bf16) "
      "and dq-bnb");
  validate(*format);
  return *format;
}

} // namespace qlr
