// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "quantized_layers.hpp"

#include <qlr/train/detail/quantized_product.hpp>

#include <string_view>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::test::quantized_layers;
using qlr::train::detail::low_rank_view;
using qlr::train::detail::product_gradients;
using qlr::train::detail::quantized_product;

namespace {

/// Q, L, R, X and the gradient G of Y, and what the definitions make of them.
template <class T>
struct problem_of {
  problem_of(std::string_view format, const low_rank_shape& shape, bool is_smoothed = false)
      : parts{quantized_numbers(make_quantizer(format), shape.rows, shape.cols),
              random_numbers<float>(shape.rows, shape.rank, 2),
              random_numbers<float>(shape.rank, shape.cols, 3)},
        left(shape.rows, shape.rank), right(shape.rank, shape.cols),
        x(random_numbers<T>(shape.tokens, shape.cols, 4)), g(random_numbers<T>(shape.tokens, shape.rows, 5)) {
    parts.scale = 0.75F;
    random_source random(6);
    for (index_t j = 0; is_smoothed && j < shape.cols; ++j)
      parts.input_scales.push_back(static_cast<float>(std::exp(random.normal())));
    for (index_t i = 0; i < left.size(); ++i) left.data()[i] = static_cast<T>(parts.left.data()[i]);
    for (index_t i = 0; i < right.size(); ++i) right.data()[i] = static_cast<T>(parts.right.data()[i]);
  }

  [[nodiscard]] quantized_product<T> product() const {
    return quantized_product<T>(parts.quantized, parts.input_scales);
  }
  [[nodiscard]] low_rank_view<T> low_rank() const {
    return {left.view(), right.view(), static_cast<T>(parts.scale)};
  }
  [[nodiscard]] double scale() const { return static_cast<double>(parts.scale); }

  [[nodiscard]] matrix<double> y() const { return slow_multiply(widened(x), flipped(slow_weight(parts))); }
  [[nodiscard]] matrix<double> grad_x() const { return slow_multiply(widened(g), slow_weight(parts)); }
  [[nodiscard]] matrix<double> grad_weight() const { return slow_multiply(flipped(widened(g)), widened(x)); }
  [[nodiscard]] matrix<double> grad_left() const {
    return slow_multiply(grad_weight(), flipped(widened(right)), scale());
  }
  [[nodiscard]] matrix<double> grad_right() const {
    return slow_multiply(flipped(widened(left)), grad_weight(), scale());
  }

  decomposition parts;
  matrix<T> left;
  matrix<T> right;
  matrix<T> x;
  matrix<T> g;
};

/// Roundings of sums of up to 400 products of normal numbers, each sum rounded in another order: below 400
/// roundings of magnitudes of about 400.
template <class T>
constexpr double sum_tolerance = 400.0 * 400.0 * static_cast<double>(std::numeric_limits<T>::epsilon());

/// The four gradients, added to 2 where they are added.
template <class T>
struct targets {
  explicit targets(const problem_of<T>& p)
      : left(p.left.rows(), p.left.cols(), T{2}), right(p.right.rows(), p.right.cols(), T{2}),
        weight(p.left.rows(), p.right.cols(), T{2}), x(filled_with_nan<T>(p.x.rows(), p.x.cols())) {}

  [[nodiscard]] product_gradients<T> all() { return {left.view(), right.view(), weight.view(), x.view()}; }

  matrix<T> left;
  matrix<T> right;
  matrix<T> weight;
  matrix<T> x;
};

template <class T>
void check_added(const matrix<T>& found, const matrix<double>& expected) {
  const matrix<double> two(found.rows(), found.cols(), 2.0);
  CHECK(largest_difference(found, slow_add(expected, two)) <= sum_tolerance<T>);
}

template <class T>
void check_products(const problem_of<T>& p) {
  CAPTURE(p.parts.quantized.format_name(), p.x.rows(), p.parts.rows(), p.parts.cols(), p.parts.rank());
  const quantized_product<T> product = p.product();
  matrix<T> y = filled_with_nan<T>(p.x.rows(), p.parts.rows());
  product.forward(p.x.view(), p.low_rank(), y.view(), {});
  CHECK(largest_difference(y, p.y()) <= sum_tolerance<T>);
  targets<T> to(p);
  product.backward(p.x.view(), p.g.view(), p.low_rank(), to.all(), {});
  check_added(to.left, p.grad_left());
  check_added(to.right, p.grad_right());
  check_added(to.weight, p.grad_weight());
  CHECK(largest_difference(to.x, p.grad_x()) <= sum_tolerance<T>);
}

template <class T>
void check_all_shapes() {
  for (const low_rank_shape& shape : low_rank_shapes) {
    check_products(problem_of<T>("nf4", shape));
    check_products(problem_of<T>("uint3", shape, true));
  }
  for (const std::string_view format : {"int2", "minmax4", "nvfp4", "q4_0", "sign", "int8"})
    check_products(problem_of<T>(format, {3, 66, 130, 4}, true));
}

} // namespace

