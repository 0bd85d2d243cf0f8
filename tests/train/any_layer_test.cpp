// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/train/any_layer.hpp>

#include <qlr/core/parallel.hpp>
#include <qlr/train/dense_layer.hpp>

#include <io/support.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::train;

namespace {

constexpr index_t num_rows = 5;
constexpr index_t num_cols = 7;
constexpr index_t num_tokens = 3;

template <class T>
matrix<T> as_type(const matrix<float>& values) {
  matrix<T> result(values.rows(), values.cols());
  for (index_t i = 0; i < values.size(); ++i) result.data()[i] = static_cast<T>(values.data()[i]);
  return result;
}

template <class T>
matrix<T> nan_matrix(index_t rows, index_t cols) {
  return {rows, cols, std::numeric_limits<T>::quiet_NaN()};
}

template <class T>
std::vector<T> numbers(matrix_view<const T> x) {
  return {x.data(), x.data() + x.size()};
}

template <class Storage>
dense_layer<Storage> some_layer(std::uint64_t seed = 1) {
  return dense_layer<Storage>(normal_matrix(num_rows, num_cols, seed).view());
}

/// Keeps what it was called with.
struct recording_layer {
  using compute_type = float;
  std::vector<std::string> calls;
  index_t tasks_run = 0;

  [[nodiscard]] index_t rows() const { return num_rows; }
  [[nodiscard]] index_t cols() const { return num_cols; }
  void forward(matrix_view<const float> /*x*/, matrix_view<float> y, const executor& run) const {
    auto task = [&](index_t i) { y(0, i) = static_cast<float>(i); };
    run(num_rows, task);
  }
  void backward(matrix_view<const float> /*x*/, matrix_view<const float> /*grad_y*/,
                matrix_view<float> grad_x, const executor& run) {
    calls.emplace_back(grad_x.data() == nullptr ? "backward without X" : "backward");
    auto task = [&](index_t /*i*/) { ++tasks_run; };
    run(num_rows, task);
  }
  [[nodiscard]] std::vector<parameter_view<float>> parameters(const std::string& prefix) {
    calls.push_back("parameters " + prefix);
    return {};
  }
  [[nodiscard]] index_t stored_bytes() const { return 11; }
  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    archive.number(prefix + "tasks_run", tasks_run);
    calls.push_back((Archive::is_loading() ? "load " : "visit ") + prefix);
  }
};

static_assert(!std::is_copy_constructible_v<any_layer<float>> &&
              !std::is_copy_assignable_v<any_layer<float>>);
static_assert(std::is_nothrow_move_constructible_v<any_layer<float>> &&
              std::is_nothrow_move_assignable_v<any_layer<float>>);
static_assert(!std::is_constructible_v<any_layer<float>, dense_layer<double>>);
static_assert(std::is_constructible_v<any_layer<float>, dense_layer<bfloat16>>);

} // namespace

TEMPLATE_TEST_CASE("any_layer: does what the layer in it does", "[train]", float, double, bfloat16) {
  using T = compute_t<TestType>;
  dense_layer<TestType> alone = some_layer<TestType>();
  any_layer<T> held = some_layer<TestType>();
  REQUIRE(held.rows() == num_rows);
  REQUIRE(held.cols() == num_cols);
  CHECK(held.stored_bytes() == alone.stored_bytes());
  const matrix<T> x = as_type<T>(normal_matrix(num_tokens, num_cols, 2));
  const matrix<T> grad_y = as_type<T>(normal_matrix(num_tokens, num_rows, 3));

  matrix<T> y = nan_matrix<T>(num_tokens, num_rows);
  matrix<T> expected_y = nan_matrix<T>(num_tokens, num_rows);
  std::as_const(held).forward(x.view(), y.view());
  alone.forward(x.view(), expected_y.view());
  CHECK(numbers<T>(y.view()) == numbers<T>(expected_y.view()));

  matrix<T> grad_x = nan_matrix<T>(num_tokens, num_cols);
  matrix<T> expected_grad_x = nan_matrix<T>(num_tokens, num_cols);
  held.backward(x.view(), grad_y.view(), grad_x.view());
  alone.backward(x.view(), grad_y.view(), expected_grad_x.view());
  CHECK(numbers<T>(grad_x.view()) == numbers<T>(expected_grad_x.view()));

  const auto parameters = held.parameters("block.");
  const auto expected = alone.parameters("block.");
  REQUIRE(parameters.size() == expected.size());
  CHECK(parameters[0].name == "block.weight");
  for (index_t i = 0; i < num_rows * num_cols; ++i) {
    CHECK(parameters[0].value(i) == expected[0].value(i));
    CHECK(parameters[0].gradient[i] == expected[0].gradient[i]);
  }
}

