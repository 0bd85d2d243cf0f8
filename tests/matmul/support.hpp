// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul.hpp>

#include <qlr/quant/formats.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/matmul.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

namespace qlr::test {

inline constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

/// Q, L, R and s of one product.
struct problem {
  quantized_matrix q;
  matrix<float> left;
  matrix<float> right;
  float scale = 0.75F;

  [[nodiscard]] packed_weights pack(isa set) const {
    return prepack(q.view(), left.view(), right.view(), scale, set);
  }
};

/// Factors that fp16 holds, as those of a decomposition usually are.
inline matrix<float> factor(index_t rows, index_t cols, std::uint64_t seed) {
  matrix<float> out = normal_matrix(rows, cols, seed);
  for (index_t i = 0; i < out.size(); ++i) out.data()[i] = to_float(to_float16(out.data()[i]));
  return out;
}

inline problem make_problem(const any_quantizer& quantizer, index_t rows, index_t cols, index_t rank) {
  const matrix<float> weight = normal_matrix(rows, cols, 1);
  return {quantize(weight.view(), quantizer), factor(rows, rank, 2), factor(rank, cols, 3)};
}

inline std::vector<isa> available_sets() {
  std::vector<isa> sets;
  std::copy_if(all_isas.begin(), all_isas.end(), std::back_inserter(sets), is_available);
  return sets;
}

/// Results in double, and the largest error that options.hpp allows for each.
struct reference {
  matrix<double> values;
  matrix<double> bounds;
};

/// The largest |x| of the at most 64 columns of the same group around column j; never below the block's own.
inline double block_maximum(const quantized_layout& layout, matrix_view<const float> x, index_t t,
                            index_t j) {
  const index_t group = j / layout.group_cols() * layout.group_cols();
  const index_t first = std::max(group, j - 63);
  const index_t last = std::min({layout.cols, group + layout.group_cols(), j + 64});
  double largest = 0;
  for (index_t i = first; i < last; ++i) largest = std::max(largest, std::fabs(static_cast<double>(x(t, i))));
  return largest;
}

/// scale * R x of every token, and the same of magnitudes; (token, rank).
inline std::pair<matrix<double>, matrix<double>> slow_projection(const problem& p,
                                                                 matrix_view<const float> x) {
  std::pair<matrix<double>, matrix<double>> out{matrix<double>(x.rows(), p.right.rows(), 0.0),
                                                matrix<double>(x.rows(), p.right.rows(), 0.0)};
  for (index_t t = 0; t < x.rows(); ++t) {
    for (index_t k = 0; k < p.right.rows(); ++k) {
      for (index_t j = 0; j < x.cols(); ++j) {
        const double product = static_cast<double>(p.right(k, j)) * static_cast<double>(x(t, j));
        out.first(t, k) += static_cast<double>(p.scale) * product;
        out.second(t, k) += std::fabs(static_cast<double>(p.scale) * product);
      }
    }
  }
  return out;
}

inline reference slow_product(const problem& p, matrix_view<const float> x, precision mode) {
  const quantized_layout& layout = p.q.layout();
  const matrix<float> decoded = slow_dequantize(p.q);
  double level = 0;
  for (const float l : p.q.levels()) level = std::max(level, std::fabs(static_cast<double>(l)));
  const double operand_error = mode == precision::int8   ? 1.0 / 250
                               : mode == precision::bf16 ? 1.0 / 8000
                                                         : 0.0;
  const double rounding = 0x1p-24 * static_cast<double>(layout.cols + p.right.rows() + 8);
  const auto [projected, projected_size] = slow_projection(p, x);
  matrix<double> largest(x.rows(), x.cols());
  for (index_t t = 0; t < x.rows(); ++t) {
    for (index_t j = 0; j < x.cols(); ++j) largest(t, j) = block_maximum(layout, x, t, j);
  }
  reference out{matrix<double>(x.rows(), layout.rows, 0.0), matrix<double>(x.rows(), layout.rows, 0.0)};
  for (index_t i = 0; i < layout.rows; ++i) {
    for (index_t j = 0; j < layout.cols; ++j) {
      const double w = static_cast<double>(decoded(i, j));
      const slow_block block = block_of(p.q, i, j);
      const double scale = std::fabs(static_cast<double>(block.scale));
      const double size = std::fabs(w) + 2 * scale * std::fabs(static_cast<double>(block.zero));
      for (index_t t = 0; t < x.rows(); ++t) {
        const double activation = static_cast<double>(x(t, j));
        out.values(t, i) += w * activation;
        out.bounds(t, i) += rounding * std::fabs(activation) * size +
                            operand_error * largest(t, j) * (std::fabs(w) + scale * level);
      }
    }
    for (index_t t = 0; t < x.rows(); ++t) {
      for (index_t k = 0; k < p.right.rows(); ++k) {
        const double l = static_cast<double>(p.left(i, k));
        out.values(t, i) += l * projected(t, k);
        out.bounds(t, i) += 2 * rounding * std::fabs(l) * projected_size(t, k);
      }
      out.bounds(t, i) += 1e-37 + 0x1p-23 * std::fabs(out.values(t, i)); // the result, also a subnormal one
    }
  }
  return out;
}

/// The largest error over its bound; infinite when an output is not finite.
inline double worst_ratio(matrix_view<const float> y, const reference& expected) {
  double worst = 0;
  for (index_t t = 0; t < y.rows(); ++t) {
    for (index_t i = 0; i < y.cols(); ++i) {
      const double error = std::fabs(static_cast<double>(y(t, i)) - expected.values(t, i));
      const double ratio = error / expected.bounds(t, i);
      worst = std::isfinite(ratio) ? std::max(worst, ratio) : std::numeric_limits<double>::infinity();
    }
  }
  return worst;
}

inline bool has_same_bits(const matrix<float>& a, const matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::equal(a.data(), a.data() + a.size(), b.data(), is_same);
}

/// Y as part of a larger buffer: rows that lie apart, and bytes around them that must stay.
class guarded_output {
public:
  guarded_output(index_t rows, index_t cols) : buffer_(rows + 2, cols + 5, guard), rows_(rows), cols_(cols) {
    for (index_t t = 0; t < rows; ++t) std::fill_n(&buffer_(t + 1, 3), cols, nan_value);
  }
  [[nodiscard]] matrix_view<float> view() {
    return {buffer_.data() + buffer_.cols() + 3, rows_, cols_, buffer_.cols(), 1};
  }
  [[nodiscard]] matrix<float> values() const {
    matrix<float> out(rows_, cols_);
    for (index_t t = 0; t < rows_; ++t) std::copy_n(&buffer_(t + 1, 3), cols_, &out(t, 0));
    return out;
  }
  [[nodiscard]] bool is_intact() const {
    bool intact = true;
    for (index_t t = 0; t < buffer_.rows(); ++t) {
      for (index_t j = 0; j < buffer_.cols(); ++j) {
        const bool is_output = t >= 1 && t <= rows_ && j >= 3 && j < 3 + cols_;
        intact = intact && (is_output || buffer_(t, j) == guard);
      }
    }
    return intact;
  }

private:
  static constexpr float guard = 7;
  matrix<float> buffer_;
  index_t rows_;
  index_t cols_;
};

/// Checks one problem on every instruction set against the reference and the sets against each other.
inline void check_product(const problem& p, index_t tokens, precision mode) {
  const matrix<float> wide = normal_matrix(tokens, p.q.cols() + 3, 4);
  const matrix_view<const float> x(wide.data() + 1, tokens, p.q.cols(), wide.cols(), 1); // unaligned rows
  const reference expected = slow_product(p, x, mode);
  matrix<float> first;
  for (const isa set : available_sets()) {
    CAPTURE(p.q.format_name(), p.q.rows(), p.q.cols(), p.right.rows(), tokens, to_string(mode),
            to_string(set));
    const packed_weights packed = p.pack(set);
    CHECK(packed.instruction_set() == set);
    guarded_output y(tokens, p.q.rows());
    matmul(packed, x, y.view(), {.mode = mode});
    CHECK(worst_ratio(y.view(), expected) <= 1.0);
    CHECK(y.is_intact());
    if (first.size() == 0) first = y.values();
    CHECK(has_same_bits(y.values(), first));
  }
}

} // namespace qlr::test
