// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/lowrank/randomized_svd.hpp>
#include <qlr/lowrank/truncated_svd.hpp>

#include <qlr/core/parallel.hpp>
#include <qlr/host/backend.hpp>

#include <host/jacobi_svd.hpp>
#include <support/catch.hpp>
#include <support/exact_svd.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>
#include <support/small_svd.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

using backend = host::eigen_backend;
using solver = randomized_svd<backend>;
using triplets = singular_triplets<matrix<float>>;

static_assert(low_rank_solver_policy<solver, backend>);
static_assert(low_rank_solver_policy<truncated_svd, backend>);

struct spectrum {
  std::string name;
  std::vector<double> values;
};

/// What residuals W - Q of weights look like, and both extremes.
std::vector<spectrum> spectra(std::size_t count) {
  std::vector<spectrum> all{{"flat", {}}, {"slow decay", {}}, {"fast decay", {}}, {"planted", {}}};
  for (std::size_t k = 0; k < count; ++k) {
    const double x = static_cast<double>(k);
    all[0].values.push_back(1.0 - 0.5 * x / static_cast<double>(count));
    all[1].values.push_back(1.0 / std::sqrt(1.0 + x));
    all[2].values.push_back(std::exp(-0.3 * x));
    all[3].values.push_back(k < 8 ? 10.0 : 1.0 / (1.0 + 0.01 * x));
  }
  return all;
}

void check_orthonormal_and_sorted(const triplets& found, const matrix<float>& x, index_t rank) {
  REQUIRE(found.left.rows() == rank);
  REQUIRE(found.left.cols() == x.rows());
  REQUIRE(found.values.cols() == rank);
  REQUIRE(found.right.rows() == rank);
  REQUIRE(found.right.cols() == x.cols());
  CHECK(orthonormality_error(found.left) <= 2e-5);
  CHECK(orthonormality_error(found.right) <= 2e-5);
  for (index_t k = 0; k < rank; ++k) {
    CHECK(is_finite(found.values(0, k)));
    CHECK(found.values(0, k) >= 0.0F);
    if (k > 0) CHECK(found.values(0, k) <= found.values(0, k - 1));
  }
}

bool has_same_bits(const matrix<float>& a, const matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && std::equal(a.data(), a.data() + a.size(), b.data());
}

bool has_same_bits(const triplets& a, const triplets& b) {
  return has_same_bits(a.left, b.left) && has_same_bits(a.values, b.values) &&
         has_same_bits(a.right, b.right);
}

} // namespace

TEST_CASE("randomized_svd: a cold call leaves at most 1 % more than the best approximation",
          "[lowrank][property]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{96, 150}, {150, 96}}) {
    for (const spectrum& shape : spectra(96)) {
      for (const index_t rank : {1, 8, 24}) {
        CAPTURE(shape.name, rows, cols, rank);
        const matrix<float> x = matrix_of_spectrum(rows, cols, shape.values, 5);
        solver svd({.seed = 3});
        const triplets found = svd.solve(backend(), x, rank);
        check_orthonormal_and_sorted(found, x, rank);
        // 1e-6 of the norm: rounding of the product where the tail itself is tiny
        CHECK(residual_norm(x, found) <=
              1.01 * tail_norm(shape.values, rank) + 1e-6 * tail_norm(shape.values, 0));
      }
    }
  }
}

TEST_CASE("randomized_svd: warm calls on the same matrix close the gap to 0.1 %", "[lowrank][property]") {
  for (const spectrum& shape : spectra(96)) {
    for (const index_t rank : {1, 8, 24}) {
      CAPTURE(shape.name, rank);
      const matrix<float> x = matrix_of_spectrum(96, 150, shape.values, 6);
      solver svd;
      triplets found = svd.solve(backend(), x, rank);
      for (int call = 0; call < 8; ++call) found = svd.solve(backend(), x, rank);
      check_orthonormal_and_sorted(found, x, rank);
      CHECK(residual_norm(x, found) <=
            1.001 * tail_norm(shape.values, rank) + 1e-6 * tail_norm(shape.values, 0));
    }
  }
}

