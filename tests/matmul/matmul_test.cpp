// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "support.hpp"

using namespace qlr;
using namespace qlr::test;

TEST_CASE("matmul: the kernels of the set that was asked for run", "[matmul]") {
  const problem p = make_problem(make_quantizer("nf4"), 5, 64, 1);
  const matrix<float> x = normal_matrix(1, 64, 4);
  matrix<float> y(1, 5, nan_value);
  for (const isa set : available_sets()) {
    const packed_weights packed = p.pack(set);
    matmul_workspace workspace(packed, 1, precision::exact);
    CHECK(matmul_call<float>(packed, x.view(), y.view(), {}, workspace).instruction_set() == set);
  }
}

TEST_CASE("matmul: a token's result does not depend on other tokens, threads or parts", "[matmul][threads]") {
  const problem p = make_problem(make_quantizer("nf4"), 130, 257, 20);
  const index_t tokens = 201; // more than a chunk
  const matrix<float> x = normal_matrix(tokens, 257, 4);
  for (const isa set : available_sets()) {
    for (const precision mode : all_precisions) {
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

/// True when activations of type T give what their fp32 values give, rounded to T.
template <class T>
bool is_rounding_of_fp32(const packed_weights& packed, const matrix<float>& x) {
  matrix<T> narrow(x.rows(), x.cols());
  matrix<float> widened(x.rows(), x.cols());
  for (index_t i = 0; i < x.size(); ++i) {
    matmul_detail::convert(x.data()[i], narrow.data()[i]);
    widened.data()[i] = to_float(narrow.data()[i]);
  }
  bool is_same_everywhere = true;
  for (const precision mode : all_precisions) {
    matrix<float> expected(x.rows(), packed.rows(), nan_value);
    matmul(packed, std::as_const(widened).view(), expected.view(), {.mode = mode});
    matrix<T> out(x.rows(), packed.rows());
    matmul(packed, std::as_const(narrow).view(), out.view(), {.mode = mode});
    for (index_t i = 0; i < expected.size(); ++i) {
      T rounded;
      matmul_detail::convert(expected.data()[i], rounded);
      is_same_everywhere = is_same_everywhere && out.data()[i] == rounded;
    }
  }
  return is_same_everywhere;
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

    CHECK(is_rounding_of_fp32<bfloat16>(packed, dense));
    CHECK(is_rounding_of_fp32<float16>(packed, dense));
  }
}

TEST_CASE("matmul: zero groups, huge and subnormal activations, NaN and infinity", "[matmul]") {
  problem p = make_problem(make_quantizer("nf4"), 5, 128, 2);
  matrix<float> weight = normal_matrix(5, 128, 1);
  std::fill_n(weight.data(), 64, 0.0F);
  p.q = quantize(std::as_const(weight).view(), make_quantizer("nf4"));
  for (const isa set : available_sets()) {
    const packed_weights packed = p.pack(set);
    for (const precision mode : all_precisions) {
      for (const double unit : {1e30, 1e-30, 1e-42}) {
        CAPTURE(to_string(set), to_string(mode), unit);
        const matrix<float> x = normal_matrix(3, 128, 4, unit);
        matrix<float> y(3, 5, nan_value);
        matmul(packed, x.view(), y.view(), {.mode = mode});
        CHECK(worst_ratio(y.view(), slow_product(p, x.view(), mode)) <= 1.0);
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
