// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// What the mathematics says must be equal, though it is computed in different ways.
#include <qlr/host/covariance.hpp>

#include <decompose/support.hpp>
#include <support/catch.hpp>

#include <cmath>
#include <optional>
#include <string>
#include <utility>

using namespace qlr;
using namespace qlr::test;

namespace {

/// X^T X / t for correlated activations with a few loud channels.
matrix<double> activation_covariance(index_t tokens, index_t cols, std::uint64_t seed) {
  const matrix<float> hidden = normal_matrix(tokens, cols, seed);
  const matrix<float> mixing =
      normal_matrix(cols, cols, seed + 1, 0.3 / std::sqrt(static_cast<double>(cols)));
  matrix<double> x(tokens, cols, 0.0);
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t j = 0; j < cols; ++j) {
      x(t, j) = static_cast<double>(hidden(t, j));
      for (index_t i = 0; i < cols; ++i)
        x(t, j) += static_cast<double>(hidden(t, i)) * static_cast<double>(mixing(i, j));
      if (j % 17 == 3) x(t, j) *= 10.0;
    }
  }
  matrix<double> h(cols, cols, 0.0);
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t i = 0; i < cols; ++i) {
      for (index_t j = 0; j < cols; ++j) h(i, j) += x(t, i) * x(t, j) / static_cast<double>(tokens);
    }
  }
  return h;
}

matrix<float> low_rank_part(const decomposition& parts) {
  matrix<float> product(parts.rows(), parts.cols());
  for (index_t i = 0; i < parts.rows(); ++i) {
    for (index_t j = 0; j < parts.cols(); ++j) {
      double sum = 0;
      for (index_t k = 0; k < parts.rank(); ++k)
        sum += static_cast<double>(parts.left(i, k)) * static_cast<double>(parts.right(k, j));
      product(i, j) = static_cast<float>(sum);
    }
  }
  return product;
}

/// || a - b || / || a ||.
double distance(const matrix<float>& a, const matrix<float>& b) {
  return std::sqrt(squared_error(a, b) / squared_error(a, matrix<float>(a.rows(), a.cols(), 0.0F)));
}

decompose_result run(std::string_view method, const matrix<float>& w, const metric& weights = {},
                     std::optional<int> iterations = {}, std::optional<index_t> preserved = {}) {
  decompose_options options = options_of(method, 6, factor_storage::fp32, svd_method::exact);
  options.steps.preserved_rank = preserved;
  if (iterations) options.steps.iterations = *iterations;
  return split(w.view(), small_groups("nf3"), options, weights);
}

// Singular values in single precision: relative errors of products are a few 1e-6 with the gaps of these
// matrices.
constexpr double rounding = 1e-5;

} // namespace

TEST_CASE("identities: qera-exact and eora find the same product, whatever root of the covariance is taken",
          "[decompose][property]") {
  const matrix<float> w = realistic_matrix(40, 72, 21);
  for (const index_t tokens : {index_t{300}, index_t{50}}) { // of full rank and not
    const matrix<double> h = activation_covariance(tokens, 72, 5);
    const metric eigen = make_covariance_metric(h);
    const metric symmetric = make_covariance_metric(h, {.form = root_form::symmetric});
    const decomposition exact = run("qera-exact", w, symmetric).best;
    const decomposition eora = run("eora", w, eigen).best;
    CHECK(has_same_bytes(exact.quantized, eora.quantized));
    CHECK(distance(low_rank_part(exact), low_rank_part(eora)) < 10 * rounding);
    CHECK(distance(exact.left, eora.left) > 0.01); // the factors differ
  }
}

