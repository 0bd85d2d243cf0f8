// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/backend.hpp>

#include <qlr/core/parallel.hpp>

#include <host/jacobi_svd.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>
#include <support/small_svd.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using backend = host::eigen_backend;

namespace {

/// (rows, cols) below, at and above the pieces that work is cut into.
constexpr std::pair<index_t, index_t> shapes[] = {{1, 1}, {1, 300}, {70, 3}, {65, 129}, {130, 257}};

/// Sums of `terms` products differ from their double value by rounding only.
double sum_tolerance(index_t terms, double magnitude) {
  return 1e-7 * static_cast<double>(terms + 4) * magnitude;
}

bool has_same_bits(const matrix<float>& a, const matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && std::equal(a.data(), a.data() + a.size(), b.data());
}

/// A per-row int8 quantizer: the only one that this file needs.
quantized_matrix quantized(const matrix<float>& x) {
  quantizer_options options;
  options.group_size = group_per_row;
  const quantizer int8("int8", signed_grid(8), absmax_rule{}, options);
  return int8.quantize(x.view(), {}, {});
}

metric random_metric(index_t rows, index_t cols, bool has_rows, bool has_cols) {
  random_source random(5);
  metric weights;
  for (index_t i = 0; has_rows && i < rows; ++i) {
    weights.row_weights.push_back(static_cast<float>(random.between(0.5, 2.0)));
  }
  for (index_t j = 0; has_cols && j < cols; ++j) {
    weights.col_weights.push_back(static_cast<float>(random.between(0.5, 2.0)));
  }
  return weights;
}

/// Energies by the definition.
energies slow_energies(const std::vector<double>& x, index_t rows, index_t cols, const metric& weights) {
  energies sum;
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < cols; ++j) {
      const double square = std::pow(x[static_cast<std::size_t>(i * cols + j)], 2);
      double weight = 1;
      if (!weights.elements.is_empty()) {
        weight = static_cast<double>(weights.elements(i, j));
      } else {
        if (!weights.row_weights.empty())
          weight *= std::pow(static_cast<double>(weights.row_weights[static_cast<std::size_t>(i)]), 2);
        if (!weights.col_weights.empty())
          weight *= std::pow(static_cast<double>(weights.col_weights[static_cast<std::size_t>(j)]), 2);
      }
      sum.frobenius += square;
      sum.weighted += weight * square;
    }
  }
  return sum;
}

bool is_close(const energies& found, const energies& expected, double tolerance_rel) {
  return is_near(found.frobenius, expected.frobenius, tolerance_rel * expected.frobenius) &&
         is_near(found.weighted, expected.weighted, tolerance_rel * expected.weighted);
}

} // namespace

TEST_CASE("eigen_backend: gemm equals the triple loop for both transposes, any alpha and beta",
          "[host][property]") {
  const std::tuple<index_t, index_t, index_t> sizes[] = {{1, 1, 1}, {3, 5, 7}, {17, 40, 300}, {64, 9, 129}};
  for (const auto& [rows, inner, cols] : sizes) {
    for (const transpose tb : {transpose::no, transpose::yes}) {
      for (const float beta : {0.0F, 1.0F, -0.5F}) {
        CAPTURE(rows, inner, cols, static_cast<bool>(tb), beta);
        const float alpha = 1.5F;
        const matrix<float> a = normal_matrix(rows, inner, 1);
        const bool is_transposed = tb == transpose::yes;
        const matrix<float> b = normal_matrix(is_transposed ? cols : inner, is_transposed ? inner : cols, 2);
        const matrix<float> start = normal_matrix(rows, cols, 3);
        matrix<float> out = start;
        if (beta == 0.0F) out.fill(std::numeric_limits<float>::quiet_NaN()); // must be ignored
        backend().gemm(tb, alpha, a, b, beta, out);
        double worst = 0;
        for (index_t i = 0; i < rows; ++i) {
          for (index_t j = 0; j < cols; ++j) {
            double sum = 0;
            for (index_t l = 0; l < inner; ++l) {
              sum += static_cast<double>(a(i, l)) * static_cast<double>(is_transposed ? b(j, l) : b(l, j));
            }
            const double expected = static_cast<double>(alpha) * sum +
                                    static_cast<double>(beta) * static_cast<double>(start(i, j));
            const double difference = std::fabs(static_cast<double>(out(i, j)) - expected);
            worst = std::isnan(difference) ? 1e300 : std::max(worst, difference);
          }
        }
        CHECK(worst <= sum_tolerance(inner, 10.0));
      }
    }
  }
}

