// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/detail/weight_rows.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>
#include <train/layers.hpp>

#include <atomic>
#include <cmath>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train::detail;

namespace {

/// W_hat(i, j) = base(i, j) * factor(j): every row has a share in the gradient of the factors.
template <class T>
class scaled_columns {
public:
  using compute_type = T;

  matrix<T> base;
  matrix<T> factor;           // (1,n)
  matrix<T> base_gradient;    // (m,n)
  matrix<T> factor_gradient;  // (1,n)
  std::vector<index_t> order; ///< first rows of the tiles, in the order in which their sums were added
  mutable std::atomic<bool> is_misused = false;

  scaled_columns(index_t rows, index_t cols)
      : base(normal_numbers<T>(rows, cols, 1)), factor(normal_numbers<T>(1, cols, 2)),
        base_gradient(rows, cols, T{0}), factor_gradient(1, cols, T{0}) {}

  [[nodiscard]] index_t rows() const { return base.rows(); }
  [[nodiscard]] index_t cols() const { return base.cols(); }

  struct tile {
    tile(index_t rows, index_t cols) : weight(rows, cols) {}
    matrix<T> weight;
    index_t first = -1;
  };
  struct shared_sums {
    matrix<T> factor;
    std::vector<index_t> firsts;
  };

  void load(index_t first, tile& rows) const {
    if (rows.weight.rows() < 1 || rows.weight.rows() > tile_rows) is_misused = true;
    if (rows.weight.cols() != cols() || first + rows.weight.rows() > base.rows()) is_misused = true;
    rows.first = first;
    for (index_t i = 0; i < rows.weight.rows(); ++i) {
      for (index_t j = 0; j < cols(); ++j) rows.weight(i, j) = base(first + i, j) * factor(0, j);
    }
  }
  [[nodiscard]] shared_sums sums() const { return {matrix<T>(1, cols(), T{0}), {}}; }
  void add_gradient(index_t first, const tile& rows, matrix_view<const T> gradient, shared_sums& sums) {
    if (rows.first != first || gradient.rows() != rows.weight.rows() || gradient.cols() != cols())
      is_misused = true;
    sums.firsts.push_back(first);
    for (index_t i = 0; i < gradient.rows(); ++i) {
      for (index_t j = 0; j < cols(); ++j) {
        base_gradient(first + i, j) += gradient(i, j) * factor(0, j);
        sums.factor(0, j) += gradient(i, j) * base(first + i, j);
      }
    }
  }
  void add(const shared_sums& sums) {
    order.insert(order.end(), sums.firsts.begin(), sums.firsts.end());
    add_to(factor_gradient, sums.factor);
  }

  [[nodiscard]] matrix<double> weight() const {
    matrix<double> result(rows(), cols());
    for (index_t i = 0; i < rows(); ++i) {
      for (index_t j = 0; j < cols(); ++j)
        result(i, j) = static_cast<double>(base(i, j)) * static_cast<double>(factor(0, j));
    }
    return result;
  }
};

static_assert(row_weight<scaled_columns<float>> && row_weight<scaled_columns<double>>);

/// Checks both gradients of the weight against those of a gradient of W_hat.
void check_gradients(const scaled_columns<double>& weight, const matrix<double>& grad_weight) {
  // Sums over at most 2100 rows of products of a few numbers, in double.
  constexpr double tolerance = 1e-10;
  for (index_t j = 0; j < weight.cols(); ++j) {
    double sum = 0;
    for (index_t i = 0; i < weight.rows(); ++i) {
      sum += grad_weight(i, j) * weight.base(i, j);
      const double expected = grad_weight(i, j) * weight.factor(0, j);
      if (!is_near(weight.base_gradient(i, j), expected, tolerance)) FAIL("gradient of a row's own number");
    }
    if (!is_near(weight.factor_gradient(0, j), sum, tolerance)) FAIL("gradient of what rows share");
  }
}

void check_order(const std::vector<index_t>& order, index_t rows) {
  REQUIRE(static_cast<index_t>(order.size()) == (rows + 63) / 64);
  for (std::size_t k = 0; k < order.size(); ++k) CHECK(order[k] == 64 * static_cast<index_t>(k));
}

template <class T>
struct results {
  matrix<T> y;
  matrix<T> grad_x;
  matrix<T> base_gradient;
  matrix<T> factor_gradient;
};

template <class T>
results<T> run_all(const layer_shape& shape, const executor& run = {}) {
  scaled_columns<T> weight(shape.rows, shape.cols);
  const matrix<T> x = normal_numbers<T>(shape.tokens, shape.cols, 3);
  const matrix<T> grad_y = normal_numbers<T>(shape.tokens, shape.rows, 4);
  results<T> found{unset<T>(shape.tokens, shape.rows), unset<T>(shape.tokens, shape.cols), {}, {}};
  multiply_rows(weight, x.view(), found.y.view(), run);
  differentiate_rows(weight, x.view(), grad_y.view(), found.grad_x.view(), run);
  CHECK_FALSE(weight.is_misused);
  check_order(weight.order, shape.rows);
  found.base_gradient = weight.base_gradient;
  found.factor_gradient = weight.factor_gradient;
  return found;
}

} // namespace

