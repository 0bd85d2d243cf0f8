// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/matmul.hpp>

#include <qlr/quant/formats.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/matmul.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr precision all_modes[] = {precision::exact, precision::bf16, precision::int8};

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
matrix<float> factor(index_t rows, index_t cols, std::uint64_t seed) {
  matrix<float> out = normal_matrix(rows, cols, seed);
  for (index_t i = 0; i < out.size(); ++i) out.data()[i] = to_float(to_float16(out.data()[i]));
  return out;
}

problem make_problem(const any_quantizer& quantizer, index_t rows, index_t cols, index_t rank) {
  const matrix<float> weight = normal_matrix(rows, cols, 1);
  return {quantize(weight.view(), quantizer), factor(rows, rank, 2), factor(rank, cols, 3)};
}

std::vector<isa> available_sets() {
  std::vector<isa> sets;
  std::copy_if(all_isas.begin(), all_isas.end(), std::back_inserter(sets), is_available);
  return sets;
}

/// Results in double, and the largest error that options.hpp allows for each.
struct reference {
  std::vector<double> values;
  std::vector<double> bounds;
};

/// The largest |x| of the at most 64 columns of the same group around column j; never below the block's own.
double block_maximum(const quantized_layout& layout, const float* x, index_t j) {
  const index_t group = j / layout.group_cols() * layout.group_cols();
  const index_t first = std::max(group, j - 63);
  const index_t last = std::min({layout.cols, group + layout.group_cols(), j + 64});
  double largest = 0;
  for (index_t i = first; i < last; ++i) largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
  return largest;
}

reference slow_product(const problem& p, const matrix<float>& x, precision mode) {
  const quantized_layout& layout = p.q.layout();
  const matrix<float> decoded = slow_dequantize(p.q);
  double level = 0;
  for (const float l : p.q.levels()) level = std::max(level, std::fabs(static_cast<double>(l)));
  const double operand_error = mode == precision::int8   ? 1.0 / 250
                               : mode == precision::bf16 ? 1.0 / 8000
                                                         : 0.0;
  const double rounding = 0x1p-24 * static_cast<double>(layout.cols + p.right.rows() + 8);
  reference out;
  for (index_t t = 0; t < x.rows(); ++t) {
    std::vector<double> projected(static_cast<std::size_t>(p.right.rows()));
    std::vector<double> projected_size(projected.size());
    for (index_t k = 0; k < p.right.rows(); ++k) {
      for (index_t j = 0; j < layout.cols; ++j) {
        const double product = static_cast<double>(p.right(k, j)) * static_cast<double>(x(t, j));
        projected[static_cast<std::size_t>(k)] += static_cast<double>(p.scale) * product;
        projected_size[static_cast<std::size_t>(k)] += std::fabs(static_cast<double>(p.scale) * product);
      }
    }
    for (index_t i = 0; i < layout.rows; ++i) {
      double value = 0;
      double bound = 1e-37; // rounding of subnormal numbers
      for (index_t j = 0; j < layout.cols; ++j) {
        const double w = static_cast<double>(decoded(i, j));
        const double activation = static_cast<double>(x(t, j));
        const slow_block block = block_of(p.q, i, j);
        const double scale = std::fabs(static_cast<double>(block.scale));
        const double size = std::fabs(w) + 2 * scale * std::fabs(static_cast<double>(block.zero));
        value += w * activation;
        bound += rounding * std::fabs(activation) * size +
                 operand_error * block_maximum(layout, &x(t, 0), j) * (std::fabs(w) + scale * level);
      }
      for (index_t k = 0; k < p.right.rows(); ++k) {
        const double l = static_cast<double>(p.left(i, k));
        value += l * projected[static_cast<std::size_t>(k)];
        bound += 2 * rounding * std::fabs(l) * projected_size[static_cast<std::size_t>(k)];
      }
      out.values.push_back(value);
      out.bounds.push_back(bound + 0x1p-23 * std::fabs(value));
    }
  }
  return out;
}

