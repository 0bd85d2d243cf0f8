// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <story/arguments.hpp>
#include <story/model.hpp>

#include <string>
#include <vector>

/// What became of the linear layers of a model.
struct compression {
  qlr::index_t num_weights = 0;
  qlr::index_t packed_bytes = 0;      ///< codes, scales and factors as stored
  qlr::index_t group_size = 0;        ///< of the first layer; 0 for dense weights, as is
  std::string scales;                 ///< how its scales are stored
  double relative_error = 0;          ///< Frobenius norm, over all layers together
  std::vector<double> squared_errors; ///< of each layer
  double seconds = 0;
  bool was_compressed = false; ///< in the file

  [[nodiscard]] double bits_per_weight() const {
    return 8.0 * static_cast<double>(packed_bytes) / static_cast<double>(num_weights);
  }
};

/// Decomposes every linear layer of the blocks and packs it for the instruction set.
///
/// A plan must name exactly these layers.
/// @param[out] summary  of all layers
/// @throws qlr::error as read_plan, plan::find, and qlr::decompose with the name of the layer
[[nodiscard]] model make_compressed_model(const checkpoint& weights, const arguments& args,
                                          const qlr::executor& run, compression& summary);

/// Packs the linear layers that are compressed in the file; the others stay as they are, in fp32.
///
/// @param[out] summary  of all layers
/// @throws qlr::error malformed_file: a layer contradicts itself or the configuration
[[nodiscard]] model load_compressed_model(const checkpoint& weights, const arguments& args,
                                          compression& summary);

/// Size of the weights as they are, in fp32.
[[nodiscard]] compression describe_dense(const checkpoint& weights);
