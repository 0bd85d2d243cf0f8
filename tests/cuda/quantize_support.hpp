// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cuda/support.hpp>
#include <qlr/cuda/quantize.hpp>
#include <qlr/quant/quantizer.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <cstring>
#include <utility>

namespace qlr::test {

/// Weights with groups of zeros of both signs, denormals, ties of magnitude and sizes far apart.
[[nodiscard]] inline matrix<float> awkward_matrix(index_t rows, index_t cols, std::uint64_t seed) {
  matrix<float> w = weight_like_matrix(rows, cols, seed);
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < cols; ++j) {
      const index_t group = j / 16;
      if (i % 3 == 1 && group % 5 == 2) w(i, j) = j % 2 == 0 ? 0.0F : -0.0F;
      if (i % 3 == 2 && group % 5 == 3) w(i, j) = static_cast<float>(j % 7) * 0x1p-140F;
      if (i % 4 == 3 && group % 5 == 0) w(i, j) = j % 2 == 0 ? 0.25F : -0.25F;
    }
  }
  return w;
}

/// A device copy of which only a view with other strides is used: every second column of rows far apart.
class spread_matrix {
public:
  explicit spread_matrix(const matrix<float>& values)
      : rows_(values.rows()), cols_(values.cols()), buffer_(make(values)) {}
  [[nodiscard]] cuda::device_view<const float> view() const {
    return {buffer_.data() + 1, rows_, cols_, 2 * cols_ + 3, 2};
  }
  [[nodiscard]] cuda::device_view<float> view() {
    return {buffer_.data() + 1, rows_, cols_, 2 * cols_ + 3, 2};
  }

private:
  static cuda::device_matrix<float> make(const matrix<float>& values) {
    matrix<float> spread(values.rows(), 2 * values.cols() + 3, std::numeric_limits<float>::quiet_NaN());
    for (index_t i = 0; i < values.rows(); ++i) {
      for (index_t j = 0; j < values.cols(); ++j) spread(i, 1 + 2 * j) = values(i, j);
    }
    return cuda::to_device(spread.view());
  }

  index_t rows_;
  index_t cols_;
  cuda::device_matrix<float> buffer_;
};

[[nodiscard]] inline cuda::device_view<const float> read_only(const cuda::device_matrix<float>& x) {
  return x.view();
}

/// All parts equal, bit for bit; the dequantized values follow.
inline void check_same(const quantized_matrix& actual, const quantized_matrix& expected) {
  CHECK(actual.format_name() == expected.format_name());
  const bool has_same_levels = actual.levels() == expected.levels();
  const bool has_same_base = is_same(actual.scales().base, expected.scales().base);
  const bool has_same_supers = actual.scales().supers == expected.scales().supers;
  const bool has_same_scales = actual.scales().codes == expected.scales().codes;
  const bool has_same_zeros = actual.zeros() == expected.zeros();
  const bool has_same_codes = actual.codes() == expected.codes();
  CHECK(has_same_levels);
  CHECK(has_same_base);
  CHECK(has_same_supers);
  CHECK(has_same_scales);
  CHECK(has_same_zeros);
  CHECK(has_same_codes);
}

/// The device's quantization of a host matrix, on the host.
template <class Quantizer>
[[nodiscard]] quantized_matrix quantize_on_device(const Quantizer& quantizer, const matrix<float>& w,
                                                  const cuda::device_quantize_hints& hints = {}) {
  const cuda::device_matrix<float> on_device = cuda::to_device(w.view());
  return cuda::to_host(cuda::quantize<test_launcher>(quantizer, read_only(on_device), hints, nullptr));
}

} // namespace qlr::test
