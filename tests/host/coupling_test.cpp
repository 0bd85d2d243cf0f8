// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/coupled_rounding.hpp>
#include <qlr/host/coupling.hpp>

#include <host/feedback_oracles.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr column_order all_orders[] = {column_order::ascending, column_order::descending,
                                       column_order::importance};

any_quantizer groups_of(std::string_view format, index_t size) {
  return make_quantizer(format, {size, scale_format{scale_coding::plain, scale_type::fp32}, false});
}

/// How many elements were compared; a row counts up to its first unclear target.
struct agreement {
  index_t compared = 0;
  index_t differing = 0;
};

agreement compare_codes(const quantized_matrix& q, const slow_codes& expected,
                        const std::vector<index_t>& order) {
  agreement result;
  for (index_t i = 0; i < q.rows(); ++i) {
    for (index_t j = 0; j < q.cols(); ++j) {
      const index_t col = order[static_cast<std::size_t>(j)];
      if (!expected.is_clear(i, col)) break; // what follows may differ too
      ++result.compared;
      if (code_of(q, i, col) != expected.codes(i, col)) ++result.differing;
    }
  }
  return result;
}

/// The library's codes against GPTQ's, and that most of them could be compared.
void check_gptq(const any_quantizer& quantizer, const matrix<float>& w, const matrix<double>& h,
                const matrix<float>& right, const feedback_options& options) {
  CAPTURE(quantizer.name(), w.rows(), w.cols(), static_cast<int>(options.order), options.damping);
  const input_covariance covariance{matrix<double>(h), {}, 0, 0, 0}; // no root is needed here
  const quantized_matrix q = feed_back(quantizer, w, covariance, right, options);
  const matrix<double> known = right.rows() > 0 ? slow_downdate(h, right) : matrix<double>(h);
  const std::vector<index_t> order = slow_order(known, options.order);
  const slow_codes expected =
      slow_gptq(quantizer, quantizer.fit_scales(w.view(), {}, {}), w,
                damped(matrix<double>(known), options.damping * mean_of_diagonal(known)), order);
  const agreement found = compare_codes(q, expected, order);
  CHECK(found.differing == 0);
  CHECK(found.compared >= w.size() * 7 / 10);
}

/// Orthonormal eigenvectors of the r largest eigenvalues, in rows.
std::pair<matrix<double>, std::vector<double>> leading_eigenvectors(const matrix<double>& h, index_t rank) {
  const host::detail::symmetric_eigen eigen = host::detail::eigendecompose(h);
  matrix<double> vectors(rank, h.rows());
  std::vector<double> values;
  for (index_t k = 0; k < rank; ++k) {
    values.push_back(eigen.values(h.rows() - 1 - k));
    for (index_t j = 0; j < h.rows(); ++j) vectors(k, j) = eigen.vectors(j, h.rows() - 1 - k);
  }
  return {std::move(vectors), std::move(values)};
}

matrix<float> to_float_matrix(const matrix<double>& x) {
  matrix<float> out(x.rows(), x.cols());
  std::transform(x.data(), x.data() + x.size(), out.data(), [](double v) { return static_cast<float>(v); });
  return out;
}

const matrix<float> no_rows(index_t cols) {
  return {0, cols};
}

} // namespace

TEST_CASE("feedback: GPTQ's codes in every format and order", "[host][property]") {
  const matrix<float> w = weight_like_matrix(40, 48, 1);
  const matrix<double> h = slow_covariance(correlated_inputs(100, 48, 2));
  for (const std::string_view format : {"int2", "int4", "int8", "uint2", "uint4", "nf4", "sign", "mxint3",
                                        "mxfp4", "nvfp4", "q4_0", "minmax2"}) {
    for (const column_order order : all_orders)
      check_gptq(make_quantizer(format), w, h, no_rows(48), {.order = order});
  }
}

TEST_CASE("feedback: GPTQ's codes around the sizes of the blocks", "[host][property]") {
  for (const index_t cols : {index_t{1}, index_t{63}, index_t{64}, index_t{65}, index_t{130}}) {
    const matrix<double> h = slow_covariance(correlated_inputs(2 * cols + 10, cols, 3));
    for (const index_t rows : {index_t{1}, index_t{63}, index_t{64}, index_t{65}, index_t{130}}) {
      const matrix<float> w = weight_like_matrix(rows, cols, 4);
      const column_order order = all_orders[static_cast<std::size_t>((rows + cols) % 3)];
      // Few targets are near a threshold of 4 levels, so that long rows can be compared to their end.
      check_gptq(groups_of("uint2", std::min<index_t>(cols, 32)), w, h, no_rows(cols), {.order = order});
    }
  }
}

