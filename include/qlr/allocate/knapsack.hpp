// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/allocate/choice.hpp>
#include <qlr/allocate/detail/core_search.hpp>
#include <qlr/allocate/detail/reduction.hpp>
#include <qlr/core/status.hpp>

#include <cmath>
#include <span>
#include <utility>
#include <vector>

namespace qlr {

/// Picks one choice for each matrix so that the sum of costs is least and the sum of sizes within a budget.
///
/// The multiple-choice knapsack problem of LQ-LoRA's integer program: choices that others beat are dropped,
/// the linear relaxation is solved on the convex hulls and gives a bound and the excess of every choice over
/// it, choices whose excess alone is too large are fixed out, and what is left is searched by branch and
/// bound over a growing core of matrices. Matrices may have different numbers of choices.
/// @param matrices  choices of each matrix
/// @param budget    in the unit of the sizes
/// @returns the optimum and its proof, or, when a limit of the options ended the search, the best solution
///          found, which is a result and not an error: `is_proven` is false and `lower_bound` holds
/// @throws qlr::error invalid_argument: the budget is below the smallest possible size (which is named), a
/// matrix has no choices, a size is negative, the sizes add up to more than 2^61, or an option is out of
/// range
/// @throws qlr::error non_finite: a cost is NaN or infinite
/// @memory 40 bytes for each choice that no other beats, 24 to 48 for each state
/// @complexity O(c log c) for c choices in all, and the search: usually small, at worst max_nodes
/// @determinism the same options give the same choices
/// @see Guo et al., LQ-LoRA, arXiv 2311.12023, section 3.2; Sinha and Zoltners, The multiple-choice knapsack
/// problem, Operations Research 27 (1979); Pisinger, EJOR 83 (1995)
[[nodiscard]] inline allocation allocate(std::span<const allocation_choices> matrices, index_t budget,
                                         const allocate_options& options = {}) {
  require(options.gap_rel >= 0 && is_finite(options.gap_rel), status_code::invalid_argument, "gap_rel is ",
          options.gap_rel, ", allowed are 0 and finite numbers above");
  require(options.max_nodes >= 0, status_code::invalid_argument, "max_nodes is ", options.max_nodes,
          ", allowed are 0 and above");
  require(options.max_states >= 1 && options.max_states <= index_t{1} << 28, status_code::invalid_argument,
          "max_states is ", options.max_states, ", allowed are 1 to 2^28");
  detail::frontiers f = detail::find_frontiers(matrices);
  const detail::relaxation linear = detail::relax(f, budget);
  detail::set_excesses(f, linear);
  const detail::core_search_result found = detail::core_search(f, linear, options).run();

  allocation result;
  detail::exact_sum cost;
  for (const std::size_t c : found.chosen) {
    result.chosen.push_back(f.choices[c].index);
    cost.add(f.choices[c].cost);
    result.size += f.choices[c].size;
  }
  result.cost = cost.value();
  result.is_proven = found.is_proven;
  result.num_nodes = found.num_nodes;
  // A sum of rounded excesses may end a hair above the cost itself.
  result.linear_bound = std::min(linear.bound, result.cost);
  result.lower_bound =
      found.is_proven ? result.cost : std::min(linear.bound + found.proven_excess, result.cost);
  if (result.cost != 0) result.gap_rel = (result.cost - result.lower_bound) / std::fabs(result.cost);
  return result;
}

/// @copydoc allocate
[[nodiscard]] inline allocation allocate(std::span<const std::vector<allocation_choice>> matrices,
                                         index_t budget, const allocate_options& options = {}) {
  const std::vector<allocation_choices> spans(matrices.begin(), matrices.end());
  return allocate(std::span<const allocation_choices>(spans), budget, options);
}

} // namespace qlr
