// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Fused products on a device against sums in double, with bounds from the roundings that matmul.hpp names.
#include <cuda/matmul_kernels.hpp>
#include <cuda/support.hpp>
#include <qlr/quant/formats.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlr::test {

using device_matmul = cuda::fused_matmul<test_launcher>;

/// Half the distance of 1 and the next number.
template <class T>
inline constexpr double unit_roundoff = std::same_as<T, float16> ? 0x1p-11 : 0x1p-8;

/// s L R of a base or an adapter.
struct low_rank_part {
  matrix<float> left;
  matrix<float> right;
  float scale = 0.75F;
};

inline low_rank_part make_low_rank(index_t rows, index_t cols, index_t rank, std::uint64_t seed) {
  return {normal_matrix(rows, rank, seed, 0.2), normal_matrix(rank, cols, seed + 1, 0.3),
          seed % 2 == 0 ? 0.75F : -1.5F};
}

/// Operands of one product, in host memory.
template <class T>
struct device_problem {
  quantized_matrix q;
  low_rank_part base;
  std::vector<float> input_scales;
  std::vector<low_rank_part> adapters;
  std::vector<std::int32_t> adapter_of_token;
  std::vector<float> bias;
  matrix<T> x;
};

template <class T>
device_problem<T> make_device_problem(const any_quantizer& quantizer, index_t rows, index_t cols,
                                      index_t rank, index_t tokens, std::uint64_t seed = 1) {
  device_problem<T> p;
  const matrix<float> weight = normal_matrix(rows, cols, seed, 0.05);
  p.q = quantize(weight.view(), quantizer);
  p.base = make_low_rank(rows, cols, rank, seed + 10);
  const matrix<float> x = normal_matrix(tokens, cols, seed + 20);
  p.x = matrix<T>(tokens, cols);
  for (index_t i = 0; i < x.size(); ++i) p.x.data()[i] = cuda::detail::round_to_half<T>(x.data()[i]);
  return p;
}

template <class T>
device_problem<T> make_device_problem(std::string_view format, index_t group_size, index_t rows, index_t cols,
                                      index_t rank, index_t tokens) {
  format_options options;
  if (!find_format(format).is_fixed) options.group_size = group_size;
  return make_device_problem<T>(make_quantizer(format, options), rows, cols, rank, tokens);
}

struct device_reference {
  matrix<double> values;
  matrix<double> bounds;
};

/// values += s L R x, bounds += roundings of L, R and R x to T and of fp32 sums.
///
/// Entries of L and R far below the largest lose bits of fp16, at most 2^-24 of the largest, as do numbers of
/// R x.
template <class T>
void add_low_rank_reference(const low_rank_part& part, const matrix<T>& x, index_t token,
                            device_reference& out) {
  constexpr double u = unit_roundoff<T>;
  double left_largest = 0;
  double right_largest = 0;
  for (index_t i = 0; i < part.left.size(); ++i)
    left_largest = std::max(left_largest, std::fabs(static_cast<double>(part.left.data()[i])));
  for (index_t i = 0; i < part.right.size(); ++i)
    right_largest = std::max(right_largest, std::fabs(static_cast<double>(part.right.data()[i])));
  const double sums = 0x1p-24 * static_cast<double>(x.cols() + part.right.rows() + 8);
  for (index_t k = 0; k < part.right.rows(); ++k) {
    double product = 0;
    double size = 0;
    for (index_t j = 0; j < x.cols(); ++j) {
      const double activation = slow_value(x(token, j));
      product += static_cast<double>(part.right(k, j)) * activation;
      size += (std::fabs(static_cast<double>(part.right(k, j))) + 0x1p-13 * right_largest) *
              std::fabs(activation);
    }
    for (index_t i = 0; i < part.left.rows(); ++i) {
      const double left = static_cast<double>(part.left(i, k)) * static_cast<double>(part.scale);
      out.values(token, i) += left * product;
      out.bounds(token, i) += (std::fabs(left) + 0x1p-13 * left_largest) * size * (3.1 * u + sums);
    }
  }
}