TEST_CASE("any_layer: passes the threads, an empty gradient and names on", "[train]") {
  any_layer<float> held = recording_layer{};
  index_t runs = 0;
  auto counting = [&](index_t count, task_ref task) {
    ++runs;
    for (index_t i = 0; i < count; ++i) task(i);
  };
  const executor run(counting);
  matrix<float> x(1, num_cols, 0.0F);
  matrix<float> y = nan_matrix<float>(1, num_rows);
  held.forward(x.view(), y.view(), run);
  CHECK(runs == 1);
  CHECK(y(0, 4) == 4.0F);
  held.backward(x.view(), y.view(), {}, run);
  CHECK(runs == 2);
  held.backward(x.view(), y.view(), x.view());
  CHECK(held.parameters("p.").empty());
  CHECK(held.stored_bytes() == 11);
  REQUIRE(held.target<recording_layer>() != nullptr);
  CHECK(held.target<recording_layer>()->calls ==
        std::vector<std::string>{"backward without X", "backward", "parameters p."});
}

TEST_CASE("any_layer: gives the layer out under its own type alone", "[train]") {
  any_layer<float> held = some_layer<float>();
  REQUIRE(held.target<dense_layer<float>>() != nullptr);
  CHECK(std::as_const(held).target<dense_layer<float>>() == held.target<dense_layer<float>>());
  CHECK(held.target<dense_layer<bfloat16>>() == nullptr);
  CHECK(std::as_const(held).target<recording_layer>() == nullptr);
  // What is changed through it is what computes.
  held.target<dense_layer<float>>()->parameters()[0].set_value(0, 8.0F);
  CHECK(held.parameters()[0].value(0) == 8.0F);
  any_layer<float> empty;
  CHECK(empty.target<dense_layer<float>>() == nullptr);
}

TEST_CASE("any_layer: moves without moving what it holds", "[train]") {
  any_layer<float> first = some_layer<float>();
  const auto* held = first.target<dense_layer<float>>();
  any_layer<float> second = std::move(first);
  CHECK(second.target<dense_layer<float>>() == held);
  CHECK_FALSE(first.has_value()); // NOLINT(bugprone-use-after-move)
  first = recording_layer{};
  CHECK(first.target<recording_layer>() != nullptr);
  first = std::move(second);
  CHECK(first.target<dense_layer<float>>() == held);
}

TEST_CASE("any_layer: an empty one says so", "[train]") {
  any_layer<float> empty;
  CHECK_FALSE(empty.has_value());
  matrix<float> x(1, 1, 0.0F);
  const auto refuses = [](auto&& call) {
    return report_of(call).says(status_code::invalid_argument, "any_layer is empty, it must hold a layer");
  };
  CHECK(refuses([&] { (void)empty.rows(); }));
  CHECK(refuses([&] { empty.forward(x.view(), x.view()); }));
  CHECK(refuses([&] { (void)empty.parameters(); }));
}

TEST_CASE("any_layer: its state is that of the layer", "[train]") {
  const temporary_directory directory;
  const std::string path = directory.file("state.safetensors");
  any_layer<float> saved = some_layer<bfloat16>(1);
  any_layer<float> loaded = some_layer<bfloat16>(2);
  save_state(path, [&](auto& archive) { saved.visit_state(archive, "layer."); });
  REQUIRE(loaded.parameters()[0].value(3) != saved.parameters()[0].value(3));
  load_state(path, [&](auto& archive) { loaded.visit_state(archive, "layer."); });
  for (index_t i = 0; i < num_rows * num_cols; ++i)
    CHECK(loaded.parameters()[0].value(i) == saved.parameters()[0].value(i));

  any_layer<float> other = some_layer<float>(3); // not bf16: the file must be refused before a number changes
  const float before = other.parameters()[0].value(0);
  CHECK_THROWS_AS(load_state(path, [&](auto& archive) { other.visit_state(archive, "layer."); }), error);
  CHECK(other.parameters()[0].value(0) == before);
}

TEST_CASE("any_layer: every archive reaches the layer's own visit_state", "[train]") {
  const temporary_directory directory;
  const std::string path = directory.file("state.safetensors");
  any_layer<float> held = recording_layer{{}, 4};
  const auto visit = [&](auto& archive) { held.visit_state(archive, "a."); };
  save_state(path, visit);
  auto& layer = *held.target<recording_layer>();
  layer.tasks_run = 0;
  load_state(path, visit);
  CHECK(layer.tasks_run == 4);
  CHECK(layer.calls == std::vector<std::string>{"visit a.", "visit a.", "load a."});
}
