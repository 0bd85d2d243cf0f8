// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/backend_support.hpp>
#include <cuda/fakes/fake_device.hpp>
#include <cuda/support.hpp>
#include <support/catch.hpp>
#include <support/cpu.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("cuda_backend: gemm equals the CPU's for both transposes, any alpha and beta", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  const std::tuple<index_t, index_t, index_t> sizes[] = {
      {1, 1, 1}, {3, 5, 7}, {6, 4, 6}, {17, 40, 9}, {3, 0, 2}};
  for (const auto& [rows, inner, cols] : sizes) {
    for (const transpose tb : {transpose::no, transpose::yes}) {
      for (const float beta : {0.0F, 1.0F, -0.5F}) {
        CAPTURE(rows, inner, cols, static_cast<bool>(tb), beta);
        const bool is_transposed = tb == transpose::yes;
        const matrix<float> a = normal_matrix(rows, inner, 1);
        const matrix<float> b = normal_matrix(is_transposed ? cols : inner, is_transposed ? inner : cols, 2);
        matrix<float> expected = normal_matrix(rows, cols, 3);
        auto out = beta == 0.0F ? spoilt(rows, cols) : cuda::to_device(expected.view());
        cpu_backend::gemm(tb, 1.5F, a, b, beta, expected);
        backend.gemm(tb, 1.5F, cuda::to_device(a.view()), cuda::to_device(b.view()), beta, out);
        CHECK(largest_difference(backend.to_host(out), expected) <= 1e-5); // rounding of sums of 40 terms
      }
    }
  }
}

TEST_CASE("cuda_backend: copies take the rows and columns that both have", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  in_every_order([&] {
    const matrix<float> large = normal_matrix(4, 37, 2);
    const auto device = cuda::to_device(large.view());
    for (const auto& [rows, first, to] :
         {std::tuple<index_t, index_t, index_t>{2, 2, 1}, {9, 1, 3}, {4, 0, 0}}) {
      CAPTURE(rows, first, to);
      matrix<float> expected(rows, 37, 9.0F);
      auto out = cuda::to_device(expected.view());
      cpu_backend::copy_rows(large, first, expected, to);
      backend.copy_rows(device, first, out, to);
      CHECK(largest_difference(backend.to_host(out), expected) == 0);
    }
    for (const index_t cols : {1, 36, 40}) {
      matrix<float> expected(4, cols, 9.0F);
      auto out = cuda::to_device(expected.view());
      cpu_backend::copy_cols(large, expected);
      backend.copy_cols(device, out);
      CHECK(largest_difference(backend.to_host(out), expected) == 0);
    }
    auto same = spoilt(4, 37);
    backend.copy(device, same);
    CHECK(largest_difference(backend.to_host(same), large) == 0);
  });
}

TEST_CASE("cuda_backend: random numbers are those of the CPU", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  in_every_order([&] {
    for (const auto& [rows, cols] : shapes) {
      for (const index_t first : {index_t{0}, index_t{3}, rows}) {
        CAPTURE(rows, cols, first);
        matrix<float> expected(rows, cols, 7.0F);
        auto out = cuda::to_device(expected.view());
        cpu_backend::fill_random(expected, first, 0x123456789ABCDEF0U);
        backend.fill_random(out, first, 0x123456789ABCDEF0U);
        CHECK(largest_difference(backend.to_host(out), expected) == 0);
      }
    }
  });
}

TEST_CASE("cuda_backend: rows and columns are scaled as on the CPU", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  in_every_order([&] {
    for (const auto& [rows, cols] : shapes) {
      CAPTURE(rows, cols);
      const matrix<float> x = normal_matrix(rows, cols, 5);
      matrix<float> values = normal_matrix(1, rows, 6);
      for (index_t i = 0; i < rows; ++i) values(0, i) = std::fabs(values(0, i));
      const auto device_values = cuda::to_device(values.view());
      for (const float power : {1.0F, 0.5F, -0.5F, 0.0F}) {
        matrix<float> expected = x;
        auto out = cuda::to_device(x.view());
        cpu_backend::scale_rows(expected, values, power);
        backend.scale_rows(out, device_values, power);
        CHECK(largest_difference(backend.to_host(out), expected) <= 1e-5);
      }
      std::vector<float> weights(static_cast<std::size_t>(cols));
      for (std::size_t j = 0; j < weights.size(); ++j) weights[j] = 0.3F + static_cast<float>(j);
      for (const bool invert : {false, true}) {
        matrix<float> expected = x;
        auto out = cuda::to_device(x.view());
        cpu_backend::scale_cols(expected, weights, invert);
        backend.scale_cols(out, weights, invert);
        CHECK(largest_difference(backend.to_host(out), expected) == 0);
        backend.scale_cols(out, {}, invert);
        CHECK(largest_difference(backend.to_host(out), expected) == 0);
      }
      for (int kind = 0; kind < 4; ++kind) {
        metric both;
        if ((kind & 1) != 0) both.row_weights.assign(static_cast<std::size_t>(rows), 1.7F);
        if ((kind & 2) != 0) both.col_weights = weights;
        matrix<float> expected = x;
        auto out = cuda::to_device(x.view());
        cpu_backend::apply_metric(both, expected);
        backend.apply_metric(both, out);
        CHECK(largest_difference(backend.to_host(out), expected) == 0);
      }
    }
  });
}

