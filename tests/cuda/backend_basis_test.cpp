// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/backend_support.hpp>
#include <cuda/support.hpp>
#include <host/jacobi_svd.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("cuda_backend: orthonormalize_rows keeps the span of the rows", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  for (const double unit : {1.0, 1e30, 1e-30, 1e-43}) {
    for (const auto& [rows, cols] : shapes) {
      CAPTURE(unit, rows, cols);
      const matrix<float> x = normal_matrix(rows, cols, 3, unit);
      auto device = cuda::to_device(x.view());
      const double smallest = static_cast<double>(backend.orthonormalize_rows(device));
      const matrix<float> basis = backend.to_host(device);
      const double exact = jacobi_singular_values(x).back();
      CHECK(smallest <= exact * (1 + 1e-5)); // a lower bound, at most the rows' number below it
      if (unit > 1e-40) CHECK(smallest >= 0.99 * exact / static_cast<double>(rows));
      CHECK(orthonormality_error(basis) <= 1e-6);
      CHECK(distance_from_span(x, basis) <= 1e-6 * unit * std::sqrt(static_cast<double>(rows * cols)));
    }
  }
}

TEST_CASE("cuda_backend: orthonormalize_rows loses nothing to rows that are close to dependent", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  // One pass would leave the square of the condition number times the rounding of doubles, 5e-5.
  const matrix<float> x = matrix_of_spectrum(6, 90, {1.0, 1.0, 1.0, 1.0, 1.0, 1.5e-6}, 5);
  auto device = cuda::to_device(x.view());
  const double smallest = static_cast<double>(backend.orthonormalize_rows(device));
  CHECK((smallest > 1e-6 && smallest < 2e-6));
  CHECK(orthonormality_error(backend.to_host(device)) <= 3e-7);
}

TEST_CASE("cuda_backend: orthonormalize_rows turns dependent rows into an orthonormal basis", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  for (const float unit : {1.0F, 0x1p100F, 0x1p-120F}) {
    for (const auto& [rows, cols] : {std::pair<index_t, index_t>{4, 9}, {7, 7}, {1, 1}, {40, 41}}) {
      for (const matrix<float>& x : {matrix<float>(rows, cols, 0.0F), matrix<float>(rows, cols, unit),
                                     scaled(dependent_rows(rows, cols), unit)}) {
        CAPTURE(unit, rows, cols);
        auto device = cuda::to_device(x.view());
        const float smallest = backend.orthonormalize_rows(device);
        if (rows > 1) CHECK(smallest == 0.0F);
        const matrix<float> basis = backend.to_host(device);
        CHECK(orthonormality_error(basis) <= 1e-6);
        CHECK(distance_from_span(x, basis) <= 1e-4 * static_cast<double>(unit));
      }
    }
  }
}

TEST_CASE("cuda_backend: small_svd and svd give the leading triplets of any matrix", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  std::vector<matrix<float>> cases;
  for (const auto& [rows, cols] : shapes) cases.push_back(normal_matrix(rows, cols, 11));
  cases.push_back(normal_matrix(33, 7, 12));
  cases.push_back(normal_matrix(6, 50, 12, 1e30));
  cases.push_back(normal_matrix(6, 50, 12, 1e-30));
  cases.push_back(dependent_rows(6, 20));
  cases.push_back(matrix<float>(5, 8, 0.0F));
  cases.push_back(matrix<float>(5, 8, 2.0F));
  matrix<float> repeated(4, 9, 0.0F); // singular values 3, 3, 3, 1e-5
  for (index_t i = 0; i < 4; ++i) repeated(i, 2 * i) = i == 3 ? 1e-5F : 3.0F;
  cases.push_back(repeated);
  for (const matrix<float>& x : cases) {
    const index_t smaller = std::min(x.rows(), x.cols());
    const std::vector<double> expected = jacobi_singular_values(x);
    for (const index_t rank : {index_t{0}, index_t{1}, smaller}) {
      CAPTURE(x.rows(), x.cols(), rank, expected[0]);
      const auto found = backend.svd(cuda::to_device(x.view()), rank);
      const singular_triplets<matrix<float>> parts{backend.to_host(found.left), backend.to_host(found.values),
                                                   backend.to_host(found.right)};
      REQUIRE((parts.left.rows() == rank && parts.left.cols() == x.rows()));
      REQUIRE((parts.right.rows() == rank && parts.right.cols() == x.cols()));
      CHECK(orthonormality_error(parts.left) <= 1e-6);
      CHECK(orthonormality_error(parts.right) <= 1e-6);
      for (index_t a = 0; a < rank; ++a) {
        CHECK(is_near(static_cast<double>(parts.values(0, a)), expected[static_cast<std::size_t>(a)],
                      1e-6 * expected[0]));
      }
      if (rank == smaller)
        CHECK(residual_norm(x, parts) <= 1e-6 * static_cast<double>(x.cols()) * expected[0]);
    }
  }
}