TEST_CASE("eigen_backend: copies take the rows and columns that both have", "[host]") {
  const matrix<float> small = normal_matrix(2, 3, 1);
  const matrix<float> large = normal_matrix(4, 3, 2);
  matrix<float> out(4, 3, 9.0F);
  backend::copy_rows(small, 0, out, 0);
  CHECK(out(1, 2) == small(1, 2));
  CHECK(out(2, 0) == 9.0F);
  matrix<float> two(2, 3, 9.0F);
  backend::copy_rows(large, 2, two, 1);
  CHECK(two(1, 1) == large(2, 1));
  CHECK(two(0, 1) == 9.0F);
  matrix<float> wide(1, 5, 9.0F);
  backend::copy_cols(normal_matrix(1, 3, 4), wide);
  CHECK(wide(0, 2) == normal_matrix(1, 3, 4)(0, 2));
  CHECK(wide(0, 3) == 9.0F);
  matrix<float> same(4, 3);
  backend::copy(large, same);
  CHECK(has_same_bits(same, large));
}

TEST_CASE("eigen_backend: fill_random fills the rows asked for and depends on the seed", "[host]") {
  matrix<float> x(9, 50, 7.0F);
  backend().fill_random(x, 4, 1);
  CHECK(x(3, 49) == 7.0F);
  double sum = 0;
  double squares = 0;
  std::set<float> distinct;
  for (index_t i = 4 * 50; i < x.size(); ++i) {
    distinct.insert(x.data()[i]);
    sum += static_cast<double>(x.data()[i]);
    squares += std::pow(static_cast<double>(x.data()[i]), 2);
  }
  CHECK(distinct.size() == 250);
  CHECK(std::fabs(sum / 250) < 0.25); // four standard deviations of the mean
  CHECK(is_near(squares / 250, 1.0, 0.36));
  matrix<float> whole(9, 50);
  backend().fill_random(whole, 0, 1);
  CHECK(whole(5, 5) == x(5, 5));
  backend().fill_random(whole, 0, 2);
  CHECK(whole(5, 5) != x(5, 5));
  backend().fill_random(whole, 9, 3); // nothing left to fill
  CHECK(whole(5, 5) != x(5, 5));
}

TEST_CASE("eigen_backend: orthonormalize_rows keeps the span of the rows", "[host][property]") {
  for (const double unit : {1.0, 1e30, 1e-30}) {
    for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {3, 3}, {5, 40}}) {
      CAPTURE(unit, rows, cols);
      const matrix<float> x = normal_matrix(rows, cols, 3, unit);
      matrix<float> basis = x;
      const double smallest = static_cast<double>(backend().orthonormalize_rows(basis));
      const double exact = jacobi_singular_values(x).back();
      CHECK(smallest <= exact * (1 + 1e-5)); // a lower bound, at most the rows' number below it
      CHECK(smallest >= 0.99 * exact / static_cast<double>(rows));
      CHECK(orthonormality_error(basis) <= 1e-5);
      for (index_t i = 0; i < rows; ++i) { // the projection of each row is the row
        double left_over = 0;
        for (index_t j = 0; j < cols; ++j) {
          double projected = 0;
          for (index_t a = 0; a < rows; ++a) {
            double dot = 0;
            for (index_t l = 0; l < cols; ++l)
              dot += static_cast<double>(basis(a, l)) * static_cast<double>(x(i, l));
            projected += dot * static_cast<double>(basis(a, j));
          }
          left_over = std::max(left_over, std::fabs(projected - static_cast<double>(x(i, j))));
        }
        CHECK(left_over <= 1e-5 * unit);
      }
    }
  }
}

TEST_CASE("eigen_backend: orthonormalize_rows turns dependent rows into an orthonormal basis", "[host]") {
  matrix<float> zero(4, 9, 0.0F);
  CHECK(backend().orthonormalize_rows(zero) == 0.0F);
  CHECK(orthonormality_error(zero) <= 1e-5);
  matrix<float> equal(4, 9, 1.0F);
  CHECK(backend().orthonormalize_rows(equal) == 0.0F);
  CHECK(orthonormality_error(equal) <= 1e-5);
}

