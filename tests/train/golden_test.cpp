// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Learned rounding against rounding to nearest and GPTQ, on the golden W (384,512) and X (1024,512).

#include <qlr/core/parallel.hpp>
#include <qlr/decompose/presets.hpp>
#include <qlr/host/covariance.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/train/lr_qat_layer.hpp>
#include <qlr/train/lrq_layer.hpp>
#include <qlr/train/reconstruct_output.hpp>

#include <support/catch.hpp>
#include <support/decompose.hpp>
#include <support/golden.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

constexpr index_t rank = 64;

/// The golden layer, and a root of the covariance of its inputs with the outputs that belong to it.
struct golden_layer {
  matrix<float> weight;      ///< W (m,n)
  matrix<float> inputs;      ///< X^T (n,t)
  matrix<double> covariance; ///< X^T X / t (n,n)
  matrix<float> root;        ///< B (n,n), upper triangular, B^T B the covariance
  matrix<float> target;      ///< B W^T (n,m)
};

/// The loops of the textbook.
matrix<double> upper_cholesky_factor(matrix<double> h) {
  for (index_t k = 0; k < h.rows(); ++k) {
    const double pivot = std::sqrt(h(k, k));
    for (index_t j = 0; j < h.cols(); ++j) h(k, j) = j < k ? 0.0 : h(k, j) / pivot;
    for (index_t i = k + 1; i < h.rows(); ++i) {
      const double factor = h(k, i);
      for (index_t j = i; j < h.cols(); ++j) h(i, j) -= factor * h(k, j);
    }
  }
  return h;
}

matrix<double> covariance_of(const matrix<float>& x) {
  matrix<double> h(x.cols(), x.cols(), 0.0);
  for (index_t t = 0; t < x.rows(); ++t) {
    for (index_t i = 0; i < x.cols(); ++i) {
      const double left = static_cast<double>(x(t, i)) / static_cast<double>(x.rows());
      for (index_t j = 0; j < x.cols(); ++j) h(i, j) += left * static_cast<double>(x(t, j));
    }
  }
  return h;
}

const golden_layer& golden() {
  static const golden_layer layer = [] {
    golden_layer g;
    g.weight = golden_inputs().read_matrix("W");
    const matrix<float> x = golden_inputs().read_matrix("X");
    g.inputs = to_row_major(x.view().transposed());
    g.covariance = covariance_of(x);
    const matrix<double> root = upper_cholesky_factor(g.covariance);
    const index_t n = x.cols();
    g.root = matrix<float>(n, n);
    g.target = matrix<float>(n, g.weight.rows());
    for (index_t i = 0; i < n; ++i) {
      for (index_t j = 0; j < n; ++j) g.root(i, j) = static_cast<float>(root(i, j));
      for (index_t k = 0; k < g.weight.rows(); ++k) {
        double sum = 0;
        for (index_t j = i; j < n; ++j) sum += root(i, j) * static_cast<double>(g.weight(k, j));
        g.target(i, k) = static_cast<float>(sum);
      }
    }
    return g;
  }();
  return layer;
}

/// || X M^T ||_F^2 for the golden X.
double output_energy(const matrix<float>& m) {
  const matrix<float>& x = golden().inputs;
  double energy = 0;
  std::vector<double> row(static_cast<std::size_t>(x.cols()));
  for (index_t i = 0; i < m.rows(); ++i) {
    std::fill(row.begin(), row.end(), 0.0);
    for (index_t j = 0; j < m.cols(); ++j) {
      const auto factor = static_cast<double>(m(i, j));
      for (index_t t = 0; t < x.cols(); ++t)
        row[static_cast<std::size_t>(t)] += factor * static_cast<double>(x(j, t));
    }
    for (const double y : row) energy += y * y;
  }
  return energy;
}

/// || X (W - W_hat)^T ||_F / || X W^T ||_F.
double output_error(const matrix<float>& estimate) {
  static const double whole = output_energy(golden().weight);
  matrix<float> difference = golden().weight;
  for (index_t i = 0; i < difference.size(); ++i) difference.data()[i] -= estimate.data()[i];
  return std::sqrt(output_energy(difference) / whole);
}

