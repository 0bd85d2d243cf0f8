// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <allocate_bits/arguments.hpp>
#include <allocate_bits/costs.hpp>

#include <qlr/allocate/choice.hpp>

#include <optional>
#include <string>
#include <vector>

/// What all tensors together come to under some choice of formats.
struct totals {
  double cost = 0; ///< weighted as asked for
  double squared_error =
      0; ///< unweighted: the sum of squared errors, in the Fisher metric where there is one
  qlr::index_t bytes = 0;
};

/// The best choice that is the same for all tensors.
struct uniform_choice {
  qlr::compression_choice choice;
  totals sums;
};

/// Everything that is told about a finished run.
struct report {
  const arguments& args;
  const std::vector<tensor_costs>& tensors;
  qlr::allocation plan{};
  totals sums{};
  std::optional<uniform_choice> uniform{}; ///< nothing when no single choice suits all tensors and the budget
  qlr::index_t num_weights = 0;
  qlr::index_t budget_bytes = 0;
  double energy = 0; ///< squared norm of all tensors
  int threads = 1;
  double seconds_costs = 0;
  double seconds_search = 0;

  [[nodiscard]] const qlr::cost_entry& chosen(std::size_t tensor) const {
    return tensors[tensor].table.entries[static_cast<std::size_t>(plan.chosen[tensor])];
  }
};

/// The cheapest single choice within a budget in bytes.
[[nodiscard]] std::optional<uniform_choice> find_uniform(const std::vector<tensor_costs>& tensors,
                                                         qlr::index_t budget);

void print_summary(const report& run);

/// The plan: what read_plan reads, with the predicted errors.
[[nodiscard]] std::string plan_json(const report& run);

/// The plan and how it came about.
[[nodiscard]] std::string report_json(const report& run);
