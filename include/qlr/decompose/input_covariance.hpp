// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>

namespace qlr {

/// The covariance H = E[x x^T] of a layer's inputs with a root of it; host/covariance.hpp makes one.
///
/// tr(E H E^T) = || E B ||_F^2 is the mean squared error of the layer's outputs for an error E of its
/// weights.
struct input_covariance {
  matrix<double> values; ///< H (n,n), symmetric, no eigenvalue below the rounding of zero
  matrix<float> root;    ///< B (n,k) with B B^T = H but for eigenvalues below the cut-off
  index_t rank = 0;      ///< eigenvalues above the cut-off
  double largest = 0;    ///< eigenvalue
  double smallest = 0;   ///< eigenvalue that was kept
};

} // namespace qlr