/// The largest error over its bound; infinite when an output is not finite.
double worst_ratio(const matrix<float>& y, const reference& expected) {
  double worst = 0;
  for (index_t i = 0; i < y.size(); ++i) {
    const auto index = static_cast<std::size_t>(i);
    const double ratio =
        std::fabs(static_cast<double>(y.data()[i]) - expected.values[index]) / expected.bounds[index];
    worst = std::isfinite(ratio) ? std::max(worst, ratio) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

bool has_same_bits(const matrix<float>& a, const matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::equal(a.data(), a.data() + a.size(), b.data(), is_same);
}

/// Checks one problem on every instruction set against the reference and the sets against each other.
void check_product(const problem& p, index_t tokens, precision mode) {
  const matrix<float> x = normal_matrix(tokens, p.q.cols(), 4);
  const reference expected = slow_product(p, x, mode);
  matrix<float> first;
  for (const isa set : available_sets()) {
    CAPTURE(p.q.format_name(), p.q.rows(), p.q.cols(), p.right.rows(), tokens, to_string(mode),
            to_string(set));
    const packed_weights packed = p.pack(set);
    CHECK(packed.instruction_set() == set);
    matrix<float> y(tokens, p.q.rows(), nan_value);
    matmul(packed, x.view(), y.view(), {.mode = mode});
    CHECK(worst_ratio(y, expected) <= 1.0);
    if (first.size() == 0) first = y;
    CHECK(has_same_bits(y, first));
  }
}

} // namespace

TEST_CASE("matmul: every format, precision and instruction set keeps its error bound", "[matmul][property]") {
  for (const format_description& format : named_formats) {
    const any_quantizer quantizer = make_quantizer(format.name);
    for (const precision mode : all_modes) {
      check_product(make_problem(quantizer, 70, 200, 7), 5, mode);
      check_product(make_problem(quantizer, 3, 65, 0), 1, mode);
    }
  }
}

TEST_CASE("matmul: every shape around the tiles is right", "[matmul][property]") {
  struct shape {
    index_t rows, cols, rank, tokens;
  };
  const shape shapes[] = {{1, 1, 0, 1},      {1, 1, 1, 2},      {2, 3, 1, 3},    {15, 16, 7, 17},
                          {16, 15, 0, 16},   {17, 63, 16, 15},  {63, 17, 1, 2},  {64, 64, 64, 1},
                          {65, 127, 7, 63},  {127, 65, 16, 65}, {3, 500, 1, 64}, {500, 2, 2, 3},
                          {128, 129, 16, 4}, {1, 500, 1, 193},  {129, 1, 1, 5}};
  for (const shape& s : shapes) {
    for (const std::string_view name : {"nf4", "uint4", "int2", "int8"}) {
      for (const index_t group : {index_t{16}, index_t{17}, index_t{100}, group_per_row, group_per_tensor}) {
        if (group > s.cols) continue;
        const any_quantizer quantizer = make_quantizer(name, {.group_size = group});
        for (const precision mode : all_modes)
          check_product(make_problem(quantizer, s.rows, s.cols, s.rank), s.tokens, mode);
      }
    }
  }
}

TEST_CASE("prepack: unpack returns the same codes, scales, zero points and factors", "[matmul][property]") {
  for (const format_description& format : named_formats) {
    const problem p = make_problem(make_quantizer(format.name), 37, 150, 5);
    for (const isa set : available_sets()) {
      CAPTURE(format.name, to_string(set));
      const packed_weights packed = p.pack(set);
      CHECK(has_same_bytes(packed.unpack(p.q.format_name()), p.q));
      CHECK(has_same_bits(packed.low_rank().left(), p.left));
      CHECK(has_same_bits(packed.low_rank().right(), p.right));
    }
  }
  for (const std::string_view scales : {"dq", "dq-bnb", "bf16", "fp32"}) {
    const problem p = make_problem(
        make_quantizer("nf4", {.group_size = 32, .scales = parse_scale_format(scales)}), 9, 70, 2);
    CHECK(has_same_bytes(p.pack(isa::scalar).unpack("nf4"), p.q));
    check_product(p, 3, precision::exact);
  }
}

TEST_CASE("matmul: a token's result does not depend on other tokens, threads or parts", "[matmul][threads]") {
  const problem p = make_problem(make_quantizer("nf4"), 130, 257, 20);
  const index_t tokens = 201; // more than a chunk
  const matrix<float> x = normal_matrix(tokens, 257, 4);
  for (const isa set : available_sets()) {
    for (const precision mode : all_modes) {
      CAPTURE(to_string(set), to_string(mode));
      const packed_weights packed = p.pack(set);
      matrix<float> together(tokens, 130, nan_value);
      matmul(packed, x.view(), together.view(), {.mode = mode});
      matrix<float> alone(tokens, 130, nan_value);
      for (index_t t = 0; t < tokens; ++t) {
        matmul(packed, x.view().middle_rows(t, 1), alone.view().middle_rows(t, 1), {.mode = mode});
      }
      CHECK(has_same_bits(together, alone));
      matrix<float> threaded(tokens, 130, nan_value);
      thread_pool pool(3);
      matmul(packed, x.view(), threaded.view(), {.mode = mode}, pool);
      CHECK(has_same_bits(together, threaded));
      matrix<float> parted(tokens, 130, nan_value);
      matmul_workspace workspace(packed, tokens, mode);
      const matmul_call<float> call(packed, x.view(), parted.view(), {.mode = mode}, workspace);
      for (int phase = 0; phase < call.num_phases; ++phase) {
        for (index_t part = 0; part < 5; ++part) call.run(phase, part, 5);
      }
      CHECK(has_same_bits(together, parted));
    }
  }
}

TEST_CASE("matmul: strides, bias and 16-bit activations", "[matmul]") {
  const problem p = make_problem(make_quantizer("int4"), 67, 90, 3);
  const matrix<float> wide = normal_matrix(4, 200, 4);
  const matrix_view<const float> x(wide.data() + 1, 4, 90, 200, 2); // unaligned, every second column
  const matrix<float> dense = to_row_major(x);
  std::vector<float> bias(67);
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i);
  for (const isa set : available_sets()) {
    CAPTURE(to_string(set));
    const packed_weights packed = p.pack(set);
    matrix<float> expected(4, 67, nan_value);
    matmul(packed, dense.view(), expected.view());
    matrix<float> out(4, 300, 7.0F); // Y is columns 5, 7, 9 ...; everything else must stay
    matmul(packed, x, matrix_view<float>(out.data() + 5, 4, 67, 300, 2), {.bias = bias.data()});
    bool is_right = true;
    for (index_t t = 0; t < 4; ++t) {
      for (index_t j = 0; j < 300; ++j) {
        const bool is_output = j >= 5 && j % 2 == 1 && (j - 5) / 2 < 67;
        const float y =
            is_output ? expected(t, (j - 5) / 2) + bias[static_cast<std::size_t>((j - 5) / 2)] : 7.0F;
        is_right = is_right && out(t, j) == y;
      }
    }
    CHECK(is_right);

    matrix<bfloat16> narrow(4, 90);
    matrix<float> rounded(4, 90);
    for (index_t i = 0; i < dense.size(); ++i) {
      narrow.data()[i] = to_bfloat16(dense.data()[i]);
      rounded.data()[i] = to_float(narrow.data()[i]);
    }
    matmul(packed, rounded.view(), expected.view());
    matrix<bfloat16> narrow_out(4, 67);
    matmul(packed, narrow.view(), narrow_out.view());
    bool is_rounded = true;
    for (index_t i = 0; i < expected.size(); ++i) {
      is_rounded = is_rounded && narrow_out.data()[i] == to_bfloat16(expected.data()[i]);
    }
    CHECK(is_rounded);
  }
}

