// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <train/rounding_layers.hpp>

namespace qlr::test {

/// LRQ by its definition: W_hat = s1 (clamp(round(W / D) + z) - z), D = s1 exp(L2 U2 + r2 + c2), with |s1|
/// learned and its sign that of the start.
class slow_lrq {
public:
  slow_lrq(matrix<double> weight, const quantized_matrix& start) : weight_(std::move(weight)), grid_(start) {}

  [[nodiscard]] slow_rounding rounding(const named_numbers& p, const matrix<double>& low_rank, index_t i,
                                       index_t j) const {
    return {quotient(p, low_rank, i, j) + grid_.zero(i, j), grid_.lowest, grid_.highest};
  }
  [[nodiscard]] double scale(const named_numbers& p, index_t i, index_t j) const {
    return sign(i, j) * std::exp(p.at("log_scale")(i, grid_.group_of(i, j)));
  }
  [[nodiscard]] const slow_grid& grid() const { return grid_; }

  [[nodiscard]] matrix<double> rounded_weight(const named_numbers& p) const {
    const matrix<double> low_rank = slow_low_rank(p.at("left"), p.at("right"));
    matrix<double> result(weight_.rows(), weight_.cols());
    for (index_t i = 0; i < result.rows(); ++i) {
      for (index_t j = 0; j < result.cols(); ++j)
        result(i, j) = scale(p, i, j) * (rounding(p, low_rank, i, j).level - grid_.zero(i, j));
    }
    return result;
  }

  /// The same with what rounding adds, and what is out of range, as they are at `base`.
  [[nodiscard]] matrix<double> smooth_weight(const named_numbers& p, const named_numbers& base) const {
    const matrix<double> low_rank = slow_low_rank(p.at("left"), p.at("right"));
    const matrix<double> base_low_rank = slow_low_rank(base.at("left"), base.at("right"));
    matrix<double> result(weight_.rows(), weight_.cols());
    for (index_t i = 0; i < result.rows(); ++i) {
      for (index_t j = 0; j < result.cols(); ++j) {
        const slow_rounding at_base = rounding(base, base_low_rank, i, j);
        const double moved = quotient(p, low_rank, i, j) + at_base.level - at_base.value;
        result(i, j) = scale(p, i, j) * (at_base.passes ? moved : at_base.level - grid_.zero(i, j));
      }
    }
    return result;
  }

private:
  [[nodiscard]] double quotient(const named_numbers& p, const matrix<double>& low_rank, index_t i,
                                index_t j) const {
    const double exponent = p.at("log_scale")(i, grid_.group_of(i, j)) + low_rank(i, j) +
                            p.at("row_bias")(i, 0) + p.at("column_bias")(0, j);
    return weight_(i, j) / (sign(i, j) * std::exp(exponent));
  }
  [[nodiscard]] double sign(index_t i, index_t j) const { return grid_.scale(i, j) < 0 ? -1.0 : 1.0; }

  matrix<double> weight_;
  slow_grid grid_;
};

} // namespace qlr::test
