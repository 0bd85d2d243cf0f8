// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/exact_svd.hpp>

#include <host/jacobi_svd.hpp>
#include <support/catch.hpp>
#include <support/exact_svd.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

/// LAPACK works in single precision; its backward error is a small multiple of sqrt(n) 2^-24.
constexpr double relative_tolerance = 1e-5;

/// Everything that defines `rank` leading triplets, relative to the largest singular value.
void check_triplets(const matrix<float>& x, index_t rank) {
  const singular_triplets<matrix<float>> found = host::exact_svd(x, rank);
  const std::vector<double> expected = jacobi_singular_values(x);
  REQUIRE(found.left.rows() == rank);
  REQUIRE(found.left.cols() == x.rows());
  REQUIRE(found.right.rows() == rank);
  REQUIRE(found.right.cols() == x.cols());
  REQUIRE(found.values.rows() == 1);
  REQUIRE(found.values.cols() == rank);
  CHECK(orthonormality_error(found.left) <= relative_tolerance);
  CHECK(orthonormality_error(found.right) <= relative_tolerance);
  const double unit = expected.empty() ? 0.0 : expected.front();
  for (index_t k = 0; k < rank; ++k) {
    const auto value = static_cast<double>(found.values(0, k));
    CHECK(is_near(value, expected[static_cast<std::size_t>(k)], relative_tolerance * unit));
    CHECK(value >= 0.0);
    if (k > 0) CHECK(found.values(0, k) <= found.values(0, k - 1));
  }
  const double tail = tail_norm(expected, rank);
  const double scale = std::sqrt(static_cast<double>(std::max<index_t>(1, rank))) * unit;
  CHECK(residual_norm(x, found) <= tail + relative_tolerance * scale);
}

} // namespace

TEST_CASE("exact_svd: the leading triplets of matrices of every shape are those of a Jacobi method",
          "[host][property]") {
  const std::pair<index_t, index_t> shapes[] = {{1, 1}, {1, 9}, {9, 1}, {5, 33}, {33, 5}, {24, 24}};
  for (const auto& [rows, cols] : shapes) {
    const matrix<float> x = weight_like_matrix(rows, cols, 7);
    for (const index_t rank : {index_t{0}, index_t{1}, std::min(rows, cols) / 2, std::min(rows, cols)}) {
      CAPTURE(rows, cols, rank);
      check_triplets(x, rank);
    }
  }
}

TEST_CASE("exact_svd: repeated singular values keep their multiplicity", "[host]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{20, 12}, {12, 20}, {16, 16}}) {
    CAPTURE(rows, cols);
    check_triplets(matrix_of_spectrum(rows, cols, {5, 5, 5, 2, 2, 1, 1, 1, 1}, 3), 7);
    check_triplets(matrix_of_spectrum(rows, cols, std::vector<double>(12, 1.0), 4), 12);
  }
}

TEST_CASE("exact_svd: a zero matrix has zero values and orthonormal vectors", "[host]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {4, 9}, {9, 4}}) {
    CAPTURE(rows, cols);
    check_triplets(matrix<float>(rows, cols, 0.0F), std::min(rows, cols));
  }
}

TEST_CASE("exact_svd: a rank-deficient matrix is met exactly by as many triplets as its rank", "[host]") {
  const matrix<float> x = matrix_of_spectrum(15, 22, {3, 1, 0.25}, 5);
  check_triplets(x, 3);
  check_triplets(x, 15);
  CHECK(residual_norm(x, host::exact_svd(x, 3)) <= 1e-5);
}

TEST_CASE("exact_svd: scaling by a power of two scales the values and nothing else", "[host][property]") {
  const matrix<float> x = weight_like_matrix(13, 21, 11);
  const singular_triplets<matrix<float>> base = host::exact_svd(x, 6);
  for (const int exponent : {100, -100}) { // about 1e30 and 1e-30
    CAPTURE(exponent);
    const float unit = std::ldexp(1.0F, exponent);
    const singular_triplets<matrix<float>> found = host::exact_svd(scaled(x, unit), 6);
    for (index_t k = 0; k < 6; ++k) CHECK(is_same(found.values(0, k), base.values(0, k) * unit));
    CHECK(std::equal(found.left.data(), found.left.data() + found.left.size(), base.left.data()));
    CHECK(std::equal(found.right.data(), found.right.data() + found.right.size(), base.right.data()));
  }
}

TEST_CASE("exact_svd: elements at both ends of the float range give finite triplets", "[host]") {
  matrix<float> x = normal_matrix(6, 8, 13);
  for (const float unit : {1e30F, 1e-30F, 1e-38F}) {
    CAPTURE(unit);
    matrix<float> y = x;
    for (index_t i = 0; i < y.size(); ++i) y.data()[i] *= unit;
    check_triplets(y, 6);
  }
  matrix<float> mixed(2, 2, 0.0F);
  mixed(0, 0) = 3e38F;
  mixed(1, 1) = 1e-38F;
  check_triplets(mixed, 2);
}

TEST_CASE("exact_svd: the input is not modified", "[host]") {
  const matrix<float> x = normal_matrix(7, 5, 17);
  const matrix<float> copy = x;
  (void)host::exact_svd(x, 5);
  CHECK(std::equal(x.data(), x.data() + x.size(), copy.data()));
}

TEST_CASE("exact_svd: the routine behind it has a name for reports", "[host]") {
  const std::string name = host::exact_svd_name();
#if defined(QLR_USE_LAPACKE)
  CHECK(name == "LAPACK gesdd");
#else
  CHECK(name == "Eigen BDCSVD");
#endif
}
