// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/train/lr_qat_layer.hpp>

#include <train/rounding_layers.hpp>

#include <algorithm>
#include <cmath>

namespace qlr::test {

/// W / s0 + z as it is kept, from the definition of each storage, for codes of `bits` bits.
[[nodiscard]] inline double slow_frozen(double value, train::frozen_storage storage, int bits,
                                        double lowest) {
  if (storage == train::frozen_storage::fp32) return static_cast<double>(static_cast<float>(value));
  if (storage == train::frozen_storage::bf16) return slow_value(to_bfloat16(static_cast<float>(value)));
  // Clamped to the levels, then rounded to 8 - bits binary places.
  const double highest = lowest + std::ldexp(1.0, bits) - 1;
  const double clamped = std::clamp(value, lowest, highest);
  return std::ldexp(std::nearbyint(std::ldexp(clamped - lowest, 8 - bits)), bits - 8) + lowest;
}

/// LR-QAT by its definition: W_hat = s (clamp(round(Phi_0 + alpha / r L R)) - z), with |s| learned and its
/// sign that of the start.
class slow_lr_qat {
public:
  slow_lr_qat(const matrix<float>& weight, const quantized_matrix& start,
              const train::lr_qat_options& options)
      : start_(weight.rows(), weight.cols()), grid_(start),
        factor_(options.rank == 0 ? 0.0 : options.alpha / static_cast<double>(options.rank)) {
    for (index_t i = 0; i < weight.rows(); ++i) {
      for (index_t j = 0; j < weight.cols(); ++j) {
        const double value = static_cast<double>(weight(i, j)) / grid_.scale(i, j) + grid_.zero(i, j);
        start_(i, j) = slow_frozen(value, options.start, start.layout().bits, grid_.lowest);
      }
    }
  }

  [[nodiscard]] const slow_grid& grid() const { return grid_; }

  [[nodiscard]] slow_rounding rounding(const matrix<double>& low_rank, index_t i, index_t j) const {
    return {start_(i, j) + factor_ * low_rank(i, j), grid_.lowest, grid_.highest};
  }
  [[nodiscard]] double scale(const named_numbers& p, index_t i, index_t j) const {
    return (grid_.scale(i, j) < 0 ? -1.0 : 1.0) * p.at("scale")(i, grid_.group_of(i, j));
  }

  [[nodiscard]] matrix<double> rounded_weight(const named_numbers& p) const {
    const matrix<double> low_rank = slow_low_rank(p.at("left"), p.at("right"));
    matrix<double> result(start_.rows(), start_.cols());
    for (index_t i = 0; i < result.rows(); ++i) {
      for (index_t j = 0; j < result.cols(); ++j)
        result(i, j) = scale(p, i, j) * (rounding(low_rank, i, j).level - grid_.zero(i, j));
    }
    return result;
  }

  /// The same with what rounding adds, and what is out of range, as they are at `base`.
  [[nodiscard]] matrix<double> smooth_weight(const named_numbers& p, const named_numbers& base) const {
    const matrix<double> low_rank = slow_low_rank(p.at("left"), p.at("right"));
    const matrix<double> base_low_rank = slow_low_rank(base.at("left"), base.at("right"));
    matrix<double> result(start_.rows(), start_.cols());
    for (index_t i = 0; i < result.rows(); ++i) {
      for (index_t j = 0; j < result.cols(); ++j) {
        const slow_rounding at_base = rounding(base_low_rank, i, j);
        const double moved =
            start_(i, j) + factor_ * low_rank(i, j) + (at_base.level - at_base.value) - grid_.zero(i, j);
        result(i, j) = scale(p, i, j) * (at_base.passes ? moved : at_base.level - grid_.zero(i, j));
      }
    }
    return result;
  }

private:
  matrix<double> start_;
  slow_grid grid_;
  double factor_;
};

} // namespace qlr::test
