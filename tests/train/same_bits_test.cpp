// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/dense_layer.hpp>
#include <qlr/train/lr_qat_layer.hpp>
#include <qlr/train/lrq_layer.hpp>

#include <io/support.hpp>
#include <qlr/train/optimizer.hpp>
#include <qlr/train/state.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <train/rounding_examples.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

template <class Layer>
inline constexpr bool is_dense = false;
template <class Storage>
inline constexpr bool is_dense<dense_layer<Storage>> = true;

/// A layer of that many rows whose weights are undecided wherever they are rounded.
template <class Layer>
Layer layer_for(const layer_shape& shape, index_t rank) {
  if constexpr (is_dense<Layer>) {
    const matrix<float> weight = normal_matrix(shape.rows, shape.cols, 7);
    return Layer(weight.view());
  } else {
    const matrix<float> weight = weight_like_matrix(shape.rows, shape.cols, 7);
    const quantized_matrix start = quantized_start(weight, "uint3", group_per_row);
    Layer layer = make_layer<Layer>(undecided_weight<Layer>(start, rank), start, rank);
    move(layer);
    return layer;
  }
}

/// A matrix that begins `offset` numbers behind what the system gives.
template <class T>
class shifted_matrix {
public:
  shifted_matrix(index_t rows, index_t cols, index_t offset)
      : memory_(static_cast<std::size_t>(rows * cols + offset)), view_(memory_.data() + offset, rows, cols) {}
  [[nodiscard]] matrix_view<T> view() { return view_; }

private:
  std::vector<T> memory_;
  matrix_view<T> view_;
};

template <class T>
matrix<T> copy_of(matrix_view<T> values) {
  matrix<T> result(values.rows(), values.cols());
  for (index_t i = 0; i < values.rows(); ++i) {
    for (index_t j = 0; j < values.cols(); ++j) result(i, j) = values(i, j);
  }
  return result;
}

template <class T>
struct outputs {
  matrix<T> y;
  matrix<T> grad_x;
  named_numbers gradients;
};

/// One forward and backward pass with operands that begin `offset` numbers later.
template <class Layer>
outputs<typename Layer::compute_type> run_once(const layer_shape& shape, index_t rank, index_t offset = 0,
                                               const executor& run = {}) {
  using number = typename Layer::compute_type;
  Layer layer = layer_for<Layer>(shape, rank);
  random_source random(61);
  shifted_matrix<number> x(shape.tokens, shape.cols, offset);
  shifted_matrix<number> grad_y(shape.tokens, shape.rows, offset);
  shifted_matrix<number> y(shape.tokens, shape.rows, offset);
  shifted_matrix<number> grad_x(shape.tokens, shape.cols, offset);
  for (const matrix_view<number>& input : {x.view(), grad_y.view()}) {
    for (index_t i = 0; i < input.size(); ++i) input.data()[i] = static_cast<number>(random.normal());
  }
  // Blocks of odd sizes move what the layer takes from the system, too.
  std::vector<std::unique_ptr<char[]>> held;
  for (index_t i = 0; i < offset; ++i)
    held.push_back(std::make_unique<char[]>(static_cast<std::size_t>(16 + 16 * random.below(40))));
  layer.forward(x.view(), y.view(), run);
  for (std::size_t i = 0; i < held.size(); i += 2) held[i].reset();
  layer.backward(x.view(), grad_y.view(), grad_x.view(), run);
  return {copy_of(y.view()), copy_of(grad_x.view()), gradients_of(layer)};
}

template <class T>
void check_same(const outputs<T>& found, const outputs<T>& expected) {
  CHECK(has_same_bits(found.y, expected.y));
  CHECK(has_same_bits(found.grad_x, expected.grad_x));
  for (const auto& [name, gradient] : expected.gradients) {
    CAPTURE(name);
    CHECK(has_same_bits(found.gradients.at(name), gradient));
  }
}

/// Tiny ones, which Eigen multiplies in another way, one token, and several tiles with a short last one.
constexpr layer_shape shapes[] = {{3, 4, 5}, {1, 7, 9}, {2, 5, 11}, {1, 70, 33}, {5, 70, 33}, {9, 130, 67}};

} // namespace

TEMPLATE_TEST_CASE("layers: the bits do not depend on where matrices lie in memory", "[train]",
                   dense_layer<float>, dense_layer<double>, lrq_layer<float>, lrq_layer<double>,
                   lr_qat_layer<float>, lr_qat_layer<bfloat16>) {
  for (const layer_shape& shape : shapes) {
    CAPTURE(shape.tokens, shape.rows, shape.cols);
    const auto expected = run_once<TestType>(shape, 3);
    for (index_t offset = 1; offset < 20; ++offset) {
      CAPTURE(offset);
      check_same(run_once<TestType>(shape, 3, offset), expected);
    }
  }
}

TEMPLATE_TEST_CASE("layers: the bits do not depend on the number of threads", "[train][threads]",
                   lrq_layer<float>, lrq_layer<bfloat16>, lr_qat_layer<float>, lr_qat_layer<bfloat16>) {
  for (const layer_shape& shape : {layer_shape{5, 300, 33}, {3, 2100, 17}}) {
    CAPTURE(shape.rows);
    const auto expected = run_once<TestType>(shape, 4);
    for (const int num_threads : {1, 2, 3}) {
      CAPTURE(num_threads);
      thread_pool pool(num_threads);
      check_same(run_once<TestType>(shape, 4, num_threads, pool), expected);
    }
  }
}

TEMPLATE_TEST_CASE("layers: training that is saved and restored continues with the same bits", "[train]",
                   dense_layer<bfloat16>, lrq_layer<float>, lrq_layer<bfloat16>, lr_qat_layer<float>,
                   lr_qat_layer<bfloat16>) {
  using number = typename TestType::compute_type;
  const layer_shape shape{6, 66, 21};
  const temporary_directory folder;
  const std::string path = folder.file("state");
  const matrix<number> x = normal_numbers<number>(shape.tokens, shape.cols, 71);
  const auto train_steps = [&](TestType& layer, adamw<number>& optimizer, index_t count) {
    for (index_t step = 0; step < count; ++step) {
      const auto views = layer.parameters();
      zero_gradients<number>(views);
      matrix<number> y = unset<number>(shape.tokens, shape.rows);
      layer.forward(x.view(), y.view());
      layer.backward(x.view(), std::as_const(y).view(), {}); // towards an output of zeros
      optimizer.step(views, 0.01);
    }
  };
  const auto save_or_load = [](TestType& layer, adamw<number>& optimizer) {
    return [&](auto& archive) {
      layer.visit_state(archive, "layer.");
      optimizer.visit_state(archive, "adamw.");
    };
  };
  TestType straight = layer_for<TestType>(shape, 4);
  const auto views = straight.parameters();
  adamw<number> optimizer(views, {.seed = 5});
  const named_numbers before = values_of(straight);
  train_steps(straight, optimizer, 4);
  save_state(path, save_or_load(straight, optimizer));
  const named_numbers saved = values_of(straight);
  train_steps(straight, optimizer, 5);
  CHECK_FALSE(has_same_bits(values_of(straight), saved));

  TestType resumed = layer_for<TestType>(shape, 4);
  const auto resumed_views = resumed.parameters();
  adamw<number> restored(resumed_views, {.seed = 5});
  train_steps(resumed, restored, 1); // must leave no trace
  load_state(path, save_or_load(resumed, restored));
  CHECK(has_same_bits(values_of(resumed), saved));
  train_steps(resumed, restored, 5);
  CHECK(has_same_bits(values_of(resumed), values_of(straight)));
}