TEST_CASE("quantized product: in double it is that of triple loops, and so are its gradients",
          "[train][property]") {
  check_all_shapes<double>();
}

TEST_CASE("quantized product: the fused product in float is that of triple loops, and so are its gradients",
          "[train][property]") {
  check_all_shapes<float>();
}

TEST_CASE("quantized product: float and double agree to the rounding of float", "[train]") {
  const low_rank_shape shape{5, 70, 131, 3};
  const problem_of<float> narrow("nf4", shape, true);
  problem_of<double> wide("nf4", shape, true);
  wide.x = widened(narrow.x);
  matrix<float> y = filled_with_nan<float>(5, 70);
  matrix<double> expected = filled_with_nan<double>(5, 70);
  narrow.product().forward(narrow.x.view(), narrow.low_rank(), y.view(), {});
  wide.product().forward(wide.x.view(), wide.low_rank(), expected.view(), {});
  CHECK(largest_difference(y, expected) <= 1e-4); // 131 products of order one: 131 2^-24 131 would be 1e-3
}

TEMPLATE_TEST_CASE("quantized product: only the gradients that have memory are written", "[train]", float,
                   double) {
  using T = TestType;
  const problem_of<T> p("nf4", {4, 70, 65, 3});
  const quantized_product<T> product = p.product();
  targets<T> complete(p);
  product.backward(p.x.view(), p.g.view(), p.low_rank(), complete.all(), {});
  for (int which = 0; which < 5; ++which) { // 4: none
    targets<T> to(p);
    product_gradients<T> wanted;
    if (which == 0) wanted.left = to.left.view();
    if (which == 1) wanted.right = to.right.view();
    if (which == 2) wanted.weight = to.weight.view();
    if (which == 3) wanted.x = to.x.view();
    product.backward(p.x.view(), p.g.view(), p.low_rank(), wanted, {});
    const targets<T> untouched(p);
    CAPTURE(which);
    CHECK(has_equal_bytes(to.left, which == 0 ? complete.left : untouched.left));
    CHECK(has_equal_bytes(to.right, which == 1 ? complete.right : untouched.right));
    CHECK(has_equal_bytes(to.weight, which == 2 ? complete.weight : untouched.weight));
    CHECK(has_equal_bytes(to.x, which == 3 ? complete.x : untouched.x));
  }
}

TEMPLATE_TEST_CASE("quantized product: bits do not depend on the number of threads", "[train]", float,
                   double) {
  using T = TestType;
  const problem_of<T> p("nf4", {130, 600, 140, 9}); // three pieces of rows, several tiles of all else
  const quantized_product<T> product = p.product();
  matrix<T> first_y;
  std::vector<targets<T>> first;
  for (const int threads : {1, 2, 3}) {
    thread_pool pool(threads);
    matrix<T> y = filled_with_nan<T>(130, 600);
    product.forward(p.x.view(), p.low_rank(), y.view(), pool);
    targets<T> to(p);
    product.backward(p.x.view(), p.g.view(), p.low_rank(), to.all(), pool);
    if (threads == 1) {
      first_y = y;
      first.push_back(to);
    }
    CAPTURE(threads);
    CHECK(has_equal_bytes(y, first_y));
    CHECK(has_equal_bytes(to.left, first[0].left));
    CHECK(has_equal_bytes(to.right, first[0].right));
    CHECK(has_equal_bytes(to.weight, first[0].weight));
    CHECK(has_equal_bytes(to.x, first[0].x));
  }
}

