// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <allocate_bits/arguments.hpp>

#include <qlr/core/parallel.hpp>
#include <qlr/host/cost_table.hpp>

#include <string>
#include <vector>

/// What the choices of one tensor cost.
struct tensor_costs {
  std::string name;
  double weight = 1;     ///< what its costs are multiplied with
  qlr::cost_table table; ///< of the choices that suit its shape
};

/// Measures the choices of every tensor that the arguments name, one tensor in memory at a time.
///
/// @throws qlr::error invalid_argument: a name without a tensor, no tensor at all, one that no choice suits
/// @throws qlr::error as safetensors_file and make_cost_table; the message names the tensor
[[nodiscard]] std::vector<tensor_costs> measure_costs(const arguments& args, const qlr::executor& run);

/// Does nothing but the checks of measure_costs that need no work.
void check_tensors(const arguments& args);
