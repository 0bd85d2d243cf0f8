// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul/detail/aligned_bytes.hpp>
#include <qlr/matmul/detail/kernel_types.hpp>

#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

namespace qlr::matmul_detail {

/// Calls body with a zero of the element type behind a number_type other than int8.
template <class Body>
auto with_number_type(number_type type, Body&& body) {
  switch (type) {
  case number_type::fp16:
    return body(float16{});
  case number_type::bf16:
    return body(bfloat16{});
  default:
    return body(float{});
  }
}

/// The scale of which every number is a multiple, at most 127 times; nothing when there is none.
///
/// Finite numbers are integers of some unit, so the largest such scale is their greatest common divisor.
inline std::optional<float> int8_scale(std::span<const float> numbers) {
  int lowest = std::numeric_limits<int>::max(); // exponent of the lowest bit that is set
  double largest = 0;
  for (const float number : numbers) {
    if (number == 0) continue;
    int exponent = 0;
    const double fraction = std::frexp(static_cast<double>(number), &exponent);
    const auto mantissa = static_cast<std::int64_t>(std::ldexp(std::fabs(fraction), 24));
    lowest = std::min(lowest, exponent - 24 + std::countr_zero(static_cast<std::uint64_t>(mantissa)));
    largest = std::max(largest, std::fabs(static_cast<double>(number)));
  }
  if (largest == 0) return 0.0F;
  if (std::ldexp(largest, -lowest) >= 0x1p31) return std::nullopt; // 24 bits of a scale times 7 of a code
  std::int64_t unit = 0;
  for (const float number : numbers) {
    unit = std::gcd(unit, static_cast<std::int64_t>(std::ldexp(static_cast<double>(number), -lowest)));
  }
  const double scale = std::ldexp(static_cast<double>(unit), lowest);
  const auto narrow = static_cast<float>(scale);
  if (static_cast<double>(narrow) != scale || narrow < smallest_normal_float) return std::nullopt;
  if (largest > 127 * scale) return std::nullopt;
  return narrow;
}

/// Immutable numbers in the narrowest type that changes none.
///
/// int8 is tried where numbers come in runs: bytes times one fp32 scale per run.
class packed_numbers {
public:
  packed_numbers() = default;

  /// @param run  0: no int8; else the length of a run, which divides the count
  explicit packed_numbers(std::span<const float> numbers, index_t run = 0) {
    if (run > 0 && pack_runs(numbers, run)) return;
    type_ = narrowest_float(numbers);
    bytes_ = aligned_bytes(static_cast<index_t>(numbers.size()) * number_bytes(type_));
    with_number_type(type_, [&](auto number) {
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        convert(numbers[i], number);
        std::memcpy(bytes_.data() + i * sizeof number, &number, sizeof number);
      }
    });
  }

  [[nodiscard]] number_array view() const { return {type_, bytes_.data(), scales_.data(), run_}; }
  [[nodiscard]] number_type type() const { return type_; }
  [[nodiscard]] index_t size_bytes() const {
    return bytes_.size() + static_cast<index_t>(scales_.size() * sizeof(float));
  }

  [[nodiscard]] float get(index_t index) const {
    if (type_ == number_type::int8) {
      const auto code = static_cast<std::int8_t>(bytes_.data()[index]);
      return static_cast<float>(code) * scales_[static_cast<std::size_t>(index / run_)];
    }
    return with_number_type(type_, [&](auto number) {
      std::memcpy(&number, bytes_.data() + index * number_bytes(type_), sizeof number);
      return to_float(number);
    });
  }

private:
  static number_type narrowest_float(std::span<const float> numbers) {
    bool fits_fp16 = true;
    bool fits_bf16 = true;
    for (const float number : numbers) {
      fits_fp16 = fits_fp16 && to_float(to_float16(number)) == number;
      fits_bf16 = fits_bf16 && to_float(to_bfloat16(number)) == number;
      if (!fits_fp16 && !fits_bf16) return number_type::fp32;
    }
    return fits_fp16 ? number_type::fp16 : number_type::bf16;
  }

  bool pack_runs(std::span<const float> numbers, index_t run) {
    std::vector<float> scales;
    const auto length = static_cast<std::size_t>(run);
    for (std::size_t first = 0; first < numbers.size(); first += length) {
      const std::optional<float> scale = int8_scale(numbers.subspan(first, length));
      if (!scale) return false;
      scales.push_back(*scale);
    }
    type_ = number_type::int8;
    run_ = run;
    scales_ = std::move(scales);
    bytes_ = aligned_bytes(static_cast<index_t>(numbers.size()));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const float scale = scales_[i / length];
      const auto code = static_cast<std::int8_t>(scale == 0 ? 0.0F : numbers[i] / scale); // exact
      bytes_.data()[i] = static_cast<std::uint8_t>(code);
    }
    return true;
  }

  number_type type_ = number_type::fp32;
  index_t run_ = 1;
  std::vector<float> scales_;
  aligned_bytes bytes_;
};

} // namespace qlr::matmul_detail