/// @param scales_operands  whether (level - zero) * scale is rounded to T, as by prefill variants
template <class T>
device_reference slow_device_product(const device_problem<T>& p, bool scales_operands, bool rounds_output) {
  constexpr double u = unit_roundoff<T>;
  const index_t rows = p.q.rows();
  const index_t cols = p.q.cols();
  const double sums = 0x1p-24 * static_cast<double>(cols + 16);
  device_reference out{matrix<double>(p.x.rows(), rows, 0.0), matrix<double>(p.x.rows(), rows, 0.0)};
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < cols; ++j) {
      const slow_block block = block_of(p.q, i, j);
      const auto level = static_cast<double>(p.q.levels()[code_of(p.q, i, j)]);
      const double rounded = slow_value(cuda::detail::round_to_half<T>(static_cast<float>(level)));
      const double divisor =
          p.input_scales.empty() ? 1.0 : static_cast<double>(p.input_scales[static_cast<std::size_t>(j)]);
      const double weight = (level - block.zero) * block.scale / divisor;
      const double scale = std::fabs(block.scale / divisor);
      const double size = (std::fabs(level) + std::fabs(block.zero)) * scale;
      const double error = std::fabs(rounded - level) * scale + size * sums +
                           (p.input_scales.empty() ? 0.0 : 1.05 * u * std::fabs(weight)) +
                           (scales_operands ? 2.05 * u * std::fabs(weight) + 0x1p-24 * scale : 0.0);
      for (index_t t = 0; t < p.x.rows(); ++t) {
        const double x = slow_value(p.x(t, j));
        out.values(t, i) += weight * x;
        out.bounds(t, i) += error * std::fabs(x);
      }
    }
  }
  for (index_t t = 0; t < p.x.rows(); ++t) {
    add_low_rank_reference(p.base, p.x, t, out);
    if (!p.adapter_of_token.empty()) {
      const auto id = static_cast<std::size_t>(p.adapter_of_token[static_cast<std::size_t>(t)]);
      if (id < p.adapters.size()) add_low_rank_reference(p.adapters[id], p.x, t, out);
    }
    for (index_t i = 0; i < rows; ++i) {
      if (!p.bias.empty()) out.values(t, i) += static_cast<double>(p.bias[static_cast<std::size_t>(i)]);
      out.bounds(t, i) += 0x1p-22 * std::fabs(out.values(t, i)) + 1e-37;
      if (rounds_output)
        out.bounds(t, i) += 1.01 * u * (std::fabs(out.values(t, i)) + out.bounds(t, i)) + 0x1p-25;
    }
  }
  return out;
}

/// Where X and Y of a product lie in device memory.
struct operand_placement {
  index_t x_offset = 0;  ///< elements before X
  index_t x_padding = 0; ///< elements between rows, behind those that round a row up to 8
  index_t y_offset = 1;  ///< elements before Y
  index_t y_padding = 0;
  bool x_is_transposed = false;
};

/// The packed parts of a problem on the device.
template <class T>
class packed_problem {
public:
  explicit packed_problem(const device_problem<T>& p)
      : weights(cuda::prepack<T>(p.q.view(), p.base.left.view(), p.base.right.view(), p.base.scale,
                                 p.input_scales)),
        bias_(cuda::to_device(std::span<const float>(p.bias))),
        adapter_of_token_(cuda::to_device(std::span<const std::int32_t>(p.adapter_of_token))) {
    for (const low_rank_part& each : p.adapters)
      adapters_.emplace_back(each.left.view(), each.right.view(), each.scale);
    std::vector<const cuda::packed_factors<T>*> pointers;
    for (const auto& each : adapters_) pointers.push_back(&each);
    table_ = cuda::adapter_table<T>(pointers);
  }

  [[nodiscard]] cuda::matmul_options<T> options() const {
    cuda::matmul_options<T> out;
    if (bias_.size() > 0) out.bias = bias_.data();
    if (!adapters_.empty()) {
      out.adapters = &table_;
      out.adapter_of_token = adapter_of_token_.data();
    }
    return out;
  }

  cuda::packed_weights<T> weights;

private:
  cuda::device_buffer<float> bias_;
  cuda::device_buffer<std::int32_t> adapter_of_token_;
  std::vector<cuda::packed_factors<T>> adapters_;
  cuda::adapter_table<T> table_;
};

/// Y of one product, and whether memory around it stayed as it was.
struct device_output {
  matrix<double> values;
  bool is_intact = true;
};

inline double slow_value(float number) {
  return static_cast<double>(number);
}