TEST_CASE("rows_per_piece: there are at most eight pieces of whole tiles", "[train]") {
  CHECK(rows_per_piece(1) == 256);
  CHECK(rows_per_piece(257) == 256);
  CHECK(rows_per_piece(2048) == 256);
  CHECK(rows_per_piece(2049) == 320);
  CHECK(rows_per_piece(2100) == 320);
  for (index_t rows = 1; rows < 20000; rows += 37) {
    const index_t piece = rows_per_piece(rows);
    CAPTURE(rows, piece);
    REQUIRE(piece % tile_rows == 0);
    REQUIRE(piece >= 256);
    REQUIRE((rows + piece - 1) / piece <= 8);
  }
}

TEMPLATE_TEST_CASE("multiply_rows: Y is X times the rows that are made a tile at a time", "[train]", float,
                   double) {
  for (const layer_shape& shape : layer_shapes) {
    CAPTURE(shape.tokens, shape.rows, shape.cols);
    scaled_columns<TestType> weight(shape.rows, shape.cols);
    const matrix<TestType> x = normal_numbers<TestType>(shape.tokens, shape.cols, 3);
    matrix<TestType> y = unset<TestType>(shape.tokens, shape.rows);
    multiply_rows(weight, x.view(), y.view(), {});
    check_product(y.view(), to_double(x.view()), weight.weight());
    CHECK_FALSE(weight.is_misused);
  }
}

TEST_CASE("differentiate_rows: gradients of rows, of what they share and of X equal the definition",
          "[train]") {
  std::vector<layer_shape> shapes(std::begin(layer_shapes), std::end(layer_shapes));
  shapes.push_back({2, 2100, 3});
  for (const layer_shape& shape : shapes) {
    CAPTURE(shape.tokens, shape.rows, shape.cols);
    scaled_columns<double> weight(shape.rows, shape.cols);
    const matrix<double> x = normal_numbers<double>(shape.tokens, shape.cols, 3);
    const matrix<double> grad_y = normal_numbers<double>(shape.tokens, shape.rows, 4);
    matrix<double> grad_x = unset<double>(shape.tokens, shape.cols);
    differentiate_rows(weight, x.view(), grad_y.view(), grad_x.view(), {});
    CHECK_FALSE(weight.is_misused);
    check_order(weight.order, shape.rows);
    check_product(grad_x.view(), grad_y, transpose(weight.weight()));
    matrix<double> grad_weight(shape.rows, shape.cols);
    for (index_t i = 0; i < shape.rows; ++i) {
      for (index_t j = 0; j < shape.cols; ++j)
        grad_weight(i, j) = entry_of_product(transpose(grad_y), transpose(x), i, j).value;
    }
    check_gradients(weight, grad_weight);
  }
}

TEST_CASE("differentiate_rows: without a view for it the gradient of X is left out", "[train]") {
  const layer_shape shape{3, 300, 5};
  scaled_columns<double> weight(shape.rows, shape.cols);
  const matrix<double> x = normal_numbers<double>(shape.tokens, shape.cols, 3);
  const matrix<double> grad_y = normal_numbers<double>(shape.tokens, shape.rows, 4);
  differentiate_rows(weight, x.view(), grad_y.view(), matrix_view<double>{}, {});
  const results<double> with = run_all<double>(shape);
  CHECK(has_same_bits(weight.base_gradient, with.base_gradient));
  CHECK(has_same_bits(weight.factor_gradient, with.factor_gradient));
}

TEMPLATE_TEST_CASE("differentiate_rows: the bits do not depend on the number of threads", "[train][threads]",
                   float, double) {
  // Two pieces, and seven of 320 rows.
  for (const layer_shape& shape : {layer_shape{5, 300, 33}, {3, 2100, 9}}) {
    CAPTURE(shape.rows);
    const results<TestType> serial = run_all<TestType>(shape);
    for (const int num_threads : {1, 2, 3}) {
      CAPTURE(num_threads);
      thread_pool pool(num_threads);
      const results<TestType> found = run_all<TestType>(shape, pool);
      CHECK(has_same_bits(found.y, serial.y));
      CHECK(has_same_bits(found.grad_x, serial.grad_x));
      CHECK(has_same_bits(found.base_gradient, serial.base_gradient));
      CHECK(has_same_bits(found.factor_gradient, serial.factor_gradient));
    }
  }
}

TEST_CASE("differentiate_rows: the bits do not depend on the order of the pieces", "[train]") {
  const layer_shape shape{3, 2100, 9};
  auto backwards = [](index_t num_tasks, task_ref task) {
    for (index_t i = num_tasks; i-- > 0;) task(i);
  };
  const results<float> serial = run_all<float>(shape);
  const results<float> found = run_all<float>(shape, backwards);
  CHECK(has_same_bits(found.y, serial.y));
  CHECK(has_same_bits(found.grad_x, serial.grad_x));
  CHECK(has_same_bits(found.factor_gradient, serial.factor_gradient));
}

TEST_CASE("multiply_rows: a weight without rows or columns gives nothing or zeros", "[train]") {
  scaled_columns<float> no_cols(70, 0);
  const matrix<float> no_x(3, 0);
  matrix<float> y = unset<float>(3, 70);
  multiply_rows(no_cols, no_x.view(), y.view(), {});
  for (index_t i = 0; i < y.size(); ++i) CHECK(y.data()[i] == 0);

  scaled_columns<float> no_rows(0, 4);
  const matrix<float> x = normal_numbers<float>(3, 4, 1);
  const matrix<float> no_y(3, 0);
  matrix<float> grad_x = unset<float>(3, 4);
  differentiate_rows(no_rows, x.view(), no_y.view(), grad_x.view(), {});
  for (index_t i = 0; i < grad_x.size(); ++i) CHECK(grad_x.data()[i] == 0);
}
