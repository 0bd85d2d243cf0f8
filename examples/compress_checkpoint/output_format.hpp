// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/compression_choice.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/io/safetensors.hpp>

#include <map>
#include <string>
#include <vector>

struct layer_task;

/// Which file of the output a part belongs to.
enum class part_kind {
  base,   ///< the shard that the tensor came from
  adapter ///< the file of all low-rank parts
};

/// What one compressed tensor contributes to one file of the output.
struct part {
  part_kind kind = part_kind::base;
  std::vector<qlr::io::owned_tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Refuses a choice that the output format cannot hold for any tensor.
///
/// @throws qlr::error invalid_argument: names the option and what the format takes
void check_store(const std::string& store, const std::string& method, const qlr::compression_choice& choice);

/// Why the output format cannot hold this tensor as chosen; empty when it can.
[[nodiscard]] std::string objection(const std::string& store, const layer_task& task);

/// A decomposition in the tensors of an output format of safetensors files.
[[nodiscard]] std::vector<part> make_parts(const std::string& store, const layer_task& task,
                                           const qlr::decomposition& parts);

/// "model.layers.0.mlp.up_proj" of "model.layers.0.mlp.up_proj.weight".
[[nodiscard]] std::string module_of(const std::string& tensor);