/// Runs one product.
template <class T, class Y>
device_output run_product(const packed_problem<T>& packed, const matrix<T>& x,
                          const cuda::matmul_options<T>& options, cuda::matmul_workspace& workspace,
                          const operand_placement& place = {}) {
  const index_t tokens = x.rows();
  const index_t rows = packed.weights.rows();
  const index_t stride = (x.cols() + 7) / 8 * 8 + place.x_padding;
  constexpr std::uint16_t nan_bits = 0xFFFF;
  std::vector<T> x_memory(static_cast<std::size_t>(place.x_offset + (tokens + 1) * (stride + tokens + 1)),
                          T{nan_bits});
  const index_t row_stride = place.x_is_transposed ? 1 : stride;
  const index_t col_stride = place.x_is_transposed ? tokens + 1 : 1;
  if (place.x_is_transposed)
    x_memory.resize(static_cast<std::size_t>(place.x_offset + x.cols() * (tokens + 1)), T{nan_bits});
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t j = 0; j < x.cols(); ++j)
      x_memory[static_cast<std::size_t>(place.x_offset + t * row_stride + j * col_stride)] = x(t, j);
  }
  const auto x_device = cuda::to_device(std::span<const T>(x_memory));
  const index_t y_stride = rows + place.y_padding;
  const Y guard = [] {
    if constexpr (std::same_as<Y, float>)
      return 7.0F;
    else
      return Y{0x1234};
  }();
  std::vector<Y> y_memory(static_cast<std::size_t>(place.y_offset + (tokens + 1) * y_stride + 2), guard);
  auto y_device = cuda::to_device(std::span<const Y>(y_memory));
  const cuda::device_view<const T> x_view(x_device.data() + place.x_offset, tokens, x.cols(), row_stride,
                                          col_stride);
  const cuda::device_view<Y> y_view(y_device.data() + place.y_offset, tokens, rows, y_stride);
  device_matmul::run<T, Y>(packed.weights, x_view, y_view, options, workspace);
  cuda::copy_to_host(y_device.data(), std::span<Y>(y_memory), nullptr);

  device_output out{matrix<double>(tokens, rows), true};
  std::vector<bool> is_output(y_memory.size(), false);
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t i = 0; i < rows; ++i) {
      const auto index = static_cast<std::size_t>(place.y_offset + t * y_stride + i);
      is_output[index] = true;
      out.values(t, i) = slow_value(y_memory[index]);
    }
  }
  for (std::size_t i = 0; i < y_memory.size(); ++i)
    out.is_intact = out.is_intact && (is_output[i] || std::memcmp(&y_memory[i], &guard, sizeof guard) == 0);
  return out;
}

/// The largest error over its bound; infinite when an output is not finite.
inline double worst_ratio(const matrix<double>& y, const device_reference& expected) {
  double worst = 0;
  for (index_t i = 0; i < y.size(); ++i) {
    const double ratio = std::fabs(y.data()[i] - expected.values.data()[i]) / expected.bounds.data()[i];
    worst = std::isfinite(ratio) ? std::max(worst, ratio) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

inline bool has_same_values(const matrix<double>& a, const matrix<double>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(double)) == 0;
}

/// Scratch memory whose numbers are NaN behind the counters.
template <class T>
cuda::matmul_workspace make_workspace(const packed_problem<T>& packed, index_t tokens,
                                      const cuda::matmul_options<T>& options) {
  cuda::matmul_workspace workspace(device_matmul::workspace_bytes<T>(packed.weights, tokens, options));
  constexpr index_t counters = sizeof(cuda::detail::matmul_counters);
  cuda::detail::check(cudaMemsetAsync(workspace.data() + counters, 0xFF,
                                      static_cast<std::size_t>(workspace.size_bytes() - counters), nullptr),
                      "make_workspace");
  return workspace;
}

/// How a product is checked.
struct product_check {
  std::string_view variant;
  index_t slices = 0;
  operand_placement place{};
};

/// Checks one product against the reference, in T and in float; returns the largest error over its bound.
template <class T>
double check_device_product(const device_problem<T>& p, const product_check& how) {
  const packed_problem<T> packed(p);
  cuda::matmul_options<T> options = packed.options();
  options.variant = how.variant;
  options.slices = how.slices;
  const bool scales_operands = how.variant.find("prefill") != std::string_view::npos;
  cuda::matmul_workspace workspace = make_workspace(packed, p.x.rows(), options);
  const device_reference exact = slow_device_product(p, scales_operands, false);
  const device_reference rounded = slow_device_product(p, scales_operands, true);
  const device_output y = run_product<T, T>(packed, p.x, options, workspace, how.place);
  const device_output wide =
      run_product<T, float>(packed, p.x, options, workspace, how.place); // same workspace
  CAPTURE(p.q.format_name(), p.q.layout().group_size, p.q.rows(), p.q.cols(), p.base.right.rows(), p.x.rows(),
          how.variant, how.slices);
  const double ratio = std::max(worst_ratio(y.values, rounded), worst_ratio(wide.values, exact));
  CHECK(ratio <= 1.0);
  CHECK(y.is_intact);
  CHECK(wide.is_intact);
  return ratio;
}

} // namespace qlr::test
