// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul/detail/aligned_bytes.hpp>
#include <qlr/matmul/detail/kernel_types.hpp>

#include <cstring>
#include <span>

namespace qlr::matmul_detail {

/// Calls body with a zero of the element type behind a number_type.
template <class Body>
auto with_number_type(number_type type, Body&& body) {
  switch (type) {
  case number_type::fp16:
    return body(float16{});
  case number_type::bf16:
    return body(bfloat16{});
  case number_type::fp32:
    break;
  }
  return body(float{});
}

inline void convert(float value, float& out) {
  out = value;
}
inline void convert(float value, float16& out) {
  out = to_float16(value);
}
inline void convert(float value, bfloat16& out) {
  out = to_bfloat16(value);
}

/// The narrowest type that holds every number that `at` returns for 0 ... count - 1.
template <class At>
number_type narrowest_type(index_t count, At&& at) {
  bool fits_fp16 = true;
  bool fits_bf16 = true;
  for (index_t i = 0; i < count && (fits_fp16 || fits_bf16); ++i) {
    const float value = at(i);
    fits_fp16 = fits_fp16 && to_float(to_float16(value)) == value;
    fits_bf16 = fits_bf16 && to_float(to_bfloat16(value)) == value;
  }
  return fits_fp16 ? number_type::fp16 : fits_bf16 ? number_type::bf16 : number_type::fp32;
}

/// Numbers stored in the narrowest type that changes none.
class packed_numbers {
public:
  packed_numbers() = default;
  packed_numbers(number_type type, index_t count) : type_(type), bytes_(count * number_bytes(type)) {}

  [[nodiscard]] number_array view() const { return {type_, bytes_.data()}; }
  [[nodiscard]] index_t size_bytes() const { return bytes_.size(); }

  void set(index_t index, float value) {
    with_number_type(type_, [&](auto number) {
      convert(value, number);
      std::memcpy(bytes_.data() + index * number_bytes(type_), &number, sizeof number);
    });
  }
  [[nodiscard]] float get(index_t index) const {
    return with_number_type(type_, [&](auto number) {
      std::memcpy(&number, bytes_.data() + index * number_bytes(type_), sizeof number);
      return to_float(number);
    });
  }

private:
  number_type type_ = number_type::fp32;
  aligned_bytes bytes_;
};

} // namespace qlr::matmul_detail
