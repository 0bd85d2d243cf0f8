// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <story/compress.hpp>
#include <story/model.hpp>

#include <string>

/// How much an error of each linear layer matters: a JSON object from its name to the KL divergence, in nats
/// per token, of the model in which it alone is compressed, divided by the squared error of that layer.
///
/// For small errors the divergence grows with the squared error, so a sum of squared errors with these
/// weights predicts it. The texts are not those of evaluate()'s reports.
/// @param compressed  the compressed model; as before when this returns
/// @param layers      its errors
/// @throws qlr::error invalid_argument: a layer without any error
[[nodiscard]] std::string sensitivity_json(const checkpoint& weights, model& compressed,
                                           const compression& layers, qlr::precision mode,
                                           const qlr::executor& run);