TEST_CASE("eigen_backend: small_svd gives all triplets of a short matrix", "[host][property]") {
  for (const double unit : {1.0, 1e30, 1e-30}) {
    for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {4, 4}, {6, 50}}) {
      CAPTURE(unit, rows, cols);
      const matrix<float> x = normal_matrix(rows, cols, 11, unit);
      const auto found = backend().small_svd(x);
      const std::vector<double> expected = jacobi_singular_values(x);
      REQUIRE(found.left.rows() == rows);
      REQUIRE(found.left.cols() == rows);
      REQUIRE(found.right.cols() == cols);
      CHECK(orthonormality_error(found.left) <= 1e-5);
      CHECK(orthonormality_error(found.right) <= 1e-5);
      for (index_t k = 0; k < rows; ++k) {
        CHECK(is_near(static_cast<double>(found.values(0, k)), expected[static_cast<std::size_t>(k)],
                      1e-5 * expected[0]));
      }
      CHECK(residual_norm(x, found) <= 1e-5 * expected[0]);
    }
  }
}

TEST_CASE("eigen_backend: rows and columns are scaled by powers and by weights", "[host]") {
  const matrix<float> x = normal_matrix(3, 4, 5);
  matrix<float> values(1, 3);
  values(0, 0) = 4.0F;
  values(0, 1) = 9.0F;
  values(0, 2) = 0.0F;
  matrix<float> out = x;
  backend::scale_rows(out, values, 0.5F);
  CHECK(out(0, 1) == 2.0F * x(0, 1));
  CHECK(out(1, 3) == 3.0F * x(1, 3));
  CHECK(out(2, 2) == 0.0F);
  out = x;
  backend::scale_cols(out, {2.0F, 4.0F, 8.0F, 0.5F}, false);
  CHECK(out(1, 2) == 8.0F * x(1, 2));
  backend::scale_cols(out, {2.0F, 4.0F, 8.0F, 0.5F}, true);
  CHECK(has_same_bits(out, x));
  backend::scale_cols(out, {}, true);
  CHECK(has_same_bits(out, x));
}

TEMPLATE_TEST_CASE("eigen_backend: residuals of weights with any strides equal the definition",
                   "[host][property]", float, double) {
  for (const auto& [rows, cols] : shapes) {
    const matrix<float> w = normal_matrix(rows, cols, 21);
    const matrix<float> left = normal_matrix(3, rows, 22);
    const matrix<float> right = normal_matrix(3, cols, 23);
    const quantized_matrix q = quantized(normal_matrix(rows, cols, 24));
    const matrix<float> decoded = slow_dequantize(q);
    for (const placement where : all_placements) {
      CAPTURE(rows, cols, static_cast<int>(where));
      const placed_matrix<TestType> placed(w.view(), where);
      const matrix_view<const TestType> weight = placed.view();
      matrix<float> product(rows, cols);
      matrix<float> plain(rows, cols);
      matrix<float> difference(rows, cols);
      backend().subtract_product(weight, left, right, product);
      backend().subtract_product(weight, matrix<float>(0, rows), matrix<float>(0, cols), plain);
      backend().subtract_quantized(weight, q, difference);
      CHECK(has_same_bits(plain, w));
      bool is_right = true;
      for (index_t i = 0; i < rows; ++i) {
        for (index_t j = 0; j < cols; ++j) {
          double expected = static_cast<double>(w(i, j));
          for (index_t l = 0; l < 3; ++l)
            expected -= static_cast<double>(left(l, i)) * static_cast<double>(right(l, j));
          is_right = is_right &&
                     is_near(static_cast<double>(product(i, j)), expected, sum_tolerance(3, 20.0)) &&
                     difference(i, j) == w(i, j) - decoded(i, j);
        }
      }
      CHECK(is_right);
      const metric weights = random_metric(rows, cols, true, true);
      std::vector<double> elements(w.data(), w.data() + w.size());
      CHECK(is_close(backend().weight_energies(weight, weights), slow_energies(elements, rows, cols, weights),
                     1e-6));
    }
  }
}

TEST_CASE("eigen_backend: extrapolate moves away from the quantized matrix", "[host]") {
  for (const auto& [rows, cols] : shapes) {
    CAPTURE(rows, cols);
    const matrix<float> x = normal_matrix(rows, cols, 31);
    const quantized_matrix q = quantized(normal_matrix(rows, cols, 32));
    const matrix<float> decoded = slow_dequantize(q);
    matrix<float> out = x;
    backend().extrapolate(q, 1.25F, out);
    bool is_right = true;
    for (index_t i = 0; i < x.size(); ++i) {
      const double from = static_cast<double>(decoded.data()[i]);
      const double expected = from + 1.25 * (static_cast<double>(x.data()[i]) - from);
      is_right = is_right && is_near(static_cast<double>(out.data()[i]), expected, 2e-6);
    }
    CHECK(is_right);
  }
}