TEST_CASE("randomized_svd: a warm call follows a matrix that changed a little", "[lowrank]") {
  const matrix<float> x = matrix_of_spectrum(80, 120, spectra(80)[3].values, 8);
  const matrix<float> noise = normal_matrix(80, 120, 9, 0.005);
  matrix<float> y = x;
  for (index_t i = 0; i < y.size(); ++i) y.data()[i] += noise.data()[i];
  solver svd;
  (void)svd.solve(backend(), x, 8);
  const triplets warm = svd.solve(backend(), y, 8);
  CHECK(residual_norm(y, warm) <= 1.001 * tail_norm(jacobi_singular_values(y), 8));
}

TEST_CASE("randomized_svd: every warm call starts from the subspace of the call before", "[lowrank]") {
  const std::vector<double> values = spectra(96)[0].values;
  const matrix<float> x = matrix_of_spectrum(96, 150, values, 6);
  solver svd({.cold_blocks = 1, .warm_blocks = 1}); // one pass each: accurate only together
  const double cold = residual_norm(x, svd.solve(backend(), x, 8));
  double warm = cold;
  for (int call = 0; call < 8; ++call) warm = residual_norm(x, svd.solve(backend(), x, 8));
  const double least = tail_norm(values, 8);
  CHECK(warm - least < 0.3 * (cold - least));
}

TEST_CASE("randomized_svd: rank plus oversampling beyond the smaller dimension is exact", "[lowrank]") {
  const std::pair<index_t, index_t> shapes[] = {{1, 1}, {1, 12}, {12, 1}, {6, 20}, {20, 6}, {17, 17}};
  for (const auto& [rows, cols] : shapes) {
    const matrix<float> x = normal_matrix(rows, cols, 21);
    const std::vector<double> values = jacobi_singular_values(x);
    for (index_t rank = 0; rank <= std::min(rows, cols); ++rank) {
      CAPTURE(rows, cols, rank);
      solver svd;
      const triplets found = svd.solve(backend(), x, rank);
      check_orthonormal_and_sorted(found, x, rank);
      CHECK(residual_norm(x, found) <= tail_norm(values, rank) + 1e-5 * values.front());
    }
  }
}

TEST_CASE("randomized_svd: zero and rank-deficient matrices give finite orthonormal triplets", "[lowrank]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{30, 45}, {45, 30}}) {
    CAPTURE(rows, cols);
    solver svd;
    const matrix<float> zero(rows, cols, 0.0F);
    const matrix<float> low = matrix_of_spectrum(rows, cols, {2, 1, 0.5}, 31);
    for (int call = 0; call < 3; ++call) { // warm too
      CAPTURE(call);
      const triplets of_zero = svd.solve(backend(), zero, 5);
      check_orthonormal_and_sorted(of_zero, zero, 5);
      CHECK(of_zero.values(0, 0) == 0.0F);
      const triplets of_low = svd.solve(backend(), low, 5);
      check_orthonormal_and_sorted(of_low, low, 5);
      CHECK(residual_norm(low, of_low) <= 1e-5);
    }
  }
}

TEST_CASE("randomized_svd: matrices with few nonzero elements are met exactly", "[lowrank]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{60, 90}, {90, 60}, {200, 120}}) {
    for (int kind = 0; kind < 4; ++kind) {
      for (const index_t rank : {1, 4}) {
        CAPTURE(rows, cols, kind, rank);
        matrix<float> x(rows, cols, 0.0F);
        for (index_t i = 0; i < rows; ++i) {
          for (index_t j = 0; j < cols; ++j) {
            if (kind == 0 && i == 0 && j == 0) x(i, j) = 3.0F;
            if (kind == 1 && i == 7) x(i, j) = static_cast<float>(j % 5);
            if (kind == 2) x(i, j) = 1.0F;
            if (kind == 3 && i == j && i < 20) x(i, j) = static_cast<float>(20 - i);
          }
        }
        const std::vector<double> values = jacobi_singular_values(x);
        solver svd;
        for (int call = 0; call < 3; ++call) {
          const triplets found = svd.solve(backend(), x, rank);
          check_orthonormal_and_sorted(found, x, rank);
          CHECK(residual_norm(x, found) <= 1.01 * tail_norm(values, rank) + 1e-5 * values[0]);
        }
      }
    }
  }
}

