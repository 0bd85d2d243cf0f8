// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/transformer.hpp>

#include <qlr/host/covariance.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/train/dense_layer.hpp>
#include <qlr/train/lr_qat_layer.hpp>
#include <qlr/train/lrq_layer.hpp>
#include <qlr/train/reconstruct_output.hpp>

#include <support/catch.hpp>
#include <support/decompose.hpp>
#include <support/matmul.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace {

using qlr::index_t;
using weight_view = qlr::matrix_view<const float>;

/// A block as a layer of its own, for reconstruct_output.
struct block_layer {
  using compute_type = float;

  transformer_block<float>* block;
  batch_shape shape;
  index_t dim;

  [[nodiscard]] index_t rows() const { return dim; }
  [[nodiscard]] index_t cols() const { return dim; }
  void forward(weight_view x, qlr::matrix_view<float> y, const qlr::executor& run) const {
    block->forward(shape, x, y, run);
  }
  void backward(weight_view /*x*/, weight_view grad_y, qlr::matrix_view<float> grad_x,
                const qlr::executor& run) const {
    block->backward(grad_y, grad_x, run);
  }
  [[nodiscard]] std::vector<qlr::train::parameter_view<float>> parameters(const std::string& prefix) const {
    return block->parameters(prefix);
  }
  [[nodiscard]] index_t stored_bytes() const { return block->stored_bytes(); }
};

static_assert(qlr::train::trainable_layer<block_layer>);

struct fixture {
  model_weights weights;
  batch_shape shape{8, 32};
  qlr::matrix<float> x;      ///< what the second block reads
  qlr::matrix<float> target; ///< what it adds to it
  std::vector<qlr::metric> metrics;
};

qlr::any_quantizer quantizer(const char* name, bool searches) {
  return qlr::make_quantizer(name, {.group_size = 64, .scales = {}, .scale_search = searches});
}

qlr::train::any_layer<float> dense(weight_view weight) {
  return qlr::train::dense_layer<float>(weight);
}

fixture make_fixture() {
  fixture result;
  result.weights =
      copy_weights(checkpoint(std::string(QLR_TEST_DATA_DIR) + "/weights/stories260K.safetensors"));
  transformer<float> exact(result.weights, [](index_t, linear_layer, weight_view w) { return dense(w); });
  std::vector<token_t> tokens;
  for (index_t i = 0; i < result.shape.tokens(); ++i)
    tokens.push_back(static_cast<token_t>(3 + qlr::philox(1, static_cast<std::uint64_t>(i))[0] % 500));
  result.x = qlr::matrix<float>(result.shape.tokens(), exact.config().dim);
  result.target = qlr::matrix<float>(result.x.rows(), result.x.cols());
  exact.embed(tokens, result.x.view());
  exact.block(0).forward(result.shape, result.x.view(), result.x.view());
  exact.block(1).forward(result.shape, result.x.view(), result.target.view());
  for (int which = 0; which < num_linear_layers; ++which) {
    const weight_view in = exact.block(1).layer_input(static_cast<linear_layer>(which));
    qlr::matrix<double> h(in.cols(), in.cols());
    const auto inputs = as_eigen(in).cast<double>().eval();
    as_eigen(h.view()) = inputs.transpose() * inputs / static_cast<double>(in.rows());
    result.metrics.push_back(qlr::make_covariance_metric(std::move(h), {}));
  }
  return result;
}

/// ||Y_hat - Y|| / ||Y - X||: of what the block adds to its input.
double error_of(transformer_block<float>& block, const fixture& at) {
  qlr::matrix<float> y(at.x.rows(), at.x.cols());
  block.forward(at.shape, at.x.view(), y.view());
  double error = 0;
  double norm = 0;
  for (index_t i = 0; i < y.size(); ++i) {
    error += std::pow(static_cast<double>(y.data()[i] - at.target.data()[i]), 2);
    norm += std::pow(static_cast<double>(at.target.data()[i] - at.x.data()[i]), 2);
  }
  return std::sqrt(error / norm);
}

transformer_block<float> make_block(const fixture& at, const layer_factory<float>& make_layer) {
  return {at.weights.config, at.weights.blocks[1], 1, make_layer};
}

double gptq_error(const fixture& at, const char* name) {
  qlr::decompose_options options;
  options.rank = 0;
  options.steps = qlr::find_preset("gptq").steps;
  auto block = make_block(at, [&](index_t, linear_layer which, weight_view w) {
    const auto found =
        qlr::decompose(w, quantizer(name, false), options, at.metrics[static_cast<std::size_t>(which)], {});
    const qlr::matrix<float> q = qlr::dequantize(found.best.quantized);
    return dense(q.view());
  });
  return error_of(block, at);
}

/// Before and after.
template <class Make>
std::pair<double, double> learn(const fixture& at, const Make& make) {
  auto block = make_block(at, [&](index_t, linear_layer, weight_view w) { return make(w); });
  const double before = error_of(block, at);
  const block_layer layer{&block, at.shape, at.x.cols()};
  qlr::train::reconstruct_options options;
  options.rate = {.highest = 1e-2, .num_steps = 80, .decay = qlr::train::rate_decay::cosine};
  block_layer copy = layer;
  qlr::train::reconstruct_output(copy, at.x.view(), at.target.view(), options);
  return {before, error_of(block, at)};
}

} // namespace

TEST_CASE("block reconstruction: learned rounding of a whole block beats nearest rounding and GPTQ",
          "[finetune]") {
  if (!std::filesystem::exists(std::string(QLR_TEST_DATA_DIR) + "/weights/stories260K.safetensors")) {
    std::cout << "SKIPPED: weights of the language model not found\n";
    return;
  }
  const fixture at = make_fixture();
  for (const char* const format : {"uint3", "uint4"}) {
    const double gptq = gptq_error(at, format);
    const auto lrq = learn(at, [&, name = format](weight_view w) {
      return qlr::train::lrq_layer<float>(w, quantizer(name, true).quantize(w, {}, {}), {.rank = 16});
    });
    const auto lr_qat = learn(at, [&, name = format](weight_view w) {
      return qlr::train::lr_qat_layer<float>(w, quantizer(name, true).quantize(w, {}, {}),
                                             {.rank = 16, .alpha = 16});
    });
    CAPTURE(format, gptq, lrq.first, lrq.second, lr_qat.first, lr_qat.second);
    std::cout << format << ": gptq " << gptq << ", lrq " << lrq.first << " to " << lrq.second << ", lr-qat "
              << lr_qat.first << " to " << lr_qat.second << '\n';
    CHECK(lrq.second < 0.9 * lrq.first);
    CHECK(lrq.second < gptq);
    CHECK(lr_qat.second < 0.9 * lr_qat.first);
    CHECK(lr_qat.second < gptq);
  }
}
