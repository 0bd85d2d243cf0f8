// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <story/compress.hpp>

#include <common/decompose_weight.hpp>
#include <common/plan.hpp>
#include <common/progress.hpp>

#include <qlr/core/error_metrics.hpp>
#include <qlr/decompose/reconstruct.hpp>
#include <qlr/io/mapped_decomposition.hpp>
#include <qlr/matmul/prepack.hpp>

#include <chrono>
#include <cmath>
#include <optional>
#include <set>

namespace {

using qlr::index_t;

double squared_norm(qlr::matrix_view<const float> values) {
  double sum = 0;
  for (index_t i = 0; i < values.rows(); ++i) {
    for (index_t j = 0; j < values.cols(); ++j) sum += std::pow(static_cast<double>(values(i, j)), 2);
  }
  return sum;
}

/// What the command line says about every layer, or the plan about one.
qlr::decomposition decompose_layer(qlr::matrix_view<const float> weight, const std::string& name,
                                   const arguments& args, const std::optional<plan>& layers,
                                   const qlr::executor& run) {
  qlr::compression_choice choice{args.quantizer, args.format, args.rank,
                                 qlr::factor_storage_of_bits(args.factor_bits)};
  if (layers) {
    choice = layers->find(name, weight.rows(), weight.cols());
    choice.format.scale_search = args.format.scale_search;
  }
  qlr::decompose_options options = make_options(args);
  options.rank = choice.rank;
  options.factors = choice.factors;
  try {
    return decompose_weight(weight, make_quantizer(choice), options, {}, run).best;
  } catch (const qlr::error& failure) {
    qlr::fail(failure.code(), name, ": ", failure.what());
  }
}

/// Reads the plan and checks that it names the linear layers and nothing else.
plan read_plan_of(const checkpoint& weights, const std::string& path) {
  plan layers = read_plan(path);
  std::set<std::string> names;
  for (std::size_t block = 0; block < weights.blocks().size(); ++block) {
    for (int layer = 0; layer < num_linear_layers; ++layer) {
      const auto weight = weights.blocks()[block].linear[static_cast<std::size_t>(layer)].view();
      const std::string name = linear_name(static_cast<index_t>(block), layer);
      (void)layers.find(name, weight.rows(), weight.cols());
      names.insert(name);
    }
  }
  for (const auto& [name, tensor] : layers.tensors) {
    qlr::require(names.contains(name), qlr::status_code::invalid_argument, "plan '", path, "' has '", name,
                 "', which is no linear layer of a block; leave it out with allocate_bits --exclude");
  }
  return layers;
}

} // namespace

model make_compressed_model(const checkpoint& weights, const arguments& args, const qlr::executor& run,
                            compression& summary) {
  const auto start = std::chrono::steady_clock::now();
  std::optional<plan> layers;
  if (!args.plan.empty()) layers = read_plan_of(weights, args.plan);
  progress shown(!args.quiet, "block");
  double error = 0;
  double norm = 0;
  model result{weights, {}};
  for (std::size_t block = 0; block < weights.blocks().size(); ++block) {
    shown.set_step(static_cast<int>(block));
    for (int layer = 0; layer < num_linear_layers; ++layer) {
      const auto weight = weights.blocks()[block].linear[static_cast<std::size_t>(layer)].view();
      const std::string name = linear_name(static_cast<index_t>(block), layer);
      const qlr::decomposition parts = decompose_layer(weight, name, args, layers, run);
      const qlr::matrix<float> sum = qlr::reconstruct(parts, run);
      const double layer_norm = squared_norm(weight);
      summary.squared_errors.push_back(std::pow(qlr::compare(weight, sum.view()).relative_error, 2) *
                                       layer_norm);
      error += summary.squared_errors.back();
      norm += layer_norm;
      summary.num_weights += weight.size();
      summary.packed_bytes += parts.storage_bytes();
      if (result.layers.empty()) {
        summary.group_size = parts.quantized.layout().group_size;
        summary.scales = to_string(parts.quantized.layout().scales);
      }
      result.layers.emplace_back(qlr::prepack(parts, args.instruction_set));
    }
  }
  summary.relative_error = norm > 0 ? std::sqrt(error / norm) : 0.0;
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

model load_compressed_model(const checkpoint& weights, const arguments& args, compression& summary) {
  const auto start = std::chrono::steady_clock::now();
  model result = make_dense_model(weights);
  for (std::size_t i = 0; i < result.layers.size(); ++i) {
    const int layer = static_cast<int>(i) % num_linear_layers;
    const std::string name = linear_name(static_cast<index_t>(i) / num_linear_layers, layer);
    const auto [rows, cols] = linear_shape(weights.config(), layer);
    summary.num_weights += rows * cols;
    if (!weights.files().is_compressed(name)) {
      summary.packed_bytes += static_cast<index_t>(sizeof(float)) * rows * cols;
      continue;
    }
    const qlr::io::mapped_decomposition parts = weights.files().map_decomposition(name);
    const bool fits = parts.quantized().rows() == rows && parts.quantized().cols() == cols;
    qlr::require(fits, qlr::status_code::malformed_file, "weight ", name, " is ", parts.quantized().rows(),
                 " x ", parts.quantized().cols(), ", the config needs ", rows, " x ", cols);
    summary.packed_bytes += parts.description().storage_bytes();
    result.layers[i] = qlr::prepack(parts, args.instruction_set);
    weights.files().release(name); // the packed copy is enough
  }
  summary.was_compressed = true;
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

compression describe_dense(const checkpoint& weights) {
  compression summary;
  for (const checkpoint_block& block : weights.blocks()) {
    for (const tensor& weight : block.linear) summary.num_weights += weight.view().size();
  }
  summary.packed_bytes = static_cast<index_t>(sizeof(float)) * summary.num_weights;
  return summary;
}