TEMPLATE_TEST_CASE("quantized product: rows of wider matrices are operands too", "[train]", float, double) {
  using T = TestType;
  const problem_of<T> p("nf4", {3, 66, 9, 2});
  const quantized_product<T> product = p.product();
  matrix<T> y = filled_with_nan<T>(3, 66);
  targets<T> expected(p);
  product.forward(p.x.view(), p.low_rank(), y.view(), {});
  product.backward(p.x.view(), p.g.view(), p.low_rank(), expected.all(), {});
  const matrix<float> rows_of_y = random_numbers<float>(3, 66, 1);
  const matrix<float> rows_of_x = random_numbers<float>(3, 9, 1);
  placed_matrix<T> wide_y(rows_of_y.view(), placement::padded_rows);
  placed_matrix<T> wide_grad(rows_of_x.view(), placement::padded_rows);
  placed_matrix<T> wide_x(rows_of_x.view(), placement::padded_rows);
  placed_matrix<T> wide_g(rows_of_y.view(), placement::padded_rows);
  const auto copy = [](const matrix<T>& from, matrix_view<T> to) {
    for (index_t i = 0; i < from.rows(); ++i) std::copy_n(from.view().row(i), from.cols(), to.row(i));
  };
  copy(p.x, wide_x.writable());
  copy(p.g, wide_g.writable());
  targets<T> to(p);
  product.forward(wide_x.view(), p.low_rank(), wide_y.writable(), {});
  product.backward(wide_x.view(), wide_g.view(), p.low_rank(),
                   {to.left.view(), to.right.view(), {}, wide_grad.writable()}, {});
  CHECK(has_equal_bytes(to.left, expected.left));
  CHECK(has_equal_bytes(to.right, expected.right));
  for (index_t t = 0; t < 3; ++t) {
    CHECK(std::equal(y.view().row(t), y.view().row(t) + 66, wide_y.view().row(t)));
    CHECK(std::equal(expected.x.view().row(t), expected.x.view().row(t) + 9, wide_grad.view().row(t)));
  }
}

TEST_CASE("quantized product: the matrix it was made from comes back, and its bytes are counted", "[train]") {
  const problem_of<float> p("uint4", {1, 64, 128, 0});
  const quantized_product<float> product = p.product();
  CHECK(has_same_bytes(product.quantized(), p.parts.quantized));
  CHECK(product.quantized().format_name() == "uint4");
  // 4-bit codes; 128 fp16 scales and as many zero points, packed as fp16, and a copy of the scales in fp16
  // and of the zero points in 4 bits. 64 rows are whole panels on every machine.
  CHECK(product.stored_bytes() == 64 * 64 + 2 * 128 + 2 * 128 + 2 * 128 + 64);
}

TEMPLATE_TEST_CASE("quantized product: refuses operands that do not fit, and says which", "[train]", float,
                   double) {
  using T = TestType;
  const problem_of<T> p("nf4", {2, 5, 4, 1});
  const quantized_product<T> product = p.product();
  matrix<T> x(2, 4);
  matrix<T> y(2, 5);
  const auto forward = [&](matrix_view<const T> from, matrix_view<T> to) {
    return report_of([&] { product.forward(from, p.low_rank(), to, {}); });
  };
  CHECK(forward({x.data(), 2, 3}, y.view())
            .says(status_code::shape_mismatch, "X is 2 x 3, the weight is 5 x 4"));
  CHECK(
      forward(x.view(), {y.data(), 1, 5}).says(status_code::shape_mismatch, "Y is 1 x 5, it must be 2 x 5"));
  CHECK(forward({x.data(), 2, 4, 1, 2}, y.view()).says(status_code::invalid_argument, "contiguous rows"));
  targets<T> to(p);
  const auto backward = [&](matrix_view<const T> grad, matrix_view<T> grad_x) {
    return report_of([&] { product.backward(x.view(), grad, p.low_rank(), {{}, {}, {}, grad_x}, {}); });
  };
  CHECK(backward({y.data(), 2, 4}, to.x.view()).says(status_code::shape_mismatch, "Y is 2 x 4"));
  CHECK(backward(y.view(), {to.x.data(), 1, 4}).says(status_code::shape_mismatch, "it must be 1 x 5"));
}
