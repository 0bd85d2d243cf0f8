// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/lowrank/concepts.hpp>

namespace qlr {

/// The best rank-r approximation by a full singular value decomposition (Eckart-Young).
///
/// @complexity O(m n min(m,n))
struct truncated_svd {
  template <backend_policy Backend>
  [[nodiscard]] singular_triplets<typename Backend::matrix_type> solve(const Backend& backend,
                                                                       const typename Backend::matrix_type& x,
                                                                       index_t rank) const {
    return backend.svd(x, rank);
  }
};

} // namespace qlr