TEST_CASE("identities: the product is that of the whitened SVD", "[decompose]") {
  // L R = SVD_r(E S) S^-1 for the symmetric root S: both sides times S.
  const matrix<float> w = realistic_matrix(30, 40, 22);
  const matrix<double> h = activation_covariance(400, 40, 6);
  const metric weights = make_covariance_metric(h, {.form = root_form::symmetric});
  const decompose_result result = run("qera-exact", w, weights);
  const matrix<float> q = slow_dequantize(result.best.quantized);
  const matrix<float>& root = weights.covariance->root;
  const auto times_root = [&](const matrix<float>& a) {
    matrix<float> out(a.rows(), a.cols());
    for (index_t i = 0; i < a.rows(); ++i) {
      for (index_t j = 0; j < a.cols(); ++j) {
        double sum = 0;
        for (index_t l = 0; l < a.cols(); ++l)
          sum += static_cast<double>(a(i, l)) * static_cast<double>(root(l, j));
        out(i, j) = static_cast<float>(sum);
      }
    }
    return out;
  };
  matrix<float> error(30, 40);
  for (index_t i = 0; i < error.size(); ++i) error.data()[i] = w.data()[i] - q.data()[i];
  const matrix<float> whitened = times_root(error);
  // The plain method on the whitened error, with a Q of zeros as good as none: rank-6 SVD.
  decompose_options options = options_of("zeroquant-v2", 6, factor_storage::fp32, svd_method::exact);
  options.form = decomposition_form::fixed_q;
  const matrix<float> zeros(30, 40, 0.0F);
  const quantized_matrix zero = quantize(zeros.view(), small_groups("nf3"));
  options.given = &zero;
  const matrix<float> best = low_rank_part(split(whitened.view(), small_groups("nf3"), options).best);
  CHECK(distance(best, times_root(low_rank_part(result.best))) < rounding);
}

TEST_CASE(
    "identities: lqer, zeroquant-v2, one iteration of loftq and srr without a metric that keeps nothing",
    "[decompose]") {
  const matrix<float> w = realistic_matrix(40, 72, 23);
  const decomposition lorc = run("zeroquant-v2", w).best;
  for (const auto& [method, iterations] :
       {std::pair<std::string_view, std::optional<int>>{"lqer", {}}, {"loftq", 1}, {"qera-exact", {}}}) {
    CAPTURE(std::string(method));
    const decomposition other = run(method, w, {}, iterations).best;
    CHECK(has_same_bytes(lorc.quantized, other.quantized));
    CHECK(distance(low_rank_part(lorc), low_rank_part(other)) < rounding);
  }
  const decomposition srr = run("srr", w, {}, {}, 0).best;
  CHECK(has_same_bytes(lorc.quantized, srr.quantized));
  CHECK(distance(low_rank_part(lorc), low_rank_part(srr)) < rounding);
}

TEST_CASE("identities: lq-lora with one iteration is the best rank-r approximation, then Q (QPiSSA)",
          "[decompose]") {
  const matrix<float> w = realistic_matrix(40, 72, 24);
  const decomposition lq_lora = run("lq-lora", w, {}, 1).best;
  // SVD_r(W) by the one-shot method on a Q of zeros, then plain quantization of the rest.
  decompose_options options = options_of("zeroquant-v2", 6, factor_storage::fp32, svd_method::exact);
  options.form = decomposition_form::fixed_q;
  const matrix<float> zeros(40, 72, 0.0F);
  const quantized_matrix zero = quantize(zeros.view(), small_groups("nf3"));
  options.given = &zero;
  const matrix<float> principal = low_rank_part(split(w.view(), small_groups("nf3"), options).best);
  CHECK(distance(principal, low_rank_part(lq_lora)) < rounding);
  const decomposition srr = run("srr", w, {}, {}, 6).best;
  CHECK(distance(principal, low_rank_part(srr)) < rounding);
  CHECK(distance(slow_dequantize(lq_lora.quantized), slow_dequantize(srr.quantized)) <
        1e-3); // a code at a tie
}

TEST_CASE("identities: srr keeps every number of directions that it is asked to", "[decompose]") {
  const matrix<float> w = realistic_matrix(40, 72, 25);
  const metric weights = make_covariance_metric(activation_covariance(200, 72, 9));
  double least = 2;
  for (index_t k = 0; k <= 6; ++k) {
    const decompose_result result = run("srr", w, weights, {}, k);
    CHECK(result.best.rank() == 6);
    CHECK(std::string(defect_of(w, result, weights)).empty());
    least = std::min(least, result.weighted_error);
  }
  // The criterion picks before it sees Q: near the best of all, never the worst by far.
  CHECK(run("srr", w, weights).weighted_error < 1.25 * least);
}
