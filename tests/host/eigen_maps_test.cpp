// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/host/eigen_maps.hpp>

#include <support/catch.hpp>

#include <vector>

using namespace qlr;

namespace {

template <class Derived>
void check_view(const Eigen::DenseBase<Derived>& x) {
  const matrix_view<const typename Derived::Scalar> view = host::view_of(x);
  REQUIRE(view.rows() == x.rows());
  REQUIRE(view.cols() == x.cols());
  for (index_t i = 0; i < x.rows(); ++i) {
    for (index_t j = 0; j < x.cols(); ++j) CHECK(&view(i, j) == &x.derived().coeffRef(i, j));
  }
}

} // namespace

TEMPLATE_TEST_CASE("view_of: every element of a matrix, map or block has the address Eigen gives it",
                   "[host]", float, double) {
  using row_major = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using col_major = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic>;
  using strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  row_major a = row_major::Random(5, 7);
  col_major b = col_major::Random(5, 7);
  check_view(a);
  check_view(b);
  check_view(a.transpose());
  check_view(a.block(1, 2, 3, 4));
  check_view(b.block(1, 2, 3, 4));
  check_view(b.block(1, 2, 3, 4).transpose());
  check_view(a.row(2));
  check_view(b.row(2));
  check_view(a.col(3));
  check_view(b.col(3));
  check_view(a.array());
  check_view(Eigen::Matrix<TestType, 2, 3>(Eigen::Matrix<TestType, 2, 3>::Zero()));
  std::vector<TestType> memory(200);
  check_view(Eigen::Map<row_major>(memory.data(), 4, 6));
  check_view(Eigen::Map<const col_major>(memory.data(), 4, 6));
  check_view(Eigen::Map<row_major, 0, strides>(memory.data(), 4, 6, strides(20, 3)));
  check_view(Eigen::Map<col_major, 0, strides>(memory.data(), 4, 6, strides(20, 3)));
  check_view(Eigen::Map<col_major, 0, strides>(memory.data(), 4, 6, strides(20, 3)).block(1, 1, 2, 3));
  check_view(Eigen::Ref<col_major>(b));
}

TEST_CASE("view_of: an empty matrix gives an empty view", "[host]") {
  CHECK(host::view_of(Eigen::MatrixXf(0, 3)).is_empty());
  CHECK(host::view_of(Eigen::MatrixXf(3, 0)).is_empty());
}

TEST_CASE("map: a matrix and its map share memory, plain and transposed", "[host]") {
  matrix<float> x(3, 4);
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i);
  CHECK(host::map(x)(1, 2) == x(1, 2));
  CHECK(host::map_transposed(x)(2, 1) == x(1, 2));
  CHECK(host::map_transposed(x).rows() == 4);
  host::map(x)(2, 3) = -1.0F;
  CHECK(x(2, 3) == -1.0F);
  const matrix<float>& read_only = x;
  CHECK(host::map(read_only)(2, 3) == -1.0F);
  CHECK(host::map_transposed(read_only)(3, 2) == -1.0F);
}