any_quantizer integers(int bits, index_t group_size, bool searches_scales) {
  return make_quantizer(sentence("uint", bits),
                        {.group_size = group_size,
                         .scales = scale_format{scale_coding::plain, scale_type::fp32},
                         .scale_search = searches_scales});
}

/// Error feedback on the scales that the quantizer finds.
quantized_matrix gptq(const any_quantizer& quantizer) {
  decompose_options options;
  options.rank = 0;
  options.steps = find_preset("gptq").steps;
  const metric weights = make_covariance_metric(matrix<double>(golden().covariance), {.damping = 0});
  return decompose(golden().weight.view(), quantizer, options, weights, {}).best.quantized;
}

/// Trains a layer and returns the output error of its plain codes on X itself.
template <class Layer>
double fitted_error(Layer layer, double rate, index_t num_steps) {
  thread_pool pool;
  reconstruct_options options;
  options.rate = {.highest = rate, .num_steps = num_steps, .decay = rate_decay::cosine};
  const reconstruct_result result =
      reconstruct_output(layer, golden().root.view(), golden().target.view(), options, pool);
  const double found = output_error(dequantize(layer.to_quantized()));
  // What was fitted is a sum of 2e5 squares in float, of differences of outputs ten times as large.
  CHECK(is_near(found, result.best_error, 1e-3 * found));
  CHECK(result.best_error < result.first_error);
  return found;
}

/// The scales learn faster than by default, as there are a hundred steps instead of ten thousand.
lr_qat_options shifts(frozen_storage storage) {
  return {
      .rank = rank, .alpha = static_cast<double>(rank), .start = storage, .scale_learning_rate_factor = 0.1};
}

/// Bits and group sizes.
auto all_grids() {
  return Catch::Generators::table<int, index_t>(
      {{3, group_per_row}, {3, index_t{64}}, {4, group_per_row}, {4, index_t{64}}});
}

} // namespace

TEST_CASE("learned rounding: the output error is below that of rounding and of GPTQ",
          "[train][golden][slow]") {
  if (!has_golden_data()) return;
  constexpr index_t num_steps = 200;
  constexpr double rate = 2e-2;
  const auto [bits, group_size] = GENERATE(all_grids());
  CAPTURE(bits, group_size);
  const matrix_view<const float> weight = golden().weight.view();
  const any_quantizer plain = integers(bits, group_size, false);
  const quantized_matrix start = integers(bits, group_size, true).quantize(weight, {}, {});
  const double nearest = output_error(dequantize(plain.quantize(weight, {}, {})));
  const double searched = output_error(dequantize(start));
  const double feedback = output_error(dequantize(gptq(plain)));
  const double lrq = fitted_error(lrq_layer<float>(weight, start, {.rank = rank}), rate, num_steps);
  const double exact =
      fitted_error(lr_qat_layer<float>(weight, start, shifts(frozen_storage::fp32)), rate, num_steps);
  const double coarse =
      fitted_error(lr_qat_layer<float>(weight, start, shifts(frozen_storage::fixed8)), rate, num_steps);
  std::printf("uint%d, group %d: nearest %.4f, scale search %.4f, gptq %.4f, lrq %.4f, lr-qat %.4f, from "
              "fixed8 %.4f\n",
              bits, static_cast<int>(group_size), nearest, searched, feedback, lrq, exact, coarse);
  for (const double found : {lrq, exact, coarse}) {
    CHECK(found < 0.9 * feedback);
    CHECK(found < 0.9 * searched);
    CHECK(found < 0.7 * nearest);
  }
}

TEST_CASE("lr_qat_layer: lowers the output error of GPTQ with searched scales", "[train][golden][slow]") {
  if (!has_golden_data()) return;
  const auto [bits, group_size] = GENERATE(all_grids());
  CAPTURE(bits, group_size);
  const quantized_matrix start = gptq(integers(bits, group_size, true));
  const matrix<float> weight = dequantize(start);
  const double first = output_error(weight);
  const double found =
      fitted_error(lr_qat_layer<float>(weight.view(), start, shifts(frozen_storage::fixed8)), 3e-4, 60);
  std::printf("uint%d, group %d: gptq with searched scales %.4f, lr-qat %.4f\n", bits,
              static_cast<int>(group_size), first, found);
  CHECK(found < first);
}
