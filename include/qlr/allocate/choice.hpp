// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <span>
#include <vector>

namespace qlr {

/// One way to store a matrix: what it costs in error and in memory.
struct allocation_choice {
  double cost = 0;  ///< any finite number; costs of different matrices are added
  index_t size = 0; ///< bits, bytes or any other unit, >= 0; the same unit for all matrices and the budget
};

/// The choices of one matrix, in the caller's memory.
using allocation_choices = std::span<const allocation_choice>;

/// When the search ends; every search ends, and the same options give the same result.
struct allocate_options {
  /// Stop when (cost - lower bound) <= gap_rel * |cost|; 0 searches for the optimum.
  double gap_rel = 0;
  /// Partial solutions that are looked at in all; 2^28 take a few seconds.
  index_t max_nodes = index_t{1} << 28;
  /// Partial solutions that are kept at a time; beyond it the most promising survive and the optimum may be
  /// lost.
  index_t max_states = index_t{1} << 18;
};

/// One choice for each matrix, and how good it is.
struct allocation {
  std::vector<index_t> chosen; ///< index of the choice of each matrix
  double cost = 0;             ///< sum over the chosen ones
  index_t size = 0;            ///< likewise, at most the budget
  double linear_bound = 0;     ///< optimum of the linear relaxation: no solution costs less
  double lower_bound = 0;      ///< what the search proved: no solution costs less; at least linear_bound
  double gap_rel = 0;          ///< (cost - lower_bound) / |cost|; 0 when cost is 0
  bool is_proven = false;      ///< nothing costs less, up to the rounding of sums in double precision
  index_t num_nodes = 0;       ///< partial solutions that were looked at
};

} // namespace qlr
