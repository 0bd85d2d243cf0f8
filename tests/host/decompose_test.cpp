// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/decompose.hpp>

#include <support/catch.hpp>
#include <support/decompose.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <string>

using namespace qlr;
using namespace qlr::test;

namespace {

any_quantizer nf4() {
  return make_quantizer("nf4", {16, scale_format{scale_coding::plain, scale_type::fp32}, false});
}

decompose_options loftq(index_t rank) {
  decompose_options options;
  options.rank = rank;
  options.steps = find_preset("loftq").steps;
  options.factors = factor_storage::fp32;
  return options;
}

bool has_same_bits(const matrix<float>& a, const matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && std::equal(a.data(), a.data() + a.size(), b.data());
}

bool has_same_bits(const decompose_result& a, const decompose_result& b) {
  return has_same_bytes(a.best.quantized, b.best.quantized) && has_same_bits(a.best.left, b.best.left) &&
         has_same_bits(a.best.right, b.best.right) && a.relative_error == b.relative_error;
}

} // namespace

TEST_CASE("decompose: Eigen expressions give the result of the plain view", "[host]") {
  const matrix<float> w = weight_like_matrix(21, 40, 1);
  const decompose_options options = loftq(3);
  const decompose_result base = decompose(w.view(), nf4(), options);
  const host::row_major_matrix row_major = host::map(w);
  const Eigen::MatrixXf col_major = row_major;
  const Eigen::MatrixXd doubles = row_major.cast<double>();
  const Eigen::MatrixXf half = 0.5F * col_major;
  Eigen::MatrixXf large = Eigen::MatrixXf::Constant(30, 50, 9.0F);
  large.block(4, 5, 21, 40) = col_major;
  CHECK(has_same_bits(decompose(row_major, nf4(), options), base));
  CHECK(has_same_bits(decompose(col_major, nf4(), options), base));
  CHECK(has_same_bits(decompose(doubles, nf4(), options), base));
  CHECK(has_same_bits(decompose(large.block(4, 5, 21, 40), nf4(), options), base));
  CHECK(has_same_bits(decompose(host::map(w), nf4(), options), base));
  CHECK(has_same_bits(decompose(half + half, nf4(), options), base)); // no memory of its own
  CHECK(large(0, 0) == 9.0F);
  CHECK(large.block(4, 5, 21, 40) == col_major);
}

TEST_CASE("decompose: doubles that do not fit a float are refused", "[host]") {
  Eigen::MatrixXd w = Eigen::MatrixXd::Ones(4, 16);
  w(2, 3) = 1e300;
  CHECK(report_of([&] {
          (void)decompose(w, nf4(), loftq(2));
        }).says(status_code::non_finite, "weight(2, 3) is 1e+300, every element must be finite in float"));
  CHECK(report_of([] {
          (void)decompose(Eigen::MatrixXf(0, 5), nf4(), loftq(0));
        }).says(status_code::invalid_argument, "weight is 0 x 5, it must not be empty"));
}

TEST_CASE("reconstruct: is Q plus the scale times L R", "[host]") {
  const matrix<float> w = weight_like_matrix(21, 40, 2);
  decomposition parts = decompose(w.view(), nf4(), loftq(3)).best;
  for (const float scale : {1.0F, 0.0F, -2.5F}) {
    CAPTURE(scale);
    parts.scale = scale;
    const matrix<float> dense = reconstruct(parts);
    const matrix<float> q = slow_dequantize(parts.quantized);
    double worst = 0;
    for (index_t i = 0; i < 21; ++i) {
      for (index_t j = 0; j < 40; ++j) {
        double expected = static_cast<double>(q(i, j));
        for (index_t k = 0; k < 3; ++k) {
          expected += static_cast<double>(scale) * static_cast<double>(parts.left(i, k)) *
                      static_cast<double>(parts.right(k, j));
        }
        worst = std::max(worst, std::fabs(static_cast<double>(dense(i, j)) - expected));
      }
    }
    CHECK(worst <= 1e-6);
  }
}

TEST_CASE("reconstruct: the bits do not depend on the number of threads", "[host][threads]") {
  const matrix<float> w = weight_like_matrix(150, 700, 3);
  decompose_options options = loftq(4);
  options.steps.iterations = 1;
  const decomposition parts = decompose(w.view(), nf4(), options).best;
  const matrix<float> serial = reconstruct(parts);
  for (const int num_threads : {2, 3}) {
    thread_pool pool(num_threads);
    CHECK(has_same_bits(reconstruct(parts, pool), serial));
  }
}
