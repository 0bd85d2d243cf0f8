// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// A model uses its buffers again; this file replaces the allocation functions of its program.
#include "toy_model.hpp"

#include <support/catch.hpp>

#include <atomic>
#include <cstdlib>
#include <new>
#include <span>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

std::atomic<long> num_allocations{0};

/// W (m,n) that does not learn and takes no memory for a product.
class plain_layer {
public:
  using compute_type = float;

  explicit plain_layer(matrix_view<const float> weight) : weight_(weight.rows(), weight.cols()) {
    for (index_t i = 0; i < weight.rows(); ++i)
      for (index_t j = 0; j < weight.cols(); ++j) weight_(i, j) = weight(i, j);
  }
  [[nodiscard]] index_t rows() const { return weight_.rows(); }
  [[nodiscard]] index_t cols() const { return weight_.cols(); }
  void forward(matrix_view<const float> x, matrix_view<float> y, const executor& /*run*/) const {
    for (index_t t = 0; t < x.rows(); ++t)
      for (index_t i = 0; i < rows(); ++i) y(t, i) = dot_product(weight_.view().row(i), x.row(t), cols());
  }
  void backward(matrix_view<const float> /*x*/, matrix_view<const float> grad_y, matrix_view<float> grad_x,
                const executor& /*run*/) const {
    for (index_t t = 0; t < grad_x.rows(); ++t) {
      for (index_t j = 0; j < cols(); ++j) {
        grad_x(t, j) = 0;
        for (index_t i = 0; i < rows(); ++i) grad_x(t, j) += grad_y(t, i) * weight_(i, j);
      }
    }
  }
  [[nodiscard]] std::vector<train::parameter_view<float>> parameters(const std::string& /*prefix*/) {
    return {};
  }
  [[nodiscard]] index_t stored_bytes() const { return 0; }
  template <class Archive>
  void visit_state(Archive& /*archive*/, const std::string& /*prefix*/) {}

private:
  matrix<float> weight_;
};

void* allocate(std::size_t size, std::size_t alignment) {
  ++num_allocations;
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  if (void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded)) return memory;
  throw std::bad_alloc();
}

} // namespace

void* operator new(std::size_t size) {
  return allocate(size, alignof(std::max_align_t));
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

TEST_CASE("transformer: batches that are not larger than one before allocate nothing", "[finetune]") {
  const model_config config = toy_config(1);
  const layer_factory<float> make = [](index_t, linear_layer, matrix_view<const float> weight) {
    return train::any_layer<float>(plain_layer(weight));
  };
  transformer<float> model(toy_weights(config), make, trained_parts::everything);
  const toy_batch large({3, 20}, config);
  const toy_batch small({4, 5}, config);
  const auto pass = [&](const toy_batch& batch) {
    const long before = num_allocations;
    (void)model.forward(batch.view());
    model.backward();
    (void)model.evaluate(batch.view());
    (void)model.logits(batch.shape, batch.tokens);
    return num_allocations - before;
  };
  CHECK(pass(large) > 0);
  CHECK(pass(large) == 0);
  CHECK(pass(small) == 0);
  CHECK(pass(large) == 0);
}