TEST_CASE("matmul: zero groups, huge and subnormal activations, NaN and infinity", "[matmul]") {
  problem p = make_problem(make_quantizer("nf4"), 5, 128, 2);
  matrix<float> weight = normal_matrix(5, 128, 1);
  std::fill_n(weight.data(), 64, 0.0F);
  p.q = quantize(std::as_const(weight).view(), make_quantizer("nf4"));
  for (const isa set : available_sets()) {
    const packed_weights packed = p.pack(set);
    for (const precision mode : all_modes) {
      for (const double unit : {1e30, 1e-30, 1e-42}) {
        CAPTURE(to_string(set), to_string(mode), unit);
        const matrix<float> x = normal_matrix(3, 128, 4, unit);
        matrix<float> y(3, 5, nan_value);
        matmul(packed, x.view(), y.view(), {.mode = mode});
        CHECK(worst_ratio(y, slow_product(p, x, mode)) <= 1.0);
      }
      for (const float poison : {nan_value, std::numeric_limits<float>::infinity()}) {
        matrix<float> x = normal_matrix(3, 128, 4);
        x(1, 100) = poison;
        matrix<float> y(3, 5, 0.0F);
        matmul(packed, x.view(), y.view(), {.mode = mode});
        for (index_t i = 0; i < 5; ++i)
          CHECK((is_finite(y(0, i)) && !is_finite(y(1, i)) && is_finite(y(2, i))));
      }
    }
  }
}