TEST_CASE("randomized_svd: scaling by a power of two scales the values and nothing else", "[lowrank]") {
  const matrix<float> x = matrix_of_spectrum(60, 90, spectra(60)[1].values, 41);
  solver base_solver;
  (void)base_solver.solve(backend(), x, 6);
  const triplets base = base_solver.solve(backend(), x, 6);
  for (const int exponent : {96, -96}) { // about 1e29 and 1e-29
    CAPTURE(exponent);
    const float unit = std::ldexp(1.0F, exponent);
    solver svd;
    (void)svd.solve(backend(), scaled(x, unit), 6);
    const triplets found = svd.solve(backend(), scaled(x, unit), 6);
    check_orthonormal_and_sorted(found, x, 6);
    for (index_t k = 0; k < 6; ++k) CHECK(is_same(found.values(0, k), base.values(0, k) * unit));
    CHECK(has_same_bits(found.right, base.right));
  }
}

TEST_CASE("randomized_svd: the seed decides the sketch and nothing else", "[lowrank]") {
  const matrix<float> x = matrix_of_spectrum(64, 100, spectra(64)[0].values, 51);
  const auto solve = [&](std::uint64_t seed) { return solver({.seed = seed}).solve(backend(), x, 8); };
  CHECK(has_same_bits(solve(1), solve(1)));
  CHECK_FALSE(has_same_bits(solve(1), solve(2)));
  CHECK(is_near(residual_norm(x, solve(1)), residual_norm(x, solve(2)), 0.01 * residual_norm(x, solve(1))));
}

TEST_CASE("randomized_svd: a basis of another width is ignored", "[lowrank]") {
  const matrix<float> x = normal_matrix(40, 70, 61);
  const matrix<float> other = normal_matrix(40, 50, 62);
  solver fresh;
  solver used;
  (void)used.solve(backend(), other, 8);
  CHECK(has_same_bits(used.solve(backend(), x, 8), fresh.solve(backend(), x, 8)));
}

TEST_CASE("randomized_svd: a larger rank after a smaller one completes the basis", "[lowrank]") {
  const std::vector<double> values = spectra(70)[1].values;
  const matrix<float> x = matrix_of_spectrum(70, 110, values, 71);
  solver svd;
  (void)svd.solve(backend(), x, 2);
  (void)svd.solve(backend(), x, 30);
  triplets found = svd.solve(backend(), x, 30);
  for (int call = 0; call < 6; ++call) found = svd.solve(backend(), x, 30);
  check_orthonormal_and_sorted(found, x, 30);
  CHECK(residual_norm(x, found) <= 1.01 * tail_norm(values, 30));
}

TEST_CASE("randomized_svd: the bits do not depend on the number of threads", "[lowrank][threads]") {
  const matrix<float> x = normal_matrix(150, 400, 81);
  const auto solve = [&](int num_threads) {
    thread_pool pool(num_threads);
    const backend work{executor(pool)};
    solver svd;
    (void)svd.solve(work, x, 12);
    return svd.solve(work, x, 12);
  };
  const triplets one = solve(1);
  CHECK(has_same_bits(solve(2), one));
  CHECK(has_same_bits(solve(3), one));
}

TEST_CASE("truncated_svd: equals the backend's full decomposition", "[lowrank]") {
  const matrix<float> x = normal_matrix(12, 19, 91);
  for (const index_t rank : {0, 1, 5, 12}) {
    CAPTURE(rank);
    const triplets found = truncated_svd{}.solve(backend(), x, rank);
    CHECK(has_same_bits(found, host::exact_svd(x, rank)));
    CHECK(residual_norm(x, found) <= tail_norm(jacobi_singular_values(x), rank) + 1e-5);
  }
}