TEST_CASE("cuda_backend: metrics of equal sizes are told apart", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  std::vector<float> weights(5, 2.0F);
  auto x = cuda::to_device(matrix<float>(1, 5, 1.0F).view());
  backend.scale_cols(x, weights, false);
  weights.assign(5, 3.0F); // in the same memory
  backend.scale_cols(x, weights, false);
  CHECK(backend.to_host(x)(0, 4) == 6.0F);
}

TEST_CASE("cuda_backend: row_norms, dot and solve_gram equal the CPU's", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  in_every_order([&] {
    for (const auto& [rows, cols] : shapes) {
      CAPTURE(rows, cols);
      matrix<float> x = normal_matrix(rows, cols, 8);
      for (index_t j = 0; j < cols; ++j) x(0, j) = 0.0F;
      const matrix<float> y = normal_matrix(rows, cols, 9);
      const matrix<float> norms = backend.to_host(backend.row_norms(cuda::to_device(x.view())));
      CHECK(norms(0, 0) == 1.0F);
      CHECK(largest_difference(norms, cpu_backend::row_norms(x)) <= 1e-6);
      const double expected = cpu_backend::dot(x, y);
      CHECK(
          is_near(backend.dot(cuda::to_device(x.view()), cuda::to_device(y.view())), expected, 1e-12 * 100));
    }
  });
  CHECK(backend.dot(spoilt(0, 3), spoilt(0, 3)) == 0.0);
  const matrix<float> large = normal_matrix(130, 257, 4, 1e18); // several pieces, squares beyond float
  CHECK(is_near(backend.dot(cuda::to_device(large.view()), cuda::to_device(large.view())),
                cpu_backend::dot(large, large), 1e-12 * cpu_backend::dot(large, large)));
  for (const auto& [r, k, c] :
       {std::tuple<index_t, index_t, index_t>{1, 1, 1}, {4, 9, 30}, {5, 30, 3}, {6, 6, 6}}) {
    for (const bool is_deficient : {false, true}) {
      CAPTURE(r, k, c, is_deficient);
      const matrix<float> basis = is_deficient ? dependent_rows(r, k) : normal_matrix(r, k, 13);
      matrix<float> expected(r, c); // rhs in the range of the Gram matrix, as the decomposer's is
      cpu_backend::gemm(transpose::yes, 1.0F, basis, normal_matrix(c, k, 14), 0.0F, expected);
      auto rhs = cuda::to_device(expected.view());
      cpu_backend::solve_gram(basis, expected);
      backend.solve_gram(cuda::to_device(basis.view()), rhs);
      double largest = 0;
      for (index_t i = 0; i < expected.size(); ++i)
        largest = std::max(largest, std::fabs(static_cast<double>(expected.data()[i])));
      CHECK(largest_difference(backend.to_host(rhs), expected) <= 1e-4 * largest);
    }
  }
}