TEST_CASE("feedback: GPTQ's codes for every group size and damping", "[host][property]") {
  const matrix<float> w = weight_like_matrix(30, 45, 5);
  const matrix<double> h = slow_covariance(correlated_inputs(90, 45, 6));
  for (const index_t group : {index_t{1}, index_t{7}, index_t{45}, group_per_row, group_per_tensor}) {
    for (const column_order order : all_orders)
      check_gptq(groups_of("int3", group), w, h, no_rows(45), {.order = order});
  }
  for (const double damping : {0.0, 1e-4, 1.0, 1e3})
    check_gptq(groups_of("uint3", 15), w, h, no_rows(45), {.damping = damping});
}

TEST_CASE("feedback: it lowers the output error", "[host]") {
  const matrix<float> w = weight_like_matrix(50, 64, 7);
  const matrix<double> h = slow_covariance(correlated_inputs(200, 64, 8));
  const input_covariance covariance{matrix<double>(h), {}, 0, 0, 0};
  for (const std::string_view format : {"int2", "uint3", "nf4"}) {
    const any_quantizer quantizer = groups_of(format, 16);
    const quantized_matrix nearest = quantizer.quantize(w.view(), {}, {});
    for (const column_order order : all_orders) {
      const quantized_matrix q = feed_back(quantizer, w, covariance, no_rows(64), {.order = order});
      CHECK(slow_energy(slow_difference(w, dequantize(q)), h) <
            0.8 * slow_energy(slow_difference(w, dequantize(nearest)), h));
    }
  }
}

TEST_CASE("feedback: uncorrelated inputs make it plain rounding", "[host]") {
  matrix<double> h(20, 20, 0.0);
  for (index_t j = 0; j < 20; ++j) h(j, j) = 0.1 + static_cast<double>((7 * j) % 5);
  const matrix<float> w = normal_matrix(9, 20, 9);
  const any_quantizer quantizer = groups_of("nf3", 6);
  for (const column_order order : all_orders) {
    const input_covariance covariance{matrix<double>(h), {}, 0, 0, 0};
    CHECK(has_same_bytes(feed_back(quantizer, w, covariance, no_rows(20), {.order = order}),
                         quantizer.quantize(w.view(), {}, {})));
  }
}

TEST_CASE("feedback: with R it is GPTQ on what a refit of L leaves", "[host][property]") {
  const matrix<float> w = weight_like_matrix(40, 50, 10);
  const matrix<double> h = slow_covariance(correlated_inputs(160, 50, 11));
  for (const index_t rank : {index_t{1}, index_t{4}, index_t{17}}) {
    CAPTURE(rank);
    const matrix<float> any = normal_matrix(rank, 50, 12);
    const matrix<float> leading = to_float_matrix(leading_eigenvectors(h, rank).first);
    for (const column_order order : all_orders) {
      check_gptq(groups_of("uint3", 25), w, h, any, {.order = order, .knows_low_rank = true});
      check_gptq(groups_of("nf4", 25), w, h, leading, {.order = order, .knows_low_rank = true});
    }
  }
}

TEST_CASE("feedback: rows of R that depend on one another count once", "[host]") {
  const matrix<float> w = weight_like_matrix(20, 30, 13);
  const matrix<double> h = slow_covariance(correlated_inputs(100, 30, 14));
  const input_covariance covariance{matrix<double>(h), {}, 0, 0, 0};
  const matrix<float> once = normal_matrix(3, 30, 15);
  matrix<float> repeated(7, 30, 0.0F); // a row of zeros, too
  for (index_t k = 0; k < 6; ++k) {
    for (index_t j = 0; j < 30; ++j) repeated(k, j) = once(k % 3, j) * (k < 3 ? 1.0F : -2.0F);
  }
  const any_quantizer quantizer = groups_of("int3", 10);
  const feedback_options options{.knows_low_rank = true};
  CHECK(has_same_bytes(feed_back(quantizer, w, covariance, repeated, options),
                       feed_back(quantizer, w, covariance, once, options)));
}

