// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/adapter.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace qlr::host::detail {

[[nodiscard]] inline double inner_product(const float* x, const float* y, index_t count) {
  constexpr index_t lanes = 8; // fixed partial sums, which may be vectorised without reordering
  double partial[lanes] = {};
  index_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    for (index_t lane = 0; lane < lanes; ++lane)
      partial[lane] += static_cast<double>(x[j + lane]) * static_cast<double>(y[j + lane]);
  }
  for (index_t lane = 0; j < count; ++j, ++lane)
    partial[lane] += static_cast<double>(x[j]) * static_cast<double>(y[j]);
  double sum = 0;
  for (const double value : partial) sum += value;
  return sum;
}

/// One vector of a pair during gradient descent.
class descending_vector {
public:
  descending_vector(const float* start, index_t length, const any_quantizer& quantizer,
                    const adapter_options& options)
      : quantizer_(quantizer), options_(options), start_(start, start + length), value_(1, length),
        rounded_(1, length) {
    std::copy_n(start, length, value_.data());
    round();
  }

  [[nodiscard]] index_t length() const { return value_.cols(); }
  [[nodiscard]] const float* start() const { return start_.data(); }
  [[nodiscard]] const float* value() const { return value_.data(); }
  [[nodiscard]] const float* rounded() const { return rounded_.data(); }

  /// One step along the gradient `along` q(x) - `against` start of the loss in q(x).
  void step(double along, double against) {
    slopes_.resize(start_.size());
    for (index_t j = 0; j < length(); ++j) {
      slopes_[static_cast<std::size_t>(j)] =
          along * static_cast<double>(rounded()[j]) - against * static_cast<double>(start()[j]);
    }
    const quantized_layout& layout = codes_.layout();
    for (index_t g = 0, first = 0; first < length(); ++g, first += layout.group_cols()) {
      step_group(first, std::min(first + layout.group_cols(), length()),
                 static_cast<double>(codes_.view().block(g).scale));
    }
    round();
  }

private:
  void round() {
    codes_ = quantizer_.quantize(value_.view(), {}, {});
    row_decoder decode(codes_.view());
    decode(0, rounded_.data());
  }

  /// x -= rate * the gradient in x: through the scale, (max - min) / steps, and with straight-through
  /// gradients through the rounded values too.
  void step_group(index_t first, index_t last, double scale) {
    float* const x = value_.data();
    const bool is_straight = options_.gradient == adapter_gradient::straight_through;
    double scale_slope = 0;
    for (index_t j = first; scale > 0 && j < last; ++j) {
      const double constant = is_straight ? static_cast<double>(x[j]) : 0.0;
      scale_slope += slope(j) * (static_cast<double>(rounded()[j]) - constant) / scale;
    }
    const auto [low, high] = std::minmax_element(x + first, x + last);
    const index_t smallest = low - x;
    const index_t largest = high - x;
    const bool is_tight = options_.range == adapter_range::tight;
    const bool moves_low = is_tight || x[smallest] < 0;
    const bool moves_high = is_tight || x[largest] > 0;
    for (index_t j = first; is_straight && j < last; ++j) move(j, slope(j));
    const double end_slope = scale_slope / static_cast<double>((1 << options_.high_bits) - 1);
    if (moves_high) move(largest, end_slope);
    if (moves_low) move(smallest, -end_slope);
  }

  [[nodiscard]] double slope(index_t j) const { return slopes_[static_cast<std::size_t>(j)]; }
  void move(index_t j, double slope) {
    float& x = value_.data()[j];
    const auto moved = static_cast<float>(static_cast<double>(x) - options_.sgd_rate * slope);
    if (is_finite(moved)) x = moved;
  }

  const any_quantizer& quantizer_;
  const adapter_options& options_;
  std::vector<float> start_;
  matrix<float> value_;
  matrix<float> rounded_;
  quantized_matrix codes_;
  std::vector<double> slopes_;
};

/// ||b a^T - q(b) q(a)^T||_F without the products.
[[nodiscard]] inline double pair_error(const descending_vector& b, const descending_vector& a) {
  const auto dot = [](const descending_vector& v, const float* x, const float* y) {
    return inner_product(x, y, v.length());
  };
  const double exact = dot(b, b.start(), b.start()) * dot(a, a.start(), a.start());
  const double mixed = dot(b, b.start(), b.rounded()) * dot(a, a.start(), a.rounded());
  const double rounded = dot(b, b.rounded(), b.rounded()) * dot(a, a.rounded(), a.rounded());
  return std::sqrt(std::max(0.0, exact - 2.0 * mixed + rounded));
}

/// Gradient descent on ||b a^T - q(b) q(a)^T||_F; `left` and `right` become the b and a that were best.
///
/// @see LoRAQuant, arXiv 2510.26690; the norm is not squared
inline void descend_pair(float* left, index_t rows, float* right, index_t cols,
                         const any_quantizer& quantizer, const adapter_options& options) {
  descending_vector b(left, rows, quantizer, options);
  descending_vector a(right, cols, quantizer, options);
  double least = pair_error(b, a);
  for (int step = 0; step < options.sgd_steps; ++step) {
    const double error = pair_error(b, a);
    if (!(error > 0)) return;
    const double a_energy = inner_product(a.rounded(), a.rounded(), cols);
    const double b_energy = inner_product(b.rounded(), b.rounded(), rows);
    const double a_overlap = inner_product(a.start(), a.rounded(), cols);
    const double b_overlap = inner_product(b.start(), b.rounded(), rows);
    b.step(a_energy / error, a_overlap / error);
    a.step(b_energy / error, b_overlap / error);
    const double reached = pair_error(b, a);
    if (!(reached < least)) continue;
    least = reached;
    std::copy_n(b.value(), rows, left);
    std::copy_n(a.value(), cols, right);
  }
}

} // namespace qlr::host::detail