TEMPLATE_TEST_CASE("cuda_backend: products are subtracted from weights with any strides", "[cuda]", float,
                   double) {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  in_every_order([&] {
    const auto& [rows, cols] = shapes[4];
    const matrix<float> w = normal_matrix(rows, cols, 21);
    for (const index_t rank : {0, 3}) {
      const matrix<float> left = normal_matrix(rank, rows, 22);
      const matrix<float> right = normal_matrix(rank, cols, 23);
      matrix<float> expected(rows, cols);
      cpu_backend::subtract_product(w.view(), left, right, expected);
      matrix<TestType> elements(rows, cols + 2);
      for (index_t i = 0; i < rows; ++i) {
        for (index_t j = 0; j < cols; ++j) elements(i, j) = static_cast<TestType>(w(i, j));
      }
      matrix<TestType> turned(cols, rows);
      for (index_t i = 0; i < rows; ++i) {
        for (index_t j = 0; j < cols; ++j) turned(j, i) = static_cast<TestType>(w(i, j));
      }
      const auto padded = cuda::to_device(elements.view());
      const auto transposed = cuda::to_device(turned.view());
      const auto plain = cuda::to_device(turned.view().transposed());
      for (const cuda::device_view<const TestType> weight :
           {cuda::device_view<const TestType>(plain.view()),
            cuda::device_view<const TestType>(transposed.view().transposed()),
            cuda::device_view<const TestType>(padded.data(), rows, cols, cols + 2)}) {
        auto out = spoilt(rows, cols);
        backend.subtract_product(weight, cuda::to_device(left.view()), cuda::to_device(right.view()), out);
        CHECK(largest_difference(backend.to_host(out), expected) <= 1e-5);
      }
    }
  });
}

TEST_CASE("cuda_backend: factors are stored as on the CPU, bit for bit", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  in_every_order([&] {
    for (const factor_storage storage :
         {factor_storage::fp32, factor_storage::fp16, factor_storage::int8, factor_storage::int4}) {
      for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {5, 70}, {3, 64}, {0, 9}}) {
        CAPTURE(to_string(storage), rows, cols);
        matrix<float> expected = normal_matrix(rows, cols, 81);
        auto factor = cuda::to_device(expected.view());
        round_factor(expected, storage);
        backend.store_factor(factor, storage);
        CHECK(largest_difference(backend.to_host(factor), expected) == 0);
      }
    }
  });
}

TEST_CASE("cuda_backend: a factor beyond fp16 is reported by the next call that waits", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  matrix<float> x = normal_matrix(3, 40, 82);
  const auto one = cuda::to_device(x.view());
  x(1, 7) = 1e6F;
  auto factor = cuda::to_device(x.view());
  const cuda_backend backend(on);
  backend.store_factor(factor, factor_storage::fp16);
  CHECK(report_of([&] {
          (void)backend.dot(one, one);
        }).says(status_code::unsupported, "a low-rank factor has the entry 1e+06, beyond the range of fp16"));
  CHECK(backend.dot(one, one) > 0); // once
  factor = cuda::to_device(x.view());
  backend.store_factor(factor, factor_storage::fp16);
  CHECK(cuda_backend(on).dot(one, one) > 0); // another backend knows nothing of it
}

TEST_CASE("cuda_backend: largest_of_columns finds magnitudes", "[cuda]") {
  if (!has_device()) return;
  const cuda::context on;
  const cuda_backend backend(on);
  in_every_order([&] {
    for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1}, {9, 64}, {5, 65}, {70, 3}}) {
      const matrix<float> x = normal_matrix(rows, cols, 83);
      const auto turned = cuda::to_device(x.view().transposed());
      const std::vector<float> found =
          backend.largest_of_columns(cuda::device_view<const float>(turned.view().transposed()));
      REQUIRE(static_cast<index_t>(found.size()) == cols);
      for (index_t j = 0; j < cols; ++j) {
        float expected = 0;
        for (index_t i = 0; i < rows; ++i) expected = std::max(expected, std::fabs(x(i, j)));
        CHECK(found[static_cast<std::size_t>(j)] == expected);
      }
    }
  });
}

TEST_CASE("context: what it makes is destroyed with it, and freed memory is kept", "[cuda]") {
  if (!has_device()) return;
  {
    const cuda::context on;
    auto x = spoilt(3, 4);
    (void)cuda_backend(on).orthonormalize_rows(x);
  }
#if !defined(__CUDACC__)
  CHECK(fake_device::num_live_allocations() == 0);
  CHECK(the_fake_device().live_handles == 0);
  CHECK(the_fake_device().kept_bytes == ~std::uint64_t{0});
  the_fake_device().has_device = false;
  CHECK(report_of([] { const cuda::context none; }).says(status_code::device_failure, ""));
  the_fake_device().has_device = true;
  CHECK(fake_device::num_live_allocations() == 0);
  CHECK(the_fake_device().live_handles == 0);
#endif
}
