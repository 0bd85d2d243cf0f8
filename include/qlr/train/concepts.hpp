// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/parallel.hpp>
#include <qlr/train/parameter.hpp>

#include <concepts>
#include <string>
#include <vector>

namespace qlr::train {

/// A linear layer that learns: Y (t,m) = X (t,n) W_hat^T, W_hat a function of its parameters.
///
/// Nothing of a call is kept, so one layer may be used for several batches before a step; the caller keeps X.
/// - forward(x, y, run): writes Y, which must not overlap X
/// - backward(x, grad_y, grad_x, run): adds to the gradients of the parameters, with rounding taken for the
///   identity (straight through); writes the gradient of X (t,n), unless that view is empty (no memory behind
///   it)
/// - parameters(prefix): views of what is trained, named prefix + name, always in the same order
/// - stored_bytes(): what the layer keeps between steps, gradients excluded
/// - visit_state(archive, prefix): all numbers that change, see state.hpp
/// Views have contiguous rows. Results have the same bits on any number of threads.
template <class Layer>
concept trainable_layer = requires(Layer layer, const Layer fixed, const std::string& prefix,
                                   const executor& run, matrix_view<const typename Layer::compute_type> x,
                                   matrix_view<typename Layer::compute_type> y) {
  requires std::floating_point<typename Layer::compute_type>;
  { fixed.rows() } -> std::same_as<index_t>;
  { fixed.cols() } -> std::same_as<index_t>;
  fixed.forward(x, y, run);
  layer.backward(x, x, y, run);
  { layer.parameters(prefix) } -> std::same_as<std::vector<parameter_view<typename Layer::compute_type>>>;
  { fixed.stored_bytes() } -> std::same_as<index_t>;
};

} // namespace qlr::train