// Pham and Gillis append the inputs of the adapter, V^T x, as columns of W+ = [W, 0] that are never rounded
// and damp the whole: (H+, delta).
TEST_CASE("feedback: the augmented covariance of GPTQ-intrinsic LoRA", "[host][property]") {
  constexpr index_t n = 40;
  constexpr index_t rank = 5;
  const matrix<float> w = weight_like_matrix(120, n, 16);
  const matrix<double> h = slow_covariance(correlated_inputs(160, n, 17));
  const auto [vectors, values] = leading_eigenvectors(h, rank); // V^T
  const matrix<float> right = to_float_matrix(vectors);
  const matrix<double> left_over = slow_downdate(h, right);
  const double delta = 0.01 * mean_of_diagonal(left_over);

  const matrix<double> vh = slow_product(vectors, h);
  const matrix<double> inner = slow_product(vh, vectors, true);
  matrix<double> augmented(n + rank, n + rank, 0.0);
  matrix<double> shrunk(h); // the leading eigenvalues lambda become lambda delta / (lambda + delta)
  for (index_t i = 0; i < n + rank; ++i) {
    for (index_t j = 0; j < n + rank; ++j) {
      if (i < n && j < n) {
        augmented(i, j) = h(i, j);
        for (index_t k = 0; k < rank; ++k) {
          const double lambda = values[static_cast<std::size_t>(k)];
          shrunk(i, j) += (lambda * delta / (lambda + delta) - lambda) * vectors(k, i) * vectors(k, j);
        }
      } else if (i < n) {
        augmented(i, j) = vh(j - n, i);
      } else if (j < n) {
        augmented(i, j) = vh(i - n, j);
      } else {
        augmented(i, j) = inner(i - n, j - n);
      }
    }
  }
  const any_quantizer quantizer = groups_of("uint3", 20);
  const fitted_scales scales = quantizer.fit_scales(w.view(), {}, {});
  const std::vector<index_t> order = slow_order(augmented, column_order::ascending);
  const slow_codes expected = slow_gptq(quantizer, scales, w, damped(std::move(augmented), delta), order);

  // The same damping in both: the same codes.
  const input_covariance same{matrix<double>(shrunk), {}, 0, 0, 0};
  const agreement found =
      compare_codes(feed_back(quantizer, w, same, no_rows(n), {.damping = delta / mean_of_diagonal(shrunk)}),
                    expected, order);
  CHECK(found.differing == 0);
  CHECK(found.compared >= w.size() * 7 / 10);

  // The library lets delta of the adapter's inputs go to zero, so larger errors are pushed there. The error
  // after a refit of L hardly differs where the levels reach far enough; few bits would clip some of them.
  const any_quantizer fine = groups_of("uint8", 20);
  const input_covariance whole{matrix<double>(h), {}, 0, 0, 0};
  const feedback_options as_theirs{.damping = delta / mean_of_diagonal(shrunk)};
  const matrix<float> theirs = dequantize(feed_back(fine, w, same, no_rows(n), as_theirs));
  const matrix<float> ours = dequantize(feed_back(fine, w, whole, right, {.knows_low_rank = true}));
  const double expected_error = std::sqrt(slow_energy(slow_difference(w, theirs), left_over));
  CHECK(is_near(std::sqrt(slow_energy(slow_difference(w, ours), left_over)), expected_error,
                0.02 * expected_error));
}

TEST_CASE("coupling: importances are the diagonal of what is left of H, relative to its mean", "[host]") {
  const matrix<double> h = slow_covariance(correlated_inputs(60, 12, 18));
  const matrix<float> right = normal_matrix(2, 12, 19);
  const input_covariance covariance{matrix<double>(h), {}, 0, 0, 0};
  const matrix<double> left_over = slow_downdate(h, right);
  const host::column_coupling coupling = host::make_coupling(
      covariance, right, {.order = column_order::importance}, coupling_use::descent, executor{});
  CHECK(coupling.feedback.size() == 0);
  REQUIRE(coupling.importance.size() == 12);
  for (index_t j = 0; j < 12; ++j) {
    CHECK(static_cast<double>(coupling.importance[static_cast<std::size_t>(j)]) ==
          Approx(left_over(j, j) / mean_of_diagonal(left_over)).epsilon(1e-5));
  }
  CHECK(coupling.order == slow_order(left_over, column_order::importance));
}
