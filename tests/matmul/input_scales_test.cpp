// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "support.hpp"

#include <qlr/decompose/reconstruct.hpp>
#include <qlr/decompose/result.hpp>

#include <string_view>

using namespace qlr;
using namespace qlr::test;

namespace {

std::vector<float> scales_for(index_t cols) {
  random_source random(5);
  std::vector<float> scales(static_cast<std::size_t>(cols));
  for (float& scale : scales) scale = static_cast<float>(std::exp(1.5 * random.normal()));
  return scales;
}

/// The product of the reference for inputs divided by the scales, plus that of L R for inputs as they are.
reference slow_smoothed_product(const problem& p, matrix_view<const float> x,
                                const std::vector<float>& scales, precision mode) {
  matrix<float> smooth(x.rows(), x.cols());
  for (index_t t = 0; t < x.rows(); ++t) {
    for (index_t j = 0; j < x.cols(); ++j) smooth(t, j) = x(t, j) / scales[static_cast<std::size_t>(j)];
  }
  const problem q_only{p.q, matrix<float>(p.q.rows(), 0), matrix<float>(0, p.q.cols()), p.scale};
  reference out = slow_product(q_only, std::as_const(smooth).view(), mode);
  // Two roundings of x (1 / scale) against the one above.
  const matrix<float> decoded = slow_dequantize(p.q);
  const auto [projected, projected_size] = slow_projection(p, x);
  const double rounding = 0x1p-24 * static_cast<double>(p.q.cols() + p.right.rows() + 8);
  for (index_t t = 0; t < x.rows(); ++t) {
    for (index_t i = 0; i < p.q.rows(); ++i) {
      for (index_t j = 0; j < x.cols(); ++j)
        out.bounds(t, i) +=
            4 * 0x1p-24 * std::fabs(static_cast<double>(decoded(i, j)) * static_cast<double>(smooth(t, j)));
      for (index_t k = 0; k < p.right.rows(); ++k) {
        const auto l = static_cast<double>(p.left(i, k));
        out.values(t, i) += l * projected(t, k);
        out.bounds(t, i) += 2 * rounding * std::fabs(l) * projected_size(t, k);
      }
      out.bounds(t, i) += 0x1p-23 * std::fabs(out.values(t, i));
    }
  }
  return out;
}

decomposition to_decomposition(const problem& p, const std::vector<float>& scales) {
  return {p.q, p.left, p.right, factor_storage::fp16, p.scale, scales};
}

void check_smoothed(const problem& p, index_t tokens, precision mode) {
  const std::vector<float> scales = scales_for(p.q.cols());
  const matrix<float> wide = normal_matrix(tokens, p.q.cols() + 3, 4);
  const matrix_view<const float> x(wide.data() + 1, tokens, p.q.cols(), wide.cols(), 1); // unaligned rows
  const reference expected = slow_smoothed_product(p, x, scales, mode);
  const decomposition parts = to_decomposition(p, scales);
  matrix<float> first;
  for (const isa set : available_sets()) {
    CAPTURE(p.q.format_name(), p.q.rows(), p.q.cols(), p.right.rows(), tokens, to_string(mode),
            to_string(set));
    const packed_weights packed = prepack(parts, set);
    guarded_output y(tokens, p.q.rows());
    matmul(packed, x, y.view(), {.mode = mode});
    CHECK(worst_ratio(y.view(), expected) <= 1.0);
    CHECK(y.is_intact());
    if (first.size() == 0) first = y.values();
    CHECK(has_same_bits(y.values(), first));
  }
}

} // namespace

TEST_CASE("input scales: every format, precision and instruction set keeps its error bound",
          "[matmul][property]") {
  for (const std::string_view name :
       {"nf4", "uint4", "int2", "nf3", "int8", "uint8", "q4_0", "nvfp4", "sign"}) {
    const any_quantizer quantizer = make_quantizer(name);
    for (const precision mode : all_precisions) {
      check_smoothed(make_problem(quantizer, 70, 200, 7), 5, mode);
      check_smoothed(make_problem(quantizer, 3, 65, 0), 1, mode);
      check_smoothed(make_problem(quantizer, 1, 1, 1), 2, mode);
      check_smoothed(make_problem(quantizer, 65, 127, 16), 17, mode);
    }
  }
}

TEST_CASE("input scales: ones change no bit", "[matmul]") {
  const problem p = make_problem(make_quantizer("nf4"), 33, 130, 4);
  const matrix<float> x = normal_matrix(6, 130, 6);
  const packed_weights plain = p.pack(default_isa());
  const packed_weights ones = prepack(to_decomposition(p, std::vector<float>(130, 1.0F)), default_isa());
  for (const precision mode : all_precisions) {
    matrix<float> a(6, 33, nan_value);
    matrix<float> b(6, 33, nan_value);
    matmul(plain, x.view(), a.view(), {.mode = mode});
    matmul(ones, x.view(), b.view(), {.mode = mode});
    CHECK(has_same_bits(a, b));
  }
}

TEST_CASE("input scales: the product agrees with the reconstruction", "[matmul]") {
  const problem p = make_problem(make_quantizer("int4"), 20, 100, 3);
  const decomposition parts = to_decomposition(p, scales_for(100));
  const matrix<float> dense = reconstruct(parts);
  const matrix<float> x = normal_matrix(4, 100, 7);
  matrix<float> y(4, 20, nan_value);
  matmul(prepack(parts), x.view(), y.view(), {.mode = precision::exact});
  for (index_t t = 0; t < 4; ++t) {
    for (index_t i = 0; i < 20; ++i) {
      double expected = 0;
      double size = 0;
      for (index_t j = 0; j < 100; ++j) {
        const double term = static_cast<double>(x(t, j)) * static_cast<double>(dense(i, j));
        expected += term;
        size += std::fabs(term);
      }
      CHECK(is_near(static_cast<double>(y(t, i)), expected, 1e-5 * size)); // a hundred roundings in float
    }
  }
}

TEST_CASE("input scales: impossible ones are refused", "[matmul]") {
  const problem p = make_problem(make_quantizer("nf4"), 5, 20, 2);
  const auto refusal = [&](const std::vector<float>& scales) {
    return report_of([&] { (void)prepack(to_decomposition(p, scales)); });
  };
  CHECK(refusal(std::vector<float>(19, 1.0F))
            .says(status_code::shape_mismatch, "input_scales has 19 entries, Q is 5 x 20"));
  for (const float bad : {nan_value, std::numeric_limits<float>::infinity(), 0.0F, -1.0F, 1e-45F}) {
    std::vector<float> scales(20, 1.0F);
    scales[19] = bad;
    CHECK(refusal(scales).says(status_code::invalid_argument, "each must be finite and positive"));
  }
}
