// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/methods.hpp>

#include <common/decompose_weight.hpp>
#include <finetune_story/transformer.hpp>

#include <qlr/quant/formats.hpp>
#include <qlr/train/dense_layer.hpp>
#include <qlr/train/loqt_layer.hpp>
#include <qlr/train/low_rank_layer.hpp>
#include <qlr/train/lr_qat_layer.hpp>
#include <qlr/train/lrq_layer.hpp>

#include <algorithm>
#include <utility>

namespace {

using qlr::index_t;

using layer = qlr::train::any_layer<float>;
using weight_view = qlr::matrix_view<const float>;

/// Makes one layer; Storage is what its parameters are stored in.
template <qlr::train::storage_scalar Storage>
class layer_maker {
public:
  layer_maker(const run_key& key, const layer_options& options, const layer_covariances& covariances)
      : key_(key), options_(options), covariances_(covariances) {}

  layer operator()(index_t block, linear_layer which, weight_view weight) const {
    const index_t index = block * num_linear_layers + which;
    const index_t rank = std::min({options_.rank, weight.rows(), weight.cols()});
    const std::uint64_t seed = key_.seed * 1000003U + static_cast<std::uint64_t>(index);
    using namespace qlr::train;
    switch (key_.method->kind) {
    case method_kind::dense:
      return dense_layer<Storage>(weight);
    case method_kind::low_rank:
      return make_low_rank(static_cast<std::size_t>(index), weight, rank, seed);
    case method_kind::loqt:
      return loqt_layer<Storage>(weight, quantizer(), {.rank = rank, .seed = seed});
    case method_kind::lr_qat:
      return lr_qat_layer<Storage>(weight, searched(weight),
                                   {.rank = rank, .alpha = static_cast<double>(rank), .seed = seed});
    case method_kind::lrq:
      return lrq_layer<Storage>(weight, searched(weight), {.rank = rank, .seed = seed});
    }
    return {};
  }

private:
  [[nodiscard]] qlr::any_quantizer quantizer(bool searches = false) const {
    qlr::format_options format;
    format.group_size = options_.group_size;
    format.scale_search = searches;
    return qlr::make_quantizer(format_name(key_), format);
  }

  /// W rounded with the scales of least squared error.
  [[nodiscard]] qlr::quantized_matrix searched(weight_view weight) const {
    return quantizer(true).quantize(weight, {}, {});
  }

  [[nodiscard]] layer make_low_rank(std::size_t index, weight_view weight, index_t rank,
                                    std::uint64_t seed) const {
    using qlr::train::low_rank_layer;
    const qlr::preset& method = qlr::find_preset(key_.method->start);
    if (!method.steps.has_low_rank) {
      return low_rank_layer<Storage>(quantizer().quantize(weight, {}, {}),
                                     {.rank = rank, .scale = 1.0F, .seed = seed});
    }
    qlr::calibration_data inputs;
    inputs.covariance = covariances_[index];
    const named_metric metric = make_named_metric(method, inputs, {}, weight.rows(), weight.cols(), {});
    qlr::decompose_options how;
    how.rank = rank;
    how.steps = method.steps;
    how.factors = qlr::factor_storage::fp32;
    how.sketch.seed = seed;
    return low_rank_layer<Storage>(decompose_weight(weight, quantizer(), how, metric.metric, {}).best);
  }

  run_key key_;
  layer_options options_;
  const layer_covariances& covariances_;
};

/// X^T X / t, of the tokens that were read last.
qlr::matrix<double> covariance_of(weight_view x) {
  qlr::matrix<double> result(x.cols(), x.cols());
  const auto inputs = as_eigen(x).template cast<double>().eval();
  as_eigen(result.view()) = inputs.transpose() * inputs / static_cast<double>(x.rows());
  return result;
}

} // namespace

const training_method& find_training_method(std::string_view name) {
  std::string names;
  for (const training_method& method : training_methods) {
    if (method.name == name) return method;
    names += qlr::sentence(names.empty() ? "" : ", ", method.name);
  }
  qlr::fail(qlr::status_code::invalid_argument, "method is '", name, "', allowed are ", names);
}

std::string run_key::file_stem() const {
  return qlr::sentence(method->name, '-', bits, '-', seed);
}

std::string run_key::description() const {
  if (bits == 0) return qlr::sentence(method->name, ", seed ", seed);
  return qlr::sentence(method->name, ", ", bits, " bits, seed ", seed);
}

std::string format_name(const run_key& key) {
  return qlr::sentence(key.method->quantizer, key.bits);
}

layer_covariances measure_covariances(const model_weights& weights, batch_shape shape,
                                      const std::vector<token_t>& tokens) {
  transformer<float> reader(
      weights, [](index_t, linear_layer, weight_view w) { return qlr::train::dense_layer<float>(w); });
  const std::vector<token_t> targets(tokens.begin(), tokens.end()); // of no interest here
  (void)reader.forward({shape, tokens, targets});
  layer_covariances result;
  for (index_t block = 0; block < reader.num_blocks(); ++block) {
    for (int which = 0; which < num_linear_layers; ++which)
      result.push_back(covariance_of(reader.block(block).layer_input(static_cast<linear_layer>(which))));
  }
  return result;
}

layer_factory<float> make_layer_factory(const run_key& key, const layer_options& options,
                                        const layer_covariances& covariances) {
  if (options.storage == parameter_storage::bf16)
    return layer_maker<qlr::bfloat16>(key, options, covariances);
  return layer_maker<float>(key, options, covariances);
}
