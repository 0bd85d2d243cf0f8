// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <story/compress.hpp>

#include <common/progress.hpp>

#include <qlr/core/error_metrics.hpp>
#include <qlr/host/decompose.hpp>
#include <qlr/matmul/prepack.hpp>

#include <chrono>
#include <cmath>

namespace {

using qlr::index_t;

double squared_norm(qlr::matrix_view<const float> values) {
  double sum = 0;
  for (index_t i = 0; i < values.rows(); ++i) {
    for (index_t j = 0; j < values.cols(); ++j) sum += std::pow(static_cast<double>(values(i, j)), 2);
  }
  return sum;
}

} // namespace

model make_compressed_model(const checkpoint& weights, const arguments& args, const qlr::executor& run,
                            compression& summary) {
  const auto start = std::chrono::steady_clock::now();
  const qlr::any_quantizer quantizer = qlr::make_quantizer(args.quantizer, args.format);
  const qlr::decompose_options options = make_options(args);
  progress shown(!args.quiet, "block");
  double error = 0;
  double norm = 0;
  model result{weights, {}};
  for (std::size_t block = 0; block < weights.blocks().size(); ++block) {
    shown.set_step(static_cast<int>(block));
    for (int layer = 0; layer < num_linear_layers; ++layer) {
      const auto weight = weights.blocks()[block].linear[static_cast<std::size_t>(layer)].view();
      const qlr::decomposition parts = [&] {
        try {
          return qlr::decompose(weight, quantizer, options, {}, run).best;
        } catch (const qlr::error& failure) {
          const std::string name = linear_name(static_cast<index_t>(block), layer);
          qlr::fail(failure.code(), name, ": ", failure.what());
        }
      }();
      const qlr::matrix<float> sum = qlr::reconstruct(parts, run);
      const double layer_norm = squared_norm(weight);
      error += std::pow(qlr::compare(weight, sum.view()).relative_error, 2) * layer_norm;
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

compression describe_dense(const checkpoint& weights) {
  compression summary;
  for (const checkpoint_block& block : weights.blocks()) {
    for (const tensor& weight : block.linear) summary.num_weights += weight.view().size();
  }
  summary.packed_bytes = static_cast<index_t>(sizeof(float)) * summary.num_weights;
  return summary;
}
