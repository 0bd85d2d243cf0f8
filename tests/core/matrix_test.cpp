// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/core/matrix.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <concepts>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

static_assert(std::is_trivially_copyable_v<matrix_view<float>>);
static_assert(std::convertible_to<matrix_view<float>, matrix_view<const float>>);
static_assert(!std::convertible_to<matrix_view<const float>, matrix_view<float>>);
static_assert(!std::convertible_to<matrix_view<float, device_space>, matrix_view<const float>>);
static_assert(std::same_as<matrix_view<const float>::value_type, float>);
static_assert(std::is_nothrow_move_constructible_v<matrix<float>>);

TEST_CASE("matrix_view: element (i, j) lies at i row strides and j column strides", "[core]") {
  matrix<float> values(3, 5);
  for (index_t i = 0; i < 15; ++i) values.data()[i] = static_cast<float>(i);
  for (const placement where : all_placements) {
    CAPTURE(static_cast<int>(where));
    placed_matrix<double> placed(values.view(), where);
    const matrix_view<double> view = placed.writable();
    for (index_t i = 0; i < 3; ++i) {
      CHECK(view.row(i) == &view(i, 0));
      for (index_t j = 0; j < 5; ++j) {
        CHECK(view(i, j) == static_cast<double>(values(i, j)));
        CHECK(&view(i, j) == view.data() + i * view.row_stride() + j * view.col_stride());
      }
    }
    CHECK(view.has_contiguous_rows() == (where == placement::row_major || where == placement::padded_rows));
  }
}

TEST_CASE("matrix_view: a transposed view exchanges rows and columns of the same memory", "[core]") {
  matrix<float> values = normal_matrix(4, 7, 1);
  for (const placement where : all_placements) {
    placed_matrix<float> placed(values.view(), where);
    const matrix_view<float> view = placed.writable();
    const matrix_view<float> turned = view.transposed();
    REQUIRE(turned.rows() == 7);
    REQUIRE(turned.cols() == 4);
    for (index_t i = 0; i < 4; ++i) {
      for (index_t j = 0; j < 7; ++j) CHECK(&turned(j, i) == &view(i, j));
    }
    CHECK(turned.transposed().row_stride() == view.row_stride());
    CHECK(turned.transposed().col_stride() == view.col_stride());
  }
}

TEST_CASE("matrix_view: middle_rows keeps strides and shifts the first row", "[core]") {
  matrix<float> values = normal_matrix(6, 3, 2);
  placed_matrix<float> placed(values.view(), placement::every_other_element);
  const matrix_view<float> part = placed.writable().middle_rows(2, 3);
  REQUIRE(part.rows() == 3);
  REQUIRE(part.cols() == 3);
  for (index_t i = 0; i < 3; ++i) {
    for (index_t j = 0; j < 3; ++j) CHECK(part(i, j) == values(i + 2, j));
  }
  CHECK(placed.writable().middle_rows(6, 0).is_empty());
}

TEST_CASE("matrix_view: a default view is empty and sizes multiply", "[core]") {
  const matrix_view<const float> none;
  CHECK(none.is_empty());
  CHECK(none.size() == 0);
  CHECK(none.data() == nullptr);
  std::vector<float> memory(12);
  const matrix_view<float> view(memory.data(), 3, 4);
  CHECK(view.size() == 12);
  CHECK_FALSE(view.is_empty());
  CHECK(view.row_stride() == 4);
  CHECK(view.col_stride() == 1);
  CHECK(matrix_view<float>(memory.data(), 0, 4).is_empty());
  CHECK(matrix_view<float>(memory.data(), 4, 0).is_empty());
  CHECK(matrix_view<const float>(view).data() == memory.data());
}

TEST_CASE("matrix: is row-major and contiguous", "[core]") {
  matrix<int> values(3, 4, 7);
  CHECK(values.size() == 12);
  for (index_t i = 0; i < 12; ++i) CHECK(values.data()[i] == 7);
  values(1, 2) = 5;
  CHECK(values.data()[6] == 5);
  CHECK(std::as_const(values)(1, 2) == 5);
  CHECK(&values.view()(2, 3) == values.data() + 11);
  CHECK(std::as_const(values).view()(1, 2) == 5);
  values.fill(1);
  CHECK(values(1, 2) == 1);
}

TEST_CASE("matrix: a copy owns its elements and a moved-from matrix is empty", "[core]") {
  matrix<float> original = normal_matrix(2, 3, 3);
  const float first = original(0, 0);
  matrix<float> copy = original;
  copy(0, 0) = 100;
  CHECK(original(0, 0) == first);
  CHECK(copy(1, 2) == original(1, 2));

  const float* const data = original.data();
  matrix<float> moved = std::move(original);
  CHECK(moved.data() == data);
  CHECK(moved.rows() == 2);
  CHECK(original.rows() == 0); // NOLINT(bugprone-use-after-move): the state is documented
  CHECK(original.cols() == 0);

  original = copy;
  CHECK(original(0, 0) == 100.0F);
  matrix<float>& self = original;
  original = self;
  CHECK(original(0, 0) == 100.0F);
  const matrix<float> empty;
  original = empty;
  CHECK(original.size() == 0);
}

TEST_CASE("matrix: one dimension may be zero", "[core]") {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{0, 5}, {5, 0}, {0, 0}}) {
    matrix<float> empty(rows, cols);
    CHECK(empty.rows() == rows);
    CHECK(empty.cols() == cols);
    CHECK(empty.size() == 0);
    CHECK(empty.view().is_empty());
    CHECK(matrix<float>(empty).cols() == cols);
    empty.fill(1);
  }
}

TEST_CASE("matrix: impossible shapes are refused with both dimensions", "[core]") {
  const auto make = [](index_t rows, index_t cols) {
    return report_of([&] { matrix<float> unused(rows, cols); });
  };
  CHECK(make(-1, 5).says(status_code::invalid_argument, "matrix: shape is -1 x 5, both must be >= 0"));
  CHECK(make(5, -1).says(status_code::invalid_argument, "5 x -1"));
  const index_t huge = std::numeric_limits<index_t>::max();
  CHECK(make(huge, 2).says(status_code::invalid_argument, "exceeds the address space"));
  CHECK(make(2, huge).says(status_code::invalid_argument, "exceeds the address space"));
  CHECK(make(huge / 4 + 1, 1).says(status_code::invalid_argument, "exceeds the address space"));
  CHECK(make(index_t{1} << 32, index_t{1} << 32)
            .says(status_code::invalid_argument, "4294967296 x 4294967296"));
  CHECK(make(huge, 0).message.empty());
  CHECK(make(0, huge).message.empty());
}
