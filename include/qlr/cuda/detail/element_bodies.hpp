// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/random.hpp>
#include <qlr/core/types.hpp>
#include <qlr/cuda/detail/report.hpp>
#include <qlr/cuda/device_buffer.hpp>

#include <cmath>
#include <cstdint>
#include <string_view>

namespace qlr::cuda::detail {

// What map_elements_async does to the elements of matrices; views are row-major unless said otherwise.

/// out(i,j) = float(in(i,j)), any strides.
template <class T>
struct convert_body {
  static constexpr std::string_view name = "convert_kernel";
  device_view<const T> in;
  device_view<float> out;
  QLR_DEVICE void operator()(index_t i, index_t j) const { out(i, j) = static_cast<float>(in(i, j)); }
};

/// The rows of in (q,n) as doubles, followed by the identity where out (q,n+q) has room for it.
struct widen_body {
  static constexpr std::string_view name = "widen_kernel";
  device_view<const float> in;
  device_view<double> out;
  QLR_DEVICE void operator()(index_t i, index_t j) const {
    out(i, j) = j < in.cols() ? static_cast<double>(in(i, j)) : (j - in.cols() == i ? 1.0 : 0.0);
  }
};

/// out(i,j) = in(i,j), negated in rows whose sign is negative; nothing where *condition is 0.
struct narrow_body {
  static constexpr std::string_view name = "narrow_kernel";
  device_view<const double> in;
  device_view<float> out;
  const double* signs;  // (rows), or null
  const int* condition; // or null
  QLR_DEVICE void operator()(index_t i, index_t j) const {
    if (condition != nullptr && *condition == 0) return;
    const double value = signs != nullptr && signs[i] < 0 ? -in(i, j) : in(i, j);
    out(i, j) = static_cast<float>(value);
  }
};

/// Element i cols + j of the random sequence of the seed, as on the host.
struct fill_random_body {
  static constexpr std::string_view name = "fill_random_kernel";
  device_view<float> out; // contiguous
  index_t first;          // index of its first element
  std::uint64_t seed;
  QLR_DEVICE void operator()(index_t i, index_t j) const {
    const index_t index = first + i * out.cols() + j;
    const auto words = philox(seed, static_cast<std::uint64_t>(index / 4));
    const auto place = static_cast<int>(index % 4); // selected, as registers have no addresses
    const std::uint32_t low = place == 0 ? words[0] : words[1];
    const std::uint32_t high = place == 2 ? words[2] : words[3];
    out(i, j) = to_unit_variance(place < 2 ? low : high);
  }
};

/// x(i,j) times rows[i]^power cols[j], or divided by cols[j].
struct scale_body {
  static constexpr std::string_view name = "scale_kernel";
  device_view<float> x;
  const float* rows; // or null
  float power;
  const float* cols; // or null
  bool divides;
  QLR_DEVICE void operator()(index_t i, index_t j) const {
    float factor = 1.0F;
    if (rows != nullptr) factor = power == 1.0F ? rows[i] : std::pow(rows[i], power);
    if (cols != nullptr && divides) {
      x(i, j) /= cols[j];
      return;
    }
    x(i, j) *= cols == nullptr ? factor : factor * cols[j];
  }
};

/// x = nearest fp16 number; the report tells of an entry beyond its range.
struct round_fp16_body {
  static constexpr std::string_view name = "round_fp16_kernel";
  device_view<float> x;
  report* reported;
  QLR_DEVICE void operator()(index_t i, index_t j) const {
    const float value = x(i, j);
    const float stored = to_float(to_float16(value));
    if (!is_finite(stored)) reported->overflow = value; // any of them is as good
    x(i, j) = stored;
  }
};

/// out(k,j) = in(k,j) / lengths[k]; 0 in rows without a length.
struct normalize_body {
  static constexpr std::string_view name = "normalize_kernel";
  device_view<const double> in;
  device_view<double> out; // (q,n+q): the identity follows
  const double* lengths;
  QLR_DEVICE void operator()(index_t k, index_t j) const {
    if (j >= in.cols()) {
      out(k, j) = j - in.cols() == k ? 1.0 : 0.0;
    } else {
      out(k, j) = lengths[k] > 0 ? in(k, j) / lengths[k] : 0.0;
    }
  }
};

/// out(k,j) = in(k,j) / values[k], 0 where values[k] is at most 1e-12 of the largest, the last one.
struct divide_eigenvalues_body {
  static constexpr std::string_view name = "divide_eigenvalues_kernel";
  device_view<const double> in;
  device_view<double> out;
  const double* values; // ascending
  QLR_DEVICE void operator()(index_t k, index_t j) const {
    const double largest = values[in.rows() - 1];
    out(k, j) = largest > 0 && values[k] > 1e-12 * largest ? in(k, j) / values[k] : 0.0;
  }
};

} // namespace qlr::cuda::detail
