// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/matmul.hpp>

#include <qlr/matmul/prepack.hpp>
#include <qlr/quant/formats.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/matmul.hpp>

#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using col_major = Eigen::MatrixXf;
using strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;

constexpr index_t rows = 37;
constexpr index_t cols = 50;
constexpr index_t tokens = 5;

packed_weights make_weights() {
  const matrix<float> weight = normal_matrix(rows, cols, 1);
  const quantized_matrix q = quantize(weight.view(), make_quantizer("nf4"));
  return prepack(q.view(), normal_matrix(rows, 3, 2).view(), normal_matrix(3, cols, 3).view(), 0.5F,
                 isa::scalar);
}

/// Packed weights, X, and Y as the product of views gives it.
struct problem {
  packed_weights w = make_weights();
  row_major x = host::map(normal_matrix(tokens, cols, 4));
  row_major y = row_major(tokens, rows);

  problem() { matmul<float>(w, {x.data(), tokens, cols}, {y.data(), tokens, rows}); }
};

} // namespace

TEST_CASE("matmul: Eigen matrices of either order give the bits of views", "[host]") {
  const problem p;
  REQUIRE(p.y.norm() > 0);
  const col_major x = p.x;
  row_major y_rows(tokens, rows);
  col_major y_cols(tokens, rows);
  matmul(p.w, p.x, y_rows);
  matmul(p.w, x, y_cols);
  CHECK(y_rows == p.y);
  CHECK(y_cols == p.y);
  matmul_workspace workspace(p.w, tokens, precision::int8);
  row_major expected(tokens, rows);
  matmul<float>(p.w, {p.x.data(), tokens, cols}, {expected.data(), tokens, rows}, {.mode = precision::int8},
                workspace);
  matmul(p.w, x, y_rows, {.mode = precision::int8}, workspace);
  CHECK(y_rows == expected);
  CHECK(y_rows != p.y);
}

TEST_CASE("matmul: a matrix of its own is resized, a map or block is not", "[host]") {
  const problem p;
  row_major y;
  matmul(p.w, p.x, y);
  CHECK(y == p.y);
  const float* memory = y.data();
  matmul(p.w, p.x.topRows(tokens), y);
  CHECK(y.data() == memory);
  row_major other(tokens, rows + 1);
  CHECK_THROWS_AS(matmul(p.w, p.x, other.leftCols(rows - 1)), error);
  CHECK_THROWS_AS(matmul(p.w, p.x, Eigen::Map<row_major>(other.data(), tokens + 1, rows)), error);
}

TEST_CASE("matmul: blocks, maps with strides and refs are read and written in place", "[host]") {
  const problem p;
  col_major big_x = col_major::Constant(tokens + 3, cols + 4, 7.0F);
  big_x.block(2, 1, tokens, cols) = p.x;
  col_major big_y = col_major::Constant(tokens + 2, rows + 5, -3.0F);
  matmul(p.w, big_x.block(2, 1, tokens, cols), big_y.block(1, 4, tokens, rows));
  CHECK(big_y.block(1, 4, tokens, rows) == p.y);
  big_y.block(1, 4, tokens, rows).setConstant(-3.0F);
  CHECK((big_y.array() == -3.0F).all());

  std::vector<float> memory(static_cast<std::size_t>(3 * tokens * (rows + 1)), 9.0F);
  const Eigen::Map<row_major, 0, strides> map(memory.data(), tokens, rows, strides(3 * rows + 2, 3));
  matmul(p.w, Eigen::Ref<const row_major>(p.x), map); // the map is const, not what it refers to
  CHECK(map == p.y);
  CHECK(memory[1] == 9.0F);
  CHECK(memory[static_cast<std::size_t>(3 * rows)] == 9.0F);

  col_major transposed(rows, tokens);
  matmul(p.w, p.x, transposed.transpose());
  CHECK(transposed.transpose() == p.y);
}

TEST_CASE("matmul: a column vector is one token", "[host]") {
  const problem p;
  const Eigen::VectorXf x = p.x.row(1);
  Eigen::VectorXf y;
  matmul(p.w, x, y);
  CHECK(y == p.y.row(1).transpose());
  row_major as_row;
  matmul(p.w, x, as_row);
  CHECK(as_row == p.y.row(1));
  Eigen::RowVectorXf row(rows);
  matmul(p.w, p.x.row(1), row);
  CHECK(row == p.y.row(1));
  CHECK_THROWS_AS(matmul(p.w, p.x, y), error);
}

TEST_CASE("matmul: refuses shapes that do not fit and X in the memory of Y", "[host]") {
  const problem p;
  row_major y(2, 2);
  y.setConstant(4.0F);
  CHECK_THROWS_AS(matmul(p.w, p.x.leftCols(cols - 1), y), error);
  CHECK((y.rows() == 2 && y(1, 1) == 4.0F));
  row_major both = row_major::Zero(tokens + rows, cols + rows);
  // Resizing `both` would free what X refers to.
  CHECK_THROWS_AS(matmul(p.w, both.topLeftCorner(tokens, cols), both), error);
  CHECK(both.rows() == tokens + rows);
}
