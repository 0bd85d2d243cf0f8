// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

namespace qlr::cuda::detail {

/// Small results of kernels on their way to the host; one copy fetches them all.
struct report {
  double numbers[2];  ///< sums
  int factor_info;    ///< of a Cholesky factor, 0 where the matrix is positive definite
  int solver_info;    ///< of cuSOLVER's other routines, 0 where they succeeded
  float overflow;     ///< an entry that did not fit the storage of a factor; 0 while all did
  double smallest;    ///< lower bound of a singular value
  int is_independent; ///< whether rows are far from dependent
  int is_basis;       ///< whether they became orthonormal
};

} // namespace qlr::cuda::detail
