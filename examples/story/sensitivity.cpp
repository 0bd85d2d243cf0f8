// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <story/evaluate.hpp>
#include <story/sensitivity.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

std::string sensitivity_json(const checkpoint& weights, model& compressed, const compression& layers,
                             qlr::precision mode, const qlr::executor& run) {
  const model exact = make_dense_model(weights);
  model probe = make_dense_model(weights);
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (std::size_t i = 0; i < probe.layers.size(); ++i) {
    const std::string name = linear_name(static_cast<qlr::index_t>(i) / num_linear_layers,
                                         static_cast<int>(i) % num_linear_layers);
    qlr::require(layers.squared_errors[i] > 0, qlr::status_code::invalid_argument, name,
                 " is stored without an error, --sensitivity needs a coarser format");
    std::swap(probe.layers[i], compressed.layers[i]);
    const double divergence = evaluate(exact, probe, mode, run, tuning_texts).kl_divergence;
    std::swap(probe.layers[i], compressed.layers[i]);
    constexpr double least = 1e-12; // below it is the rounding of the sums
    out[name] = std::max(divergence, least) / layers.squared_errors[i];
  }
  return out.dump(2) + "\n";
}