TEST_CASE("eigen_backend: apply_metric and the energies follow rows, columns and elements",
          "[host][property]") {
  for (const auto& [rows, cols] : shapes) {
    for (int kind = 0; kind < 5; ++kind) {
      CAPTURE(rows, cols, kind);
      metric weights = random_metric(rows, cols, (kind & 1) != 0, (kind & 2) != 0);
      matrix<float> fisher = normal_matrix(rows, cols, 41);
      for (index_t i = 0; i < fisher.size(); ++i) fisher.data()[i] *= fisher.data()[i];
      if (kind == 4) {
        weights = random_metric(rows, cols, true, true);
        weights.elements = fisher.view();
      }
      const matrix<float> x = normal_matrix(rows, cols, 42);
      matrix<float> scaled_x = x;
      backend().apply_metric(weights, scaled_x);
      bool is_right = true;
      for (index_t i = 0; i < rows; ++i) {
        for (index_t j = 0; j < cols; ++j) {
          double expected = static_cast<double>(x(i, j));
          if (!weights.row_weights.empty())
            expected *= static_cast<double>(weights.row_weights[static_cast<std::size_t>(i)]);
          if (!weights.col_weights.empty())
            expected *= static_cast<double>(weights.col_weights[static_cast<std::size_t>(j)]);
          is_right =
              is_right && is_near(static_cast<double>(scaled_x(i, j)), expected, 3e-7 * std::fabs(expected));
        }
      }
      CHECK(is_right);
      const quantized_matrix q = quantized(normal_matrix(rows, cols, 43));
      const matrix<float> decoded = slow_dequantize(q);
      std::vector<double> difference(static_cast<std::size_t>(x.size()));
      for (std::size_t i = 0; i < difference.size(); ++i) {
        difference[i] = static_cast<double>(x.data()[i]) - static_cast<double>(decoded.data()[i]);
      }
      CHECK(is_close(backend().residual_energies(x, q, weights),
                     slow_energies(difference, rows, cols, weights), 1e-6));
    }
  }
}

TEST_CASE("eigen_backend: huge and tiny elements keep their energies", "[host]") {
  for (const double unit : {1e30, 1e-30}) {
    CAPTURE(unit);
    const matrix<float> x = normal_matrix(4, 9, 51, unit);
    const std::vector<double> elements(x.data(), x.data() + x.size());
    CHECK(is_close(backend().weight_energies(x.view(), metric{}), slow_energies(elements, 4, 9, {}), 1e-6));
  }
}

TEST_CASE("eigen_backend: all operations give the same bits on 1, 2 and 3 threads", "[host][threads]") {
  const index_t rows = 200;
  const index_t cols = 700; // several pieces of everything that is cut
  const matrix<float> w = normal_matrix(rows, cols, 61);
  const matrix<float> left = normal_matrix(5, rows, 62);
  const matrix<float> right = normal_matrix(5, cols, 63);
  const quantized_matrix q = quantized(w);
  const metric weights = random_metric(rows, cols, true, true);
  const auto run_all = [&](int num_threads) {
    thread_pool pool(num_threads);
    const backend work{executor(pool)};
    std::vector<matrix<float>> results;
    matrix<float> out(rows, cols);
    work.gemm(transpose::yes, 1.0F, w, normal_matrix(cols, cols, 64), 0.0F, results.emplace_back(rows, cols));
    work.gemm(transpose::no, 1.0F, left, w, 0.0F, results.emplace_back(5, cols));
    work.fill_random(results.emplace_back(rows, cols), 0, 9);
    work.subtract_product(w.view(), left, right, results.emplace_back(rows, cols));
    work.subtract_quantized(w.view(), q, results.emplace_back(rows, cols));
    work.extrapolate(q, 1.25F, results.emplace_back(w));
    work.apply_metric(weights, results.emplace_back(w));
    const energies norms = work.weight_energies(w.view(), weights);
    const energies error = work.residual_energies(out = normal_matrix(rows, cols, 65), q, weights);
    matrix<float> halves(1, 8); // both halves of each double
    const double numbers[] = {norms.frobenius, norms.weighted, error.frobenius, error.weighted};
    std::memcpy(halves.data(), numbers, sizeof numbers);
    results.push_back(halves);
    return results;
  };
  const std::vector<matrix<float>> one = run_all(1);
  for (const int num_threads : {2, 3}) {
    const std::vector<matrix<float>> many = run_all(num_threads);
    for (std::size_t i = 0; i < one.size(); ++i) {
      CAPTURE(num_threads, i);
      CHECK(std::memcmp(one[i].data(), many[i].data(), static_cast<std::size_t>(4 * one[i].size())) == 0);
    }
  }
}
