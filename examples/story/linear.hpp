// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/matmul/options.hpp>
#include <qlr/matmul/workspace.hpp>

#include <utility>
#include <variant>

/// The weight of a linear layer: dense, in the checkpoint's memory, or compressed.
using linear = std::variant<qlr::matrix_view<const float>, qlr::packed_weights>;

/// Multiplies tokens with linear layers; holds the precision, the threads and the workspace of the products.
class multiplier {
public:
  /// @param run  must outlive this object
  multiplier(qlr::precision mode, const qlr::executor& run) : mode_(mode), run_(run) {}

  /// Takes the memory that products of a layer with so many tokens need, so that they allocate nothing.
  void reserve(const linear& weight, qlr::index_t tokens);

  /// Y (t,m) = X (t,n) W^T.
  ///
  /// @throws qlr::error shape_mismatch, invalid_argument: as qlr::matmul
  void operator()(const linear& weight, qlr::matrix_view<const float> x, qlr::matrix_view<float> y);

  /// The threads, or none for work that ends before they wake up; results do not depend on it.
  [[nodiscard]] qlr::executor threads_for(qlr::index_t multiplications) const;

private:
  qlr::precision mode_;
  qlr::executor run_;
  qlr::matmul_workspace workspace_;
};

/// sum_i a[i] b[i]
[[nodiscard]] float dot(const float* a, const float* b, qlr::index_t count);
