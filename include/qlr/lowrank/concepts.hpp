// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/backend.hpp>

#include <concepts>

namespace qlr {

/// A low-rank solver returns the leading singular triplets of a matrix (m,n).
///
/// `solve(backend, x, rank)` with 0 <= rank <= min(m,n). A solver may keep what helps the next call; calls on
/// slowly changing matrices are what the decomposer makes.
template <class Solver, class Backend>
concept low_rank_solver_policy = backend_policy<Backend> &&
    requires(Solver& solver, const Backend& backend, const typename Backend::matrix_type& x, index_t rank) {
  { solver.solve(backend, x, rank) } -> std::same_as<singular_triplets<typename Backend::matrix_type>>;
};

} // namespace qlr
